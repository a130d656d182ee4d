"""MS-COCO 2014 as its archives unpack (cocodataset.org).

    COCO/annotations/instances_val2014.json
    COCO/val2014/COCO_val2014_000000000042.jpg

The usual test set is val2014 with all its 40,504 images, those without an object included.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from t2ipal.datasets.coco_json import read_coco_json
from t2ipal.datasets.labelled_images import LabelledImages
from t2ipal.datasets.official import wanted_file
from t2ipal.vocabulary import Vocabulary

OFFICIAL = {"val": 40_504, "train": 82_783}
_ARCHIVES = "unpack annotations_trainval2014.zip, val2014.zip and train2014.zip of cocodataset.org"


def read_coco2014(folder: Path, vocabulary: Vocabulary, *, split: str = "val") -> LabelledImages:
    """Read a split for the classes of ``vocabulary``.

    Args:
        folder: holds ``annotations`` and ``val2014``.
        split: val or train.

    Raises:
        UserError: another folder, a missing or broken file, a missing image; it is named.
    """
    path = wanted_file(folder / "annotations" / f"instances_{split}2014.json", _ARCHIVES)
    found = read_coco_json(path, vocabulary, images=folder / f"{split}2014")
    return replace(found, source=f"MS-COCO 2014 {split}")
