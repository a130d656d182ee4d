"""Make the ready tagger of photos: ``t2ipal predict photo``.

    python -m tools.photo_clip.tagger --photos PHOTOS --cache work/cache

Its 80 classes are COCO's, under all the words that people use for them (VOC's among them). Nothing
is trained: the class embeddings are the packaged CLIP's own. Of the methods that need no training
image the one that is best on the development photos was taken; they fit the probabilities and
thresholds too. Nearly all of them show a person, so for that class all labelled COCO photos serve,
and those of Flickr8k, whose captions say whether they show one, and photos without a person count
as often as in COCO (64,115 of the 118,287 photos of train2017 show one).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tools.photo_clip import development

from t2ipal.captions.compose import compose
from t2ipal.captions.labelled import label_captions
from t2ipal.captions.sources import Caption
from t2ipal.clip.backbone import Backbone
from t2ipal.clip.clip_settings import ClipSettings
from t2ipal.datasets.labelled_images import LabelledImages
from t2ipal.datasets.read import read_labelled_images
from t2ipal.method.methods import method_config
from t2ipal.metrics.ranking import average_precision, mean_average_precision
from t2ipal.runs.fitting import versions
from t2ipal.runs.workbench import Workbench
from t2ipal.tagger import PACKAGED
from t2ipal.tagger.clip_model import ClipModel
from t2ipal.tagger.tagger import Tagger
from t2ipal.tagger.thresholds import Thresholds, fit_thresholds
from t2ipal.vocabulary import UNKNOWN, Vocabulary

METHODS = ("zero-shot", "clip-dpt", "clip-dpt/standardised")
PERSON = 64_115 / 118_287
LIMITS = (
    "Its CLIP is small (EfficientNet-Lite0, photos of 224 pixels) and was trained on 3,789 "
    "captioned photos: things that are small, half hidden or unusual are often missed.",
    "It sees people where there are none: it tags a person in 49 of 100 photos of VOC2007 that "
    "show none, and in 89 of 100 that show one.",
    "Its CLIP saw the captions of the photos that the thresholds were fitted on, though not their "
    "labels, so on other photos the probabilities are a little too sure.",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="captions.jsonl, captioned/ ...")
    parser.add_argument("--cache", type=Path, required=True, help="folder of cached features")
    parser.add_argument("--out", type=Path, default=PACKAGED["photo"])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    photos: Path = arguments.photos
    vocabulary = Vocabulary.load("coco2014")
    captions = label_captions(compose(vocabulary, 4 * len(vocabulary)), vocabulary)
    backbone = Backbone.load(ClipSettings(clip="photo"))
    bench = Workbench(vocabulary, backbone, arguments.cache, captions, progress=False)
    lines = (photos / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    names = [row["file_name"] for row in rows]
    kept = {names[i] for i in development.read(names, photos / "instances_val2017.json").photos}
    images = read_labelled_images(
        photos / "instances_val2017.json", vocabulary, images=photos / "captioned"
    )
    dev = bench.labelled(
        images.take([i for i, file in enumerate(images.files) if file.name in kept])
    )
    targets = dev.targets.numpy()
    heads = {name: bench.fit(method_config(name), 0)[0] for name in METHODS}
    scores = {name: head.score_items(dev).cpu().numpy() for name, head in heads.items()}
    found = {
        name: mean_average_precision(average_precision(values, targets))
        for name, values in scores.items()
    }
    for name, value in found.items():
        print(f"{name}: mAP {100 * value:.1f} on {len(dev)} development photos")
    best = max(found, key=lambda name: found[name])
    flickr = _captioned(rows, photos, vocabulary)
    more = [bench.labelled(one) for one in (images, flickr)]
    person = (
        np.concatenate([heads[best].score_items(items).cpu().numpy() for items in more]),
        np.concatenate([items.targets.numpy() for items in more]),
    )
    thresholds = _thresholds(scores[best], targets, *person, vocabulary)
    about = {
        "packaged": "photo",
        "method": best,
        "generated_images": 0,
        "calibrated_on": f"{len(dev):,} photos of MS-COCO val2017, a person on others of it and of "
        "Flickr8k too",
        "limits": LIMITS,
        "versions": versions(),
    }
    Tagger(ClipModel(backbone, heads[best]), vocabulary, thresholds, about).save_pretrained(
        arguments.out
    )
    print(f"wrote {arguments.out}")


def _captioned(rows: list[dict[str, Any]], photos: Path, vocabulary: Vocabulary) -> LabelledImages:
    """The photos that COCO does not label; only the label of a person is known, from captions."""
    person = vocabulary.names.index("person")
    files, targets = [], []
    for row in rows:
        if row["source"].startswith("coco"):
            continue
        texts = [Caption(str(n), text) for n, text in enumerate(row["captions"])]
        found = label_captions(texts, vocabulary)
        target = np.full(len(vocabulary), UNKNOWN, np.int8)
        if any("person" in one.labels for one in found):
            target[person] = 1
        elif not any("person" in one.unknown for one in found):
            target[person] = 0
        files.append(photos / "captioned" / row["file_name"])
        targets.append(target)
    return LabelledImages("captioned photos", tuple(files), np.stack(targets))


def _thresholds(
    scores: np.ndarray,
    targets: np.ndarray,
    more_scores: np.ndarray,
    more_targets: np.ndarray,
    vocabulary: Vocabulary,
) -> Thresholds:
    """Fitted on the development photos; for a person on all, weighed as often as in COCO."""
    fitted = fit_thresholds(scores, targets, vocabulary.names)
    person = vocabulary.names.index("person")
    known = more_targets[:, person] >= 0
    score, target = more_scores[known, person], more_targets[known, person]
    times = round((target == 1).sum() * (1 - PERSON) / PERSON / (target == 0).sum())
    print(f"person: {(target == 1).sum()} photos with and {(target == 0).sum()} without one")
    rows = np.concatenate([np.arange(len(target)), *[(target == 0).nonzero()[0]] * (times - 1)])
    weighed = fit_thresholds(score[rows, None], target[rows, None], ["person"])
    columns = {}
    for key in ("thresholds", "slopes", "intercepts", "shared"):
        values = list(getattr(fitted, key))
        values[person] = getattr(weighed, key)[0]
        columns[key] = tuple(values)
    return replace(fitted, **columns)


if __name__ == "__main__":
    main()
