"""Train the packaged photo CLIP: ``python -m tools.photo_clip STAGE --work DIR --photos DIR``.

Stages, in order: ``features`` (feature maps of the photos), ``texts`` (words, labels, MiniLM's
embeddings), ``align`` (projection and sentence map; ``--all`` trains on the development photos
too), ``text`` (text tower) and ``export`` (the folder in the package). README.md has the recipe.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
from pathlib import Path
from typing import Any

import lemminflect
import torch
from open_clip.model import CLIP
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tools.photo_clip import (
    align,
    concepts,
    development,
    export,
    teacher,
    text_tower,
    tokens,
    trunk,
)
from torch.nn import functional as F

from t2ipal.clip.class_prompts import TEMPLATES
from t2ipal.clip.photo_clip import MODEL
from t2ipal.vocabulary import Vocabulary

VIEWS = ("whole", "large", "small")
WORD_TEMPLATES = ("{}", *TEMPLATES[:2], "there is a {} in the scene.", "a large {}.", TEMPLATES[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=("features", "texts", "align", "text", "export"))
    parser.add_argument("--work", type=Path, required=True, help="folder of caches and checkpoints")
    parser.add_argument("--photos", type=Path, required=True, help="captions.jsonl, captioned/ ...")
    parser.add_argument("--captions", type=Path, help="COCO captions file, for text alone")
    parser.add_argument("--all", action="store_true", help="keep no development photos")
    parser.add_argument("--steps", type=int, help="training steps of align or text")
    parser.add_argument("--out", type=Path, default=MODEL, help="folder that export writes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    work: Path = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    rows = _rows(arguments.photos)
    if arguments.stage == "features":
        files = [arguments.photos / "captioned" / row["file_name"] for row in rows]
        trunk.cached_maps(work / "maps", files, VIEWS)
    elif arguments.stage == "texts":
        _texts(work, rows, arguments.captions)
    elif arguments.stage == "align":
        steps = {"steps": arguments.steps} if arguments.steps else {}
        config = align.AlignConfig(seed=arguments.seed, **steps)
        materials = _materials(work, rows, arguments.photos, arguments.all)
        align.train(materials, config, work / "align.pt")
    elif arguments.stage == "text":
        _text(work, arguments.steps or 400, arguments.seed)
    else:
        _export(work, arguments.out)


def _rows(photos: Path) -> list[dict[str, Any]]:
    """The photos, with five captions each; the few that have more keep the first."""
    lines = (photos / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [{**row, "captions": row["captions"][:5]} for row in rows]


def _texts(work: Path, rows: list[dict[str, Any]], captions: Path) -> None:
    """Words with labels, the tokenizer, nouns, and all their sentence embeddings."""
    collected = concepts.collect([row["captions"] for row in rows])
    spoken = [row["caption"].strip() for row in json.loads(captions.read_text())["annotations"]]
    spoken += [text for row in rows if row["source"] == "flickr8k" for text in row["captions"]]
    folder = teacher.folder(work / "minilm")
    tokenizer, origin = tokens.cut(folder / "tokenizer.json", [*spoken, *collected.texts])
    tokenizer.save(str(work / "tokenizer.json"))
    known = set(collected.texts)
    nouns = [
        piece
        for piece in sorted(tokenizer.get_vocab())
        if re.fullmatch("[a-z]{3,}", piece)
        and piece not in known
        and {"NOUN", "PROPN"} & set(lemminflect.getAllLemmas(piece))
    ]
    minilm = teacher.Teacher(folder)
    words = [
        minilm.encode([form.format(text) for text in collected.texts]) for form in WORD_TEMPLATES
    ]
    five = minilm.encode([text for row in rows for text in row["captions"]])
    plain, posed = minilm.encode(nouns), minilm.encode([f"a photo of a {noun}." for noun in nouns])
    content = {
        "concepts": vars(collected),
        "origin": origin,
        "words": torch.stack(words, 1).half(),
        "captions": five.view(len(rows), 5, -1).half(),
        "nouns": nouns,
        "noun_embeddings": ((plain + posed) / 2).half(),
        "spoken": spoken,
        "spoken_embeddings": minilm.encode(spoken).half(),
    }
    torch.save(content, work / "texts.pt")


def _read_texts(work: Path) -> tuple[dict[str, Any], concepts.Concepts]:
    content = torch.load(work / "texts.pt", weights_only=False)  # written by the stage before
    return content, concepts.Concepts(**content["concepts"])


def _materials(
    work: Path, rows: list[dict[str, Any]], photos: Path, everything: bool
) -> align.Materials:
    content, collected = _read_texts(work)
    maps = {view: torch.load(work / "maps" / f"{view}.pt") for view in VIEWS}
    means = {view: torch.stack([m.float().mean(0) for m in maps[view]]) for view in VIEWS}
    kept = None
    if not everything:
        names = [row["file_name"] for row in rows]
        kept = development.read(names, photos / "instances_val2017.json")
    left_out = set() if kept is None else set(kept.photos.tolist())
    return align.Materials(
        maps, means, collected, content["words"].float(), content["captions"].float(),
        torch.tensor([i for i in range(len(rows)) if i not in left_out]).numpy(), kept,
    )  # fmt: skip


def _joint(work: Path, words: int) -> align.Joint:
    state = torch.load(work / "align.pt", weights_only=True)["model"]
    joint = align.Joint(state["mean"], state["deviation"], words, 1.0)
    joint.load_state_dict(state)
    return joint.eval().requires_grad_(False)


def _text(work: Path, steps: int, seed: int) -> None:
    content, collected = _read_texts(work)
    words = content["words"].float()
    joint = _joint(work, len(words))
    tokenizer = Tokenizer.from_file(str(work / "tokenizer.json"))
    classes = [
        name.lower()
        for vocabulary in concepts.VOCABULARIES
        for name in Vocabulary.load(vocabulary).readable
    ]
    texts = text_tower.Texts(
        collected.texts,
        joint.word_vectors(words),
        [collected.texts.index(name) for name in classes if name in collected.texts],
        content["nouns"],
        joint.texts(content["noun_embeddings"].float()),
        content["spoken"],
        joint.texts(content["spoken_embeddings"].float()),
    )
    torch.manual_seed(seed)
    model = CLIP(**export.model_config(tokenizer.get_vocab_size(), words.shape[-1]))
    pieces = load_file(teacher.folder(work / "minilm") / "model.safetensors")
    embeddings = pieces["embeddings.word_embeddings.weight"]
    text_tower.start(model, tokenizer, texts, embeddings, content["origin"])
    text_tower.train(model, tokenizer, texts, steps=steps, seed=seed)
    chosen = list(texts.often)
    ensemble = [
        text_tower.embed(model, tokenizer, [form.format(texts.words[i]) for i in chosen])
        for form in TEMPLATES
    ]
    heard = F.normalize(torch.stack(ensemble).mean(0), dim=-1)
    agreement = (heard * texts.word_targets[chosen]).sum(1).mean().item()
    logging.info("cosine of the classes' ensembles with their targets: %.3f", agreement)
    torch.save(model.state_dict(), work / "text.pt")


def _export(work: Path, folder: Path) -> None:
    content, collected = _read_texts(work)
    joint = _joint(work, len(collected.texts))
    tokenizer = Tokenizer.from_file(str(work / "tokenizer.json"))
    config = export.model_config(tokenizer.get_vocab_size(), content["words"].shape[-1])
    model = CLIP(**config)
    model.load_state_dict(torch.load(work / "text.pt", weights_only=True))
    weight, bias = export.unfold(
        joint.projection.weight, joint.projection.bias, joint.mean, joint.deviation
    )
    export.load_image_tower(model, weight, bias)
    with torch.no_grad():
        model.logit_scale.copy_(joint.scale)
    export.write(folder, model, config, tokenizer, collected.texts)


if __name__ == "__main__":
    main()
