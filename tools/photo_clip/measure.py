"""The table of docs/photo.md: methods that need no image but the test's, on labelled photos.

``python -m tools.photo_clip.measure --data 'voc2007:DIR?split=trainval' --classes voc2007
--captions captions_val2017.json --cache work/cache --seeds 0 1 2``
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch

from t2ipal.captions.labelled import label_captions
from t2ipal.captions.sources import read_captions
from t2ipal.clip.backbone import Backbone
from t2ipal.clip.clip_settings import ClipSettings
from t2ipal.datasets.read import read_labelled_images
from t2ipal.method.methods import method_config
from t2ipal.metrics.ranking import average_precision, mean_average_precision
from t2ipal.runs.workbench import Workbench
from t2ipal.vocabulary import Vocabulary

METHODS = (
    "zero-shot",
    "clip-dpt",
    "clip-dpt/standardised",
    "tai-dpt",
    "tai-dpt/standardised",
    "t2i-pal/captions",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--images", help="folder of the images of a COCO JSON")
    parser.add_argument("--classes", default="voc2007")
    parser.add_argument("--captions", required=True)
    parser.add_argument("--limit", type=int, default=5000, help="captions to train on")
    parser.add_argument("--clip", default="photo")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--per-class", action="store_true", help="each class's average precision")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    vocabulary = Vocabulary.load(arguments.classes)
    backbone = Backbone.load(ClipSettings(clip=arguments.clip, image_size=arguments.image_size))
    captions = label_captions(read_captions(arguments.captions, limit=arguments.limit), vocabulary)
    bench = Workbench(vocabulary, backbone, arguments.cache, captions, progress=False)
    images = read_labelled_images(arguments.data, vocabulary, images=arguments.images)
    started = time.monotonic()
    test = bench.labelled(images)
    print(f"{len(test)} photos embedded in {time.monotonic() - started:.0f} s")
    for name in arguments.methods:
        method = method_config(name)
        found = []
        for seed in arguments.seeds if method.train is not None else arguments.seeds[:1]:
            head, _ = bench.fit(method, seed)
            scores = head.score_items(test).cpu().numpy()
            per_class = 100 * average_precision(scores, test.targets.numpy())
            found.append(mean_average_precision(per_class))
        spread = f" ± {statistics.stdev(found):.1f}" if len(found) > 1 else ""
        print(f"| {name} | {statistics.mean(found):.1f}{spread} |", flush=True)
        if arguments.per_class:
            pairs = zip(vocabulary.names, per_class, strict=True)
            print("  " + ", ".join(f"{name} {value:.0f}" for name, value in pairs))


if __name__ == "__main__":
    main()
