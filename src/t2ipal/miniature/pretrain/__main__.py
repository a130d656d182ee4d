"""Train the miniature: ``python -m t2ipal.miniature.pretrain STAGE --work DIR``.

Stages, in order: ``render``, ``autoencoder``, ``generator``, ``clip``, ``check``, ``export``. Each
resumes from its last checkpoint in ``--work``; ``export`` writes the packaged weights.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "stage", choices=("render", "autoencoder", "generator", "clip", "check", "export")
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of data and checkpoints")
    parser.add_argument("--minutes", type=float, default=30, help="training time")
    parser.add_argument("--scenes", type=int, default=48000, help="random scenes to render")
    parser.add_argument("--captions", type=Path, help="captions file whose classes are drawn too")
    parser.add_argument("--captioned", type=int, default=16000, help="scenes of such captions")
    parser.add_argument("--threads", type=int, default=0, help="processor threads, 0: all")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    work: Path = arguments.work
    from t2ipal.miniature.pretrain import data as scene_data

    if arguments.stage == "render":
        scene_data.render(work / "scenes", arguments.scenes)
        if arguments.captions:
            rows = scene_data.named_captions(arguments.captions)
            plans = scene_data.caption_plans(rows, arguments.captioned, seed=0)
            scene_data.render(work / "captioned", 0, seed=1, plans=plans)
        return
    if arguments.stage == "autoencoder":
        from t2ipal.miniature.pretrain import autoencoder

        data = scene_data.render(work / "scenes", arguments.scenes)
        autoencoder.train(data, work / "autoencoder", minutes=arguments.minutes)
        return
    data_sets = scene_data.rendered(work)
    from t2ipal.miniature.pretrain import tokens

    tokenizer = tokens.load_or_train(work / "tokenizer.json", data_sets, arguments.captions)
    if arguments.stage == "generator":
        from t2ipal.miniature.pretrain import generator

        generator.train(data_sets, tokenizer, work, minutes=arguments.minutes)
        return
    if arguments.stage == "clip":
        from t2ipal.miniature.pretrain import clip

        clip.train(data_sets, tokenizer, work / "clip", minutes=arguments.minutes)


if __name__ == "__main__":
    main()
