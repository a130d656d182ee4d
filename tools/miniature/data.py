"""Pre-rendered scenes in memory-mapped arrays, so that training never waits for rendering."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from t2ipal.files import atomic_path, write_jsonl
from t2ipal.miniature.scenes import COARSE, SIZE, Plan, plan_scene, random_scene, scene_rng, side_of
from t2ipal.miniature.world import INDEX, PLACES, THINGS
from t2ipal.vocabulary import Vocabulary


@dataclass(frozen=True)
class Rendered:
    """Scenes of one folder.

    Attributes:
        images: [N, 64, 64, 3] uint8; of ``plain`` scenes [N, 96, 96, 3].
        seen: [N, 16, 16] uint8 or [N, 24, 24], index of the class on top, 255 for background.
        captions: N texts.
        names: for each scene its class names, repeats included.
    """

    images: np.ndarray
    seen: np.ndarray
    captions: list[str]
    names: list[list[str]]

    def targets(self) -> np.ndarray:
        """[N, classes of the world] bool: which classes can be seen."""
        flat = self.seen.reshape(len(self.seen), -1)
        return np.stack([(flat == c).any(1) for c in range(len(THINGS))], 1)

    def named(self) -> np.ndarray:
        """[N, classes of the world] bool: which classes each scene was rendered to show."""
        marks = np.zeros((len(self.names), len(THINGS)), dtype=bool)
        for row, names in zip(marks, self.names, strict=True):
            row[[INDEX[name] for name in names]] = True
        return marks


def coverage(seen: Tensor, count: int) -> Tensor:
    """[B, S, S] class indices -> [B, P, C + 1] share of each of P cells that each class covers.

    The last column is the background.
    """
    side = round(count**0.5)
    one_hot = F.one_hot(seen.long().clamp(max=len(THINGS)), len(THINGS) + 1)
    maps = F.adaptive_avg_pool2d(one_hot.permute(0, 3, 1, 2).float(), side)
    return maps.flatten(2).transpose(1, 2)


def rendered(work: Path, split: str) -> list[Rendered]:
    """The sets of a split rendered under ``work``: random ones first, then captioned ones."""
    found = [work / split / name for name in ("scenes", "captioned")]
    return [render(folder, 0) for folder in found if (folder / "scenes.jsonl").exists()]


def place_of(text: str, rng: random.Random) -> str:
    """The place whose words the text uses, or any place."""
    lowered = text.lower()
    for place, phrases in PLACES.items():
        if any(phrase.split()[-1] in lowered.split() for phrase in phrases):
            return place
    return rng.choice(tuple(PLACES))


def named_captions(path: Path) -> list[tuple[str, list[str]]]:
    """Captions of a file and the world's classes they name, found as for MS-COCO's classes."""
    from t2ipal.captions.labelled import label_captions
    from t2ipal.captions.sources import read_captions

    vocabulary = Vocabulary.load("coco2014")
    things = {word: thing.name for thing in THINGS for word in (thing.name, *thing.words)}
    rows = label_captions(read_captions(path), vocabulary)
    return [(row.caption, [things[name] for name in row.labels if name in things]) for row in rows]


def caption_plans(rows: Sequence[tuple[str, Sequence[str]]], n: int, seed: int) -> list[Plan]:
    """Plans that illustrate given captions by the classes they name, and now and then one more."""
    plans: list[Plan] = []
    usable = [(text, [name for name in names if name in INDEX]) for text, names in rows]
    usable = [(text, names) for text, names in usable if names]
    for i in range(n):
        rng = scene_rng("captioned", seed, i)
        text, named = usable[rng.randrange(len(usable))]
        names = list(named[:4])
        if len(names) < 4 and rng.random() < 0.25:
            names.append(rng.choice(THINGS).name)
        plans.append(Plan(tuple(names), place_of(text, rng), text))
    return plans


def render(
    folder: Path,
    n: int,
    *,
    seed: int = 0,
    split: str = "known",
    plans: Sequence[Plan] = (),
) -> Rendered:
    """Draw ``n`` random scenes and one of each plan into ``folder``, or load what is there."""
    if not (folder / "scenes.jsonl").exists():
        total = n + len(plans)
        with (
            atomic_path(folder / "images.npy") as images_path,
            atomic_path(folder / "seen.npy") as seen_path,
        ):
            side = side_of(split)
            coarse = side * COARSE // SIZE
            images = np.lib.format.open_memmap(images_path, "w+", np.uint8, (total, side, side, 3))
            seen = np.lib.format.open_memmap(seen_path, "w+", np.uint8, (total, coarse, coarse))
            rows = []
            for i in range(total):
                rng = scene_rng(split, seed, i)
                plan = (
                    plans[i - n] if i >= n else plan_scene(rng, most=6 if split == "plain" else 4)
                )
                scene = random_scene(rng, split=split, plan=plan)
                images[i], seen[i] = np.asarray(scene.image), scene.seen
                rows.append({"caption": plan.caption, "names": list(plan.names)})
            images.flush()
            seen.flush()
        write_jsonl(folder / "scenes.jsonl", rows)
    with (folder / "scenes.jsonl").open(encoding="utf-8") as stream:
        loaded = [json.loads(line) for line in stream]
    return Rendered(
        np.load(folder / "images.npy", mmap_mode="r"),
        np.load(folder / "seen.npy", mmap_mode="r"),
        [row["caption"] for row in loaded],
        [row["names"] for row in loaded],
    )
