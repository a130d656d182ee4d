"""Train the miniature: ``python -m tools.miniature STAGE --work DIR``.

Stages, in order: ``render``, ``clip``, ``autoencoder``, ``generator``, ``export`` (writes the
packaged weights), ``classifier`` (for the next stage) and ``check`` (figures of the
packaged models). Training resumes from its last checkpoint in ``--work``.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "stage",
        choices=("render", "clip", "autoencoder", "generator", "export", "classifier", "check"),
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of data and checkpoints")
    parser.add_argument("--minutes", type=float, default=30, help="training time")
    parser.add_argument("--scenes", type=int, default=48000, help="random scenes to render")
    parser.add_argument(
        "--captions", type=Path, help="captions file whose classes are rendered too"
    )
    parser.add_argument("--captioned", type=int, default=16000, help="scenes of such captions")
    parser.add_argument("--clip", default="miniature", help="the CLIP to check")
    parser.add_argument("--generator", default="miniature", help="the generator to check")
    parser.add_argument("--start", type=Path, help="folder of a generator's pipeline to start from")
    parser.add_argument("--steps", type=int, help="denoising steps of the check")
    parser.add_argument("--threads", type=int, default=0, help="processor threads, 0: all")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    work: Path = arguments.work
    from tools.miniature import data as scene_data

    if arguments.stage == "render":
        rows = scene_data.named_captions(arguments.captions) if arguments.captions else []
        plans = scene_data.caption_plans(rows, arguments.captioned if rows else 0, seed=0)
        for split in ("known", "plain"):
            scene_data.render(work / split / "scenes", arguments.scenes, split=split)
            if plans:
                scene_data.render(work / split / "captioned", 0, seed=1, split=split, plans=plans)
        return
    known, plain = (scene_data.rendered(work, split) for split in ("known", "plain"))
    if arguments.stage == "autoencoder":
        from tools.miniature import autoencoder

        from t2ipal.clip.backbone import Backbone

        eye = Backbone.load(str(work / "clip" / "clip"))
        autoencoder.train(
            plain[0],
            work / "autoencoder",
            autoencoder.Perception(eye.model.visual, eye.image_size),
            minutes=arguments.minutes,
        )
        return
    if arguments.stage == "export":
        from tools.miniature.install import install

        install("clip", work / "clip" / "clip")
        install("generator", work / "generator" / "pipeline")
        return
    from tools.miniature import tokens

    tokenizer = tokens.load_or_train(work / "tokenizer.json", known, arguments.captions)
    if arguments.stage == "generator":
        from tools.miniature import generator

        generator.train(plain, tokenizer, work, minutes=arguments.minutes, start=arguments.start)
        return
    if arguments.stage == "clip":
        from tools.miniature import clip

        clip.train(known, tokenizer, work / "clip", minutes=arguments.minutes)
        return
    from tools.miniature import check

    if arguments.stage == "classifier":
        check.train_classifier(plain[0], work / "classifier", arguments.minutes)
        return
    figures = {
        **check.check_clip(arguments.clip, work),
        **check.check_generator(
            check.load_classifier(work / "classifier"),
            arguments.generator,
            work,
            steps=arguments.steps,
        ),
    }
    for name, value in figures.items():
        print(f"{name:32s} {value:.3f}")


if __name__ == "__main__":
    main()
