"""The development set: two fifths of the COCO photos, with COCO's own labels, and its figures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score

from t2ipal.datasets.official import COCO_NAMES
from t2ipal.vocabulary import Vocabulary

LEAST = 5  # a class with fewer positive photos is left out


@dataclass(frozen=True)
class Development:
    """Photos kept from training while choices are made.

    Attributes:
        photos: positions in the list of photos.
        coco: [N, 80] labels of COCO's classes.
        voc: [N, 20] labels of VOC's classes, from COCO's.
    """

    photos: np.ndarray
    coco: np.ndarray
    voc: np.ndarray


def read(names: list[str], instances: Path) -> Development:
    """Two of every five of the photos ``names`` that a COCO file labels."""
    content = json.loads(instances.read_text(encoding="utf-8"))
    category = {item["id"]: item["name"] for item in content["categories"]}
    file_of = {item["id"]: item["file_name"] for item in content["images"]}
    shown: dict[str, set[str]] = {}
    for row in content["annotations"]:
        shown.setdefault(file_of[row["image_id"]], set()).add(category[row["category_id"]])
    kept = [i for i, name in enumerate(names) if name in shown and i % 5 < 2]
    coco, voc = Vocabulary.load("coco2014").names, Vocabulary.load("voc2007").names
    return Development(
        np.array(kept),
        np.array([[name in shown[names[i]] for name in coco] for i in kept]),
        np.array([[COCO_NAMES.get(name, name) in shown[names[i]] for name in voc] for i in kept]),
    )


def mean_ap(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean average precision in per cent over the classes with enough photos."""
    found = [
        average_precision_score(labels[:, c], scores[:, c])
        for c in range(labels.shape[1])
        if labels[:, c].sum() >= LEAST
    ]
    return 100 * float(np.mean(found))


def standardised(scores: np.ndarray) -> np.ndarray:
    """Each photo's scores less their mean, over their deviation."""
    centred = scores - scores.mean(1, keepdims=True)
    return np.asarray(centred / scores.std(1, keepdims=True))
