"""Processor time of reading photos and labelling captions, against plain code and earlier code.

    python -m tools.reading_speed --photos DIR --captions captions_val2017.json [--before SRC]

Photos are read N at a time, in turn from DIR, and captions labelled with the classes of MS-COCO.
The sides take turns, each in a process of its own:

* pillow: ``Image.open(path).convert("RGB")``, which neither turns a photo upright nor says what is
  wrong with a file; captions by ``json.load``, one lower-cased ``split`` each.
* t2ipal: ``load_image``; ``NounFilter.label``.
* before: the same of another checkout, whose folder ``src`` is SRC.

Printed are medians and ranges of processor time, and the ratio to the first side and to "before".
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from tools.rounds import spread

TASKS = ("photos", "captions")


def seconds(task: str, side: str, given: argparse.Namespace) -> float:
    """Processor time of one task by the code that this process imports."""
    if task == "photos":
        found = sorted(path for path in given.photos.rglob("*") if path.suffix == ".jpg")
        files = list(islice(cycle(found), given.images))
        read = _pillow() if side == "plain" else _load_image()
        read(files[0])  # Pillow imports its formats
        return _timed(lambda: [read(path) for path in files])
    rows = json.loads(given.captions.read_text(encoding="utf-8"))["annotations"]
    texts = [row["caption"] for row in rows]
    if side == "plain":
        return _timed(lambda: [set(text.lower().split()) for text in texts])
    from t2ipal.captions.nouns.noun_filter import NounFilter
    from t2ipal.vocabulary import Vocabulary

    def label() -> None:
        nouns = NounFilter(Vocabulary.load("coco2014"))
        for text in texts:
            nouns.label(text)

    return _timed(label)


def _timed(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def _pillow() -> Callable[[Path], Any]:
    from PIL import Image

    def read(path: Path) -> Any:
        with Image.open(path) as image:
            return image.convert("RGB")

    return read


def _load_image() -> Callable[[Path], Any]:
    try:
        from t2ipal.files.pictures import load_image
    except ImportError:  # where it was before
        from t2ipal.datasets.pictures import load_image  # type: ignore[import-not-found, no-redef]
    return load_image


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, required=True, help="folder of JPEG files")
    parser.add_argument("--captions", type=Path, required=True, help="COCO captions JSON")
    parser.add_argument("--before", type=Path, metavar="SRC", help="src of another checkout")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--alone", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        task, side = given.alone
        print(seconds(task, side, given))
        return
    root = Path(__file__).parents[1]
    sides = {"plain": root / "src", "t2ipal": root / "src"}
    if given.before:
        sides["before"] = given.before
    for task in TASKS:
        took: dict[str, list[float]] = {side: [] for side in sides}
        for _ in range(given.rounds):
            for side, source in sides.items():
                command = [sys.executable, __file__, *sys.argv[1:], "--alone", task, side]
                path = os.pathsep.join([str(source), str(root)])
                done = subprocess.run(
                    command,
                    check=True,
                    capture_output=True,
                    text=True,
                    env={**os.environ, "PYTHONPATH": path},
                )
                took[side].append(float(done.stdout.splitlines()[-1]))
        for side, values in took.items():
            ratios = {
                other: [a / b for a, b in zip(values, took[other], strict=True)]
                for other in took
                if other != side and side == "t2ipal"
            }
            against = "".join(f"; {spread(r, '.2f')} of {o}" for o, r in ratios.items())
            print(f"{task:9} {side:7} {spread(values, '.2f')} s{against}", flush=True)


if __name__ == "__main__":
    main()
