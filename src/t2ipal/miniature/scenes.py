"""Icon scenes: the world the miniature CLIP and generator were pretrained on, and its test photos.

A scene is one to six icons on a background, 64 x 64. Scenes of the ``test`` and ``dev`` splits
stand for photos: cluttered, three to six small things, whatever with whatever, some classes far
more often than others, each icon in any style, of which one in five is of a style that no model of
the miniature has seen. Scenes of the ``style`` split stand for another domain: that style alone, in
backgrounds and layouts that nobody has seen; those of ``hard`` are cluttered too. Scenes of the
``known`` split use the pretraining styles. Scenes of the ``plain`` split are what the generator
learns to draw: one to six icons of one known style, upright, in the nine cells of a scene of
96 x 96, before smooth backgrounds, as stock pictures are tidier and larger than snapshots.
"""

from __future__ import annotations

import colorsys
import csv
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from t2ipal.files import atomic_path
from t2ipal.miniature import icons
from t2ipal.miniature import scene_captions as captions
from t2ipal.miniature.world import CIRCLES, GROUND, INDEX, PLACES, THINGS, VOC, Colour

SIZE = 64
COARSE = 16  # side of the map that says which class is seen where
EMPTY = 255
HELD_OUT_SPLITS = ("style", "hard")
CLUTTERED_SPLITS = ("test", "dev", "hard")
PLAIN_SIDE = 96  # pixels: the generator draws larger pictures, CLIP sees all at one size
CELL = 32  # pixels: side of the cells of plain scenes, each of which holds one icon or none
GRID = 16  # pixels: horizons in plain scenes are multiples of it


@dataclass(frozen=True)
class Plan:
    """What a scene shows: class names (repeats allowed), the place, and its caption."""

    names: tuple[str, ...]
    place: str
    caption: str


@dataclass(frozen=True)
class Scene:
    """A rendered scene.

    Attributes:
        image: RGB, 64 x 64; 96 x 96 of ``plain``.
        seen: [16, 16] uint8, [24, 24] of ``plain``: the index of the class on top there, 255 for
            the background.
    """

    plan: Plan
    image: Image.Image
    seen: np.ndarray

    def visible(self) -> list[str]:
        """The classes of which something can be seen, in the world's order."""
        indices = np.unique(self.seen[self.seen != EMPTY])
        return [THINGS[i].name for i in indices]


def plan_scene(rng: random.Random, *, most: int = 4) -> Plan:
    """Draw classes that go together, a place, and a caption that may keep one of them quiet."""
    circle, places = CIRCLES[rng.randrange(len(CIRCLES))]
    if rng.random() < 0.35:  # anything with anything, so that rare classes are met too
        circle, places = tuple(INDEX), tuple(PLACES)
    counts = {1: 28, 2: 36, 3: 24, 4: 12, **({5: 8, 6: 6} if most > 4 else {})}
    count = rng.choices(tuple(counts), tuple(counts.values()))[0]
    kinds = rng.sample(circle, min(count, most, len(circle)))
    names = list(kinds)
    while len(names) < most and rng.random() < 0.18:
        names.append(rng.choice(kinds))
    place = rng.choice(places)
    told = names
    if len(kinds) > 1 and rng.random() < 0.12:
        quiet = rng.choice(kinds)
        told = [name for name in names if name != quiet]
    return Plan(tuple(names), place, captions.describe(told, place, rng))


def _plan_cluttered_scene(rng: random.Random) -> Plan:
    """Three to six classes that need not go together; the n-th in a fixed order comes as 1 / n."""
    order = list(INDEX)
    random.Random("rare").shuffle(order)
    weights = [1 / (n + 1) for n in range(len(order))]
    wanted = rng.randint(3, 6)
    kinds: list[str] = []
    while len(kinds) < wanted:
        kind = rng.choices(order, weights)[0]
        if kind not in kinds:
            kinds.append(kind)
    place = rng.choice(tuple(PLACES))
    return Plan(tuple(kinds), place, captions.describe(kinds, place, rng))


def side_of(split: str) -> int:
    """Pixels a side of the scenes of a split."""
    return PLAIN_SIDE if split == "plain" else SIZE


# --- background ---------------------------------------------------------------------------------


def _shift(colour: Colour, rng: random.Random, hue: float, light: float) -> Colour:
    h, s, v = colorsys.rgb_to_hsv(*(c / 255 for c in colour))
    h = (h + rng.uniform(-hue, hue)) % 1
    s = min(1.0, max(0.0, s * rng.uniform(0.7, 1.25)))
    v = min(1.0, max(0.05, v * rng.uniform(1 - light, 1 + light)))
    r, g, b = colorsys.hsv_to_rgb(h, s, v)
    return round(r * 255), round(g * 255), round(b * 255)


def _background(place: str, rng: random.Random, *, split: str = "known") -> Image.Image:
    """A background of ``place``: patterned if held out, two smooth surfaces if plain."""
    upper, lower, share = GROUND[place]
    upper, lower = _shift(upper, rng, 0.04, 0.18), _shift(lower, rng, 0.04, 0.18)
    if rng.random() < 0.2 and split not in HELD_OUT_SPLITS:
        lower = upper
    side = side_of(split)
    rows = np.linspace(0, 1, side, dtype=np.float32)[:, None, None]
    horizon = min(1.0, max(0.1, share + rng.uniform(-0.12, 0.12)))
    if split == "plain":
        horizon = round(horizon * side / GRID) * GRID / side
    above = np.array(upper, np.float32) * (1 + rng.uniform(-0.15, 0.15) * (rows - horizon))
    below = np.array(lower, np.float32) * (1 + rng.uniform(-0.25, 0.25) * (rows - horizon))
    pixels = np.where(rows < horizon, above, below) * np.ones((1, side, 1), np.float32)
    if split == "plain":
        return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8), "RGB")
    noise = np.random.default_rng(rng.getrandbits(32))
    clouds = Image.fromarray(noise.normal(0, rng.uniform(0, 14), (6, 6)).astype(np.float32))
    clouds = clouds.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    pixels = pixels + np.asarray(clouds)[:, :, None]
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8), "RGB")
    if split in HELD_OUT_SPLITS:
        _pattern(image, rng)
    else:
        _furnish(image, place, horizon, rng)
    return image.filter(ImageFilter.GaussianBlur(0.6))


def _furnish(image: Image.Image, place: str, horizon: float, rng: random.Random) -> None:
    """Clouds, windows, waves, tufts: a few marks that belong to the place."""
    draw = ImageDraw.Draw(image)
    line = round(horizon * SIZE)
    for _ in range(rng.randrange(4)):
        x, y = rng.randrange(SIZE), rng.randrange(SIZE)
        if place in ("sky", "field", "sea", "beach") and y < line:
            draw.ellipse(
                (x, y, x + rng.randint(8, 18), y + rng.randint(3, 6)), fill=(240, 244, 248)
            )
        elif place in ("sea", "snow", "desert") and y >= line:
            draw.line((x, y, x + rng.randint(6, 16), y), fill=_shift((230, 240, 245), rng, 0, 0.1))
        elif place in ("city", "night", "street") and y < line:
            w, h = rng.randint(6, 12), rng.randint(10, 30)
            draw.rectangle((x, line - h, x + w, line), fill=_shift((115, 115, 130), rng, 0.1, 0.3))
        elif place in ("room", "kitchen", "wall"):
            draw.line((0, y, SIZE, y), fill=_shift((170, 150, 130), rng, 0.05, 0.2))
        elif place in ("field", "forest"):
            draw.line((x, y, x, y + rng.randint(2, 5)), fill=_shift((60, 120, 45), rng, 0.03, 0.3))


def _pattern(image: Image.Image, rng: random.Random) -> None:
    draw = ImageDraw.Draw(image, "RGBA")
    tint = (*_shift((128, 128, 128), rng, 0.5, 0.6), rng.randint(30, 70))
    kind, step = rng.choice(("stripes", "checks", "discs")), rng.choice((6, 8, 11))
    for i in range(-SIZE, 2 * SIZE, 2 * step):
        if kind == "stripes":
            draw.line((i, 0, i + SIZE, SIZE), fill=tint, width=step // 2)
            continue
        for k, j in enumerate(range(0, SIZE, step)):
            x = i + (step if k % 2 else 0)
            box = (x, j, x + step - 1, j + step - 1)
            if kind == "checks":
                draw.rectangle(box, fill=tint)
            else:
                draw.ellipse(box, fill=tint)


# --- layout and rendering -----------------------------------------------------------------------


def _layout(count: int, rng: random.Random, split: str) -> list[tuple[float, float, float]]:
    """Centre x, centre y and size in pixels of each icon; every split has layouts of its own."""
    if split == "plain":  # icons of one size in different cells of the scene
        starts = range(0, PLAIN_SIDE, CELL)
        cells = rng.sample([(x, y) for x in starts for y in starts], count)
        return [(x + CELL / 2, y + CELL / 2, CELL) for x, y in cells]
    if split in CLUTTERED_SPLITS:
        return _scatter([rng.uniform(12, 22) for _ in range(count)], rng, overhang=2)
    scale = {1: (26, 50), 2: (22, 38), 3: (19, 32), 4: (18, 28)}[count]
    sizes = [rng.uniform(*scale) for _ in range(count)]
    if split == "style":
        if count == 1:
            spots = [(rng.uniform(18, 46), rng.uniform(18, 46))]
        elif rng.random() < 0.5:  # around a ring
            start, radius = rng.uniform(0, 2 * math.pi), rng.uniform(14, 20)
            turns = [start + 2 * math.pi * i / count for i in range(count)]
            spots = [(32 + radius * math.cos(t), 32 + radius * math.sin(t)) for t in turns]
        else:  # along a diagonal
            ends = [(i + 0.5) / count for i in range(count)]
            side = rng.choice((1, -1))
            spots = [(10 + 44 * t, 32 + side * (44 * t - 22)) for t in ends]
        return [(x, y, s) for (x, y), s in zip(spots, sizes, strict=True)]
    if count > 1 and rng.random() < 0.3:  # in a row
        y = rng.uniform(26, 44)
        return [
            ((i + 0.5) * SIZE / count + rng.uniform(-3, 3), y + rng.uniform(-4, 4), s)
            for i, s in enumerate(sizes)
        ]
    return _scatter(sizes, rng, overhang=3)


def _scatter(
    sizes: Sequence[float], rng: random.Random, *, overhang: int
) -> list[tuple[float, float, float]]:
    """Put each icon anywhere, at the least crowded of a few places."""
    placed: list[tuple[float, float, float]] = []
    for size in sizes:
        spots = []
        for _ in range(6):
            x, y = (rng.uniform(-overhang, SIZE - size + overhang) for _ in range(2))
            spots.append((x + size / 2, y + size / 2))
        best = max(
            spots,
            key=lambda t: min((math.dist(t, p[:2]) - p[2] / 2 for p in placed), default=0),
        )
        placed.append((*best, size))
    return placed


def _icon(name: str, style: str, rng: random.Random) -> Image.Image:
    """One of the style's icons of the class; of another known style where this one has none."""
    found = icons.load(style).get(name)
    if found is None:
        styles = [s for s in icons.KNOWN_STYLES if name in icons.load(s)]
        found = icons.load(rng.choice(styles))[name]
    return rng.choice(found)


def _draw_scene(
    plan: Plan, rng: random.Random, *, style: str | None, split: str = "known"
) -> Scene:
    """Draw a plan in one icon style, or each icon in any of the split's."""
    image = _background(plan.place, rng, split=split)
    coarse = image.width * COARSE // SIZE
    seen = np.full((coarse, coarse), EMPTY, np.uint8)
    names = list(plan.names)
    rng.shuffle(names)
    for name, (x, y, size) in zip(names, _layout(len(names), rng, split), strict=True):
        icon = _icon(name, style or rng.choice(icons.STYLES_OF[split]), rng)
        if split != "plain" and rng.random() < 0.5:
            icon = icon.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        side = max(8, round(size))
        icon = icon.resize((side, side), Image.Resampling.LANCZOS)
        if split != "plain" and rng.random() < 0.6:
            icon = icon.rotate(rng.gauss(0, 9), Image.Resampling.BICUBIC, expand=True)
        corner = (round(x - icon.width / 2), round(y - icon.height / 2))
        if split != "plain" and rng.random() < 0.3:
            shadow = Image.new("RGBA", icon.size, (0, 0, 0, 255))
            shadow.putalpha(icon.getchannel("A").point(lambda a: a * 2 // 5))
            image.paste(shadow, (corner[0] + 1, corner[1] + 2), shadow)
        image.paste(icon, corner, icon)
        mask = Image.new("L", image.size)
        mask.paste(icon.getchannel("A"), corner)
        small = np.asarray(mask.resize(seen.shape, Image.Resampling.BOX))
        seen[small > 100] = INDEX[name]
    return Scene(plan, image, seen)


def random_scene(rng: random.Random, *, split: str, plan: Plan | None = None) -> Scene:
    """A scene of a split, which is a key of ``icons.STYLES_OF``."""
    plan = plan or _plan_of(split, rng)
    mixed = split in ("test", "dev")
    style = None if mixed else rng.choice(icons.STYLES_OF[split])
    return _draw_scene(plan, rng, style=style, split=split)


def _plan_of(split: str, rng: random.Random) -> Plan:
    return _plan_cluttered_scene(rng) if split in CLUTTERED_SPLITS else plan_scene(rng)


def scene_rng(split: str, seed: int, number: int) -> random.Random:
    """The random stream of one scene: a function of split, seed and number alone."""
    return random.Random(f"{split}:{seed}:{number}")


def write_test_set(
    folder: str | Path, n: int, *, seed: int = 0, split: str = "test", names: Sequence[str] = ()
) -> Path:
    """Write ``n`` scenes as PNG files and a ``labels.csv`` over the twenty VOC classes.

    Every scene shows at least one of the twenty. Finished sets are left as they are: the labels are
    written last.

    Args:
        split: ``test``, ``dev``, ``style``, ``hard`` or ``known``.
        names: the classes to label; the twenty VOC classes where empty.

    Returns:
        The folder.
    """
    folder = Path(folder)
    if (folder / "labels.csv").exists():
        return folder
    wanted = list(names) or [thing.name for thing in VOC]
    rows: list[tuple[str, str]] = []
    number = 0
    while len(rows) < n:
        rng = scene_rng(f"written-{split}", seed, number)
        number += 1
        plan = _plan_of(split, rng)
        if not set(plan.names) & set(wanted):
            continue
        scene = random_scene(rng, split=split, plan=plan)
        labels = [name for name in scene.visible() if name in wanted]
        file = f"{len(rows):05d}.png"
        with atomic_path(folder / file) as path:
            scene.image.save(path)
        rows.append((file, "|".join(labels)))
    with (
        atomic_path(folder / "labels.csv") as path,
        path.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("image", "labels"))
        writer.writerows(rows)
    return folder
