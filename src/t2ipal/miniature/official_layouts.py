"""Small data sets of the miniature's world in the official layouts of the three benchmarks.

They have every file that ``t2ipal benchmark`` reads, named and written as in the authors' archives,
but rendered scenes instead of photos and other numbers of images. A class of the benchmark is
shown if a thing of the world has its name; the other classes are marked on scenes at random, so
that every class has images: their scores mean nothing, as a rehearsal is about the command.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from t2ipal.captions.labelled import label_captions
from t2ipal.files import atomic_path, write_jsonl, write_text
from t2ipal.miniature import scenes
from t2ipal.miniature.scene_captions import describe
from t2ipal.miniature.world import INDEX, PLACES, THINGS
from t2ipal.vocabulary import Vocabulary

TEST_IMAGES = 300
TRAIN_IMAGES_PER_THING = 20
"""Of which up to 16 are shots: a thing can be hidden behind others."""
MARKED = {"test": 10, "train": 20}
"""Images of each class that the world does not have."""
CAPTIONS = 400
DIFFICULT = 16
"""A thing of which fewer cells of the scene's 16 x 16 are seen is marked difficult in VOC's XML."""

COCO_IDS = tuple(i for i in range(1, 91) if i not in {12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
"""MS-COCO's category ids, in the order of its classes."""

_VOC_OBJECT = """\
	<object>
		<name>{name}</name>
		<pose>Unspecified</pose>
		<truncated>0</truncated>
		<difficult>{difficult}</difficult>
		<bndbox>
			<xmin>{box[0]}</xmin>
			<ymin>{box[1]}</ymin>
			<xmax>{box[2]}</xmax>
			<ymax>{box[3]}</ymax>
		</bndbox>
	</object>
"""
_VOC_FILE = """\
<annotation>
	<folder>VOC2007</folder>
	<filename>{name}.jpg</filename>
	<source>
		<database>Rehearsal</database>
		<annotation>Rehearsal</annotation>
		<image>rendered</image>
	</source>
	<size>
		<width>{side}</width>
		<height>{side}</height>
		<depth>3</depth>
	</size>
	<segmented>0</segmented>
{objects}</annotation>
"""


@dataclass(frozen=True, eq=False)
class _Pictured:
    """A scene and its labels in the benchmark.

    Attributes:
        scene: the rendered scene.
        caption: names what is seen.
        boxes: class -> (left, top, right, bottom) in pixels.
        cells: class -> how many cells of the scene's map show it.
    """

    scene: scenes.Scene
    caption: str
    boxes: dict[str, tuple[int, int, int, int]]
    cells: dict[str, int]


def build(benchmark: str, folder: str | Path) -> Path:
    """Write the data set of ``voc2007``, ``coco2014`` or ``nuswide``; a finished one is kept.

    Returns:
        The folder to give to ``--data``.
    """
    folder = Path(folder)
    done = folder / "README.txt"
    if not done.exists():
        vocabulary = Vocabulary.load(benchmark)
        sets = {split: _pictures(vocabulary, split) for split in ("train", "test")}
        # Captions of scenes that are never rendered, in the manner of the miniature's world.
        rngs = (random.Random(f"told {benchmark} {i}") for i in range(CAPTIONS))
        told = [scenes.plan_scene(rng).caption for rng in rngs]
        _WRITERS[benchmark](folder, vocabulary, sets, told)
        write_text(done, " ".join((__doc__ or "").split()) + "\n")
    return folder


def _classes_of(vocabulary: Vocabulary) -> dict[str, tuple[str, ...]]:
    """Thing of the world -> the classes with its name; things without such a class are left out."""
    rows = label_captions([f"a photo of a {thing.words[0]}" for thing in THINGS], vocabulary)
    named = {thing.name: row.labels for thing, row in zip(THINGS, rows, strict=True)}
    return {name: labels for name, labels in named.items() if labels}


def _pictures(vocabulary: Vocabulary, split: str) -> list[_Pictured]:
    """Scenes of one split, each thing in turn with some others, in the held-out style."""
    named = _classes_of(vocabulary)
    things = list(named)
    count = TEST_IMAGES if split == "test" else TRAIN_IMAGES_PER_THING * len(things)
    pictures = []
    for i in range(count):
        rng = random.Random(f"rehearsal {vocabulary.title} {split} {i}")
        names = [things[i % len(things)], *rng.sample(things, rng.choice((0, 1, 1, 2)))]
        names = list(dict.fromkeys(names))
        place = rng.choice(tuple(PLACES))
        plan = scenes.Plan(tuple(names), place, describe(names, place, rng))
        scene = scenes.random_scene(rng, split="style", plan=plan)
        pictures.append(_pictured(scene, named))
    shown = {label for labels in named.values() for label in labels}
    rng = random.Random(f"marked {vocabulary.title} {split}")
    for name in vocabulary.names:
        if name not in shown:
            for picture in rng.sample(pictures, MARKED[split]):
                picture.boxes[name] = (0, 0, scenes.SIZE, scenes.SIZE)
                picture.cells[name] = scenes.COARSE**2
    return pictures


def _pictured(scene: scenes.Scene, named: dict[str, tuple[str, ...]]) -> _Pictured:
    cell = scenes.SIZE // scenes.COARSE
    boxes: dict[str, tuple[int, int, int, int]] = {}
    cells: dict[str, int] = {}
    for thing in scene.visible():
        for label in named.get(thing, ()):
            rows, columns = np.nonzero(scene.seen == INDEX[thing])
            box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            left, top, right, bottom = (int(edge) * cell for edge in box)
            old = boxes.get(label, (left, top, right, bottom))
            boxes[label] = (
                min(left, old[0]), min(top, old[1]), max(right, old[2]), max(bottom, old[3])
            )  # fmt: skip
            cells[label] = cells.get(label, 0) + len(rows)
    return _Pictured(scene, scene.plan.caption, boxes, cells)


def _save(picture: _Pictured, path: Path) -> None:
    with atomic_path(path) as temporary:
        picture.scene.image.save(temporary, quality=95)


Sets = dict[str, list[_Pictured]]


def _write_voc(folder: Path, vocabulary: Vocabulary, sets: Sets, told: Sequence[str]) -> None:
    root = folder / "VOC2007"
    lists = root / "ImageSets" / "Main"
    start = 1
    for split, pictures in (("trainval", sets["train"]), ("test", sets["test"])):
        names = [f"{start + i:06d}" for i in range(len(pictures))]
        start += len(pictures)
        for name, picture in zip(names, pictures, strict=True):
            _save(picture, root / "JPEGImages" / f"{name}.jpg")
            objects = "".join(
                _VOC_OBJECT.format(name=n, box=box, difficult=int(picture.cells[n] < DIFFICULT))
                for n, box in picture.boxes.items()
            )
            text = _VOC_FILE.format(name=name, side=scenes.SIZE, objects=objects)
            write_text(root / "Annotations" / f"{name}.xml", text)
        half = len(names) // 2
        parts = {split: slice(None)}
        if split == "trainval":
            parts |= {"train": slice(half), "val": slice(half, None)}
        for part, rows in parts.items():
            write_text(lists / f"{part}.txt", "".join(f"{name}\n" for name in names[rows]))
            for label in vocabulary.names:
                marks = [_voc_mark(picture, label) for picture in pictures]
                lines = [f"{n} {m:2d}\n" for n, m in zip(names[rows], marks[rows], strict=True)]
                write_text(lists / f"{label}_{part}.txt", "".join(lines))
    _write_coco_captions(folder / "annotations" / "captions_train2014.json", told)
    _write_coco_captions(folder / "annotations" / "captions_train2017.json", told)


def _voc_mark(picture: _Pictured, label: str) -> int:
    """1 present, 0 difficult, -1 absent."""
    if label not in picture.cells:
        return -1
    return 0 if picture.cells[label] < DIFFICULT else 1


def _write_coco(folder: Path, vocabulary: Vocabulary, sets: Sets, told: Sequence[str]) -> None:
    ids = dict(zip(vocabulary.names, COCO_IDS, strict=True))
    start, described = 1, {}
    for split, pictures in (("train", sets["train"]), ("val", sets["test"])):
        images: list[dict[str, object]] = []
        annotations: list[dict[str, object]] = []
        for i, picture in enumerate(pictures, start=start):
            file = f"COCO_{split}2014_{i:012d}.jpg"
            _save(picture, folder / f"{split}2014" / file)
            images.append(_coco_image(i, file))
            described[i] = picture.caption
            for label, (left, top, right, bottom) in picture.boxes.items():
                width, height = right - left, bottom - top
                annotations.append(
                    {
                        "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
                        "area": width * height,
                        "iscrowd": 0,
                        "image_id": i,
                        "bbox": [left, top, width, height],
                        "category_id": ids[label],
                        "id": len(annotations) + 100_000 * start,
                    }
                )
        start += len(pictures)
        categories = [{"supercategory": "thing", "id": i, "name": n} for n, i in ids.items()]
        content = {"images": images, "annotations": annotations, "categories": categories}
        path = folder / "annotations" / f"instances_{split}2014.json"
        write_text(path, json.dumps({"info": {}, "licenses": [], **content}))
    train = {i: text for i, text in described.items() if i <= len(sets["train"])}
    texts = list(train.values())[: len(told)]
    _write_coco_captions(folder / "annotations" / "captions_train2014.json", texts)
    # As in 2017's new split: most images of val2014 came to train.
    moved = [i for i in described if i not in train][: 7 * len(sets["test"]) // 8]
    texts = [*texts, *(described[i] for i in moved)]
    numbers = [*list(train)[: len(told)], *moved]
    _write_coco_captions(folder / "annotations" / "captions_train2017.json", texts, numbers)


def _coco_image(number: int, file: str) -> dict[str, object]:
    side = scenes.SIZE
    return {"license": 1, "file_name": file, "height": side, "width": side, "id": number}


def _write_coco_captions(
    path: Path, texts: Sequence[str], numbers: Sequence[int] | None = None
) -> None:
    numbers = range(1, len(texts) + 1) if numbers is None else numbers
    images = [_coco_image(n, f"COCO_train2014_{n:012d}.jpg") for n in numbers]
    annotations = [
        {"image_id": n, "id": 10 * n, "caption": text}
        for n, text in zip(numbers, texts, strict=True)
    ]
    content = {"info": {}, "images": images, "licenses": [], "annotations": annotations}
    write_text(path, json.dumps(content))


def _write_nuswide(folder: Path, vocabulary: Vocabulary, sets: Sets, told: Sequence[str]) -> None:
    start = 1
    for split, pictures in (("Train", sets["train"]), ("Test", sets["test"])):
        names = []
        for i, picture in enumerate(pictures, start=start):
            group = next(iter(picture.boxes), "none")
            names.append(f"{group}\\{i:04d}_{100_000_000 + 7919 * i}.jpg")
            _save(picture, folder / "Flickr" / names[-1].replace("\\", "/"))
        start += len(pictures)
        lines = "".join(f"{name}\r\n" for name in names)
        write_text(folder / "ImageList" / f"{split}Imagelist.txt", lines)
        labels = folder / "Groundtruth" / "TrainTestLabels"
        for concept in vocabulary.names:
            marks = "".join(f"{int(concept in picture.boxes)}\n" for picture in pictures)
            write_text(labels / f"Labels_{concept}_{split}.txt", marks)
    rows = [
        {
            "dataset_id": "open_images",
            "image_id": f"{i:016x}",
            "annotator_id": 1,
            "caption": f"In this image I can see {text[0].lower()}{text[1:]}",
        }
        for i, text in enumerate(told)
    ]
    write_jsonl(folder / "open_images_train_v6_captions.jsonl", rows)


_WRITERS: dict[str, Callable[[Path, Vocabulary, Sets, Sequence[str]], None]] = {
    "voc2007": _write_voc,
    "coco2014": _write_coco,
    "nuswide": _write_nuswide,
}
