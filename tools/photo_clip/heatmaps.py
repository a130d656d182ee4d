"""Where the tagger ``photo`` looks, against VOC's boxes: a figure, and a sheet to look at.

``python -m tools.photo_clip.heatmaps --voc VOCdevkit/VOC2007 --out heatmaps.png``

Taken are classes with one box in a photo that covers 2 to 25 % of it. The pointing game (Zhang et
al., "Top-down Neural Attention by Excitation Backprop", ECCV 2016) counts how often the highest
position of the heatmap lies in the box; a position drawn by lot and the middle of
the photo are what one would point at unseen.
The sheet has one photo of each of twelve classes, drawn by lot.
"""

from __future__ import annotations

import argparse
import random
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from t2ipal import Tagger
from t2ipal.datasets.official import COCO_NAMES
from t2ipal.vocabulary import Vocabulary

SHOWN = (
    "dog", "cat", "horse", "bicycle", "bird", "boat", "bottle", "car", "chair", "sheep", "train",
    "person",
)  # fmt: skip
TILE = 320
ENDS = ("xmin", "ymin", "xmax", "ymax")
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Target:
    """A class that one box of a photo shows; left, top, right, bottom as shares of its sides."""

    photo: Path
    name: str
    box: Box

    def holds(self, x: float, y: float) -> bool:
        """Whether a point lies in the box."""
        left, top, right, bottom = self.box
        return left <= x <= right and top <= y <= bottom


def targets(voc: Path, names: dict[str, str]) -> list[Target]:
    """All of them, in random order. ``names``: VOC's class -> the tagger's."""
    found = []
    for file in sorted((voc / "Annotations").glob("*.xml")):
        root = ET.parse(file).getroot()
        photo = voc / "JPEGImages" / (root.findtext("filename") or "")
        if not photo.exists():
            continue
        width, height = (float(root.findtext(f"size/{side}") or 0) for side in ("width", "height"))
        boxes: dict[str, list[Box]] = {}
        for item in root.iter("object"):
            ends = [
                float(item.findtext(f"bndbox/{e}") or 0) for e in ("xmin", "ymin", "xmax", "ymax")
            ]
            box = (ends[0] / width, ends[1] / height, ends[2] / width, ends[3] / height)
            boxes.setdefault(item.findtext("name") or "", []).append(box)
        for name, own in boxes.items():
            share = (own[0][2] - own[0][0]) * (own[0][3] - own[0][1])
            if len(own) == 1 and 0.02 <= share <= 0.25:
                found.append(Target(photo, names[name], own[0]))
    random.Random(0).shuffle(found)
    return found


def peak(heatmap: np.ndarray) -> tuple[float, float]:
    """The middle of the highest position, as shares of the sides; the CLIP squashes the photo."""
    row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
    return (column + 0.5) / heatmap.shape[1], (row + 0.5) / heatmap.shape[0]


def tile(target: Target, heatmap: np.ndarray, probability: float) -> Image.Image:
    """The photo under its heatmap, with the box and the peak."""
    photo = Image.open(target.photo).convert("RGB")
    photo.thumbnail((TILE, TILE - 20))
    width, height = photo.size
    light = Image.fromarray((127 * heatmap / heatmap.max()).astype(np.uint8))
    light = light.resize(photo.size, Image.Resampling.BILINEAR)
    shown = Image.composite(Image.new("RGB", photo.size, "red"), photo, light)
    draw = ImageDraw.Draw(shown)
    sides = np.array([width, height] * 2)
    draw.rectangle(tuple(sides * target.box), outline="lime", width=2)
    middle = sides * (peak(heatmap) * 2)
    draw.ellipse(tuple(middle + np.array([-5, -5, 5, 5])), outline="yellow", width=3)
    framed = Image.new("RGB", (TILE, TILE), "white")
    framed.paste(shown, (0, 20))
    ImageDraw.Draw(framed).text((2, 4), f"{target.name} {probability:.2f}", fill="black")
    return framed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--voc", type=Path, required=True, help="folder with Annotations")
    parser.add_argument("--out", type=Path, required=True, help="the sheet, a PNG")
    arguments = parser.parse_args()
    tagger = Tagger.from_pretrained("photo")
    names = {name: COCO_NAMES.get(name, name) for name in Vocabulary.load("voc2007").names}
    found = targets(arguments.voc, names)
    photos = list(dict.fromkeys(target.photo for target in found))
    tags = dict(zip(photos, tagger.stream(photos, heatmaps=True), strict=True))
    heatmaps = [tags[target.photo].heatmap(target.name) for target in found]
    hits = [t.holds(*peak(h)) for t, h in zip(found, heatmaps, strict=True)]
    middle = [t.holds(0.5, 0.5) for t in found]
    sure = [tags[t.photo][t.name] >= 0.5 for t in found]
    print(f"{len(found)} boxes in {len(photos)} photos: the peak lies in {np.mean(hits):.1%}")
    print(
        f"where the class has a probability of a half or more ({sum(sure)}): "
        f"{np.mean([h for h, s in zip(hits, sure, strict=True) if s]):.1%}"
    )
    share = np.mean([(t.box[2] - t.box[0]) * (t.box[3] - t.box[1]) for t in found])
    print(f"a position drawn by lot: {share:.1%}")
    print(f"the middle of the photo: {np.mean(middle):.1%}")
    sheet = Image.new("RGB", (4 * TILE, 3 * TILE), "white")
    for n, shown in enumerate(SHOWN):
        row = next(i for i, target in enumerate(found) if target.name == names[shown])
        one = tile(found[row], heatmaps[row], tags[found[row].photo][found[row].name])
        sheet.paste(one, (n % 4 * TILE, n // 4 * TILE))
    sheet.save(arguments.out)


if __name__ == "__main__":
    main()
