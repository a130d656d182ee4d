"""The miniature's world: scenes are functions of their seed, labels say what can be seen."""

from __future__ import annotations

import csv
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from t2ipal.miniature import icons, scenes
from t2ipal.miniature.scenes import (
    COARSE,
    EMPTY,
    Plan,
    _draw_scene,
    _layout,
    _plan_cluttered_scene,
    random_scene,
    scene_rng,
    write_test_set,
)
from t2ipal.miniature.world import CIRCLES, INDEX, PLACES, THINGS, VOC


def test_the_first_twenty_things_are_voc_and_the_circles_name_things_and_places() -> None:
    from t2ipal.vocabulary import Vocabulary

    assert tuple(thing.name for thing in VOC) == Vocabulary.load("voc2007").names
    assert len(THINGS) >= 40
    for things, places in CIRCLES:
        assert set(things) <= set(INDEX)
        assert set(places) <= set(PLACES)


def test_every_thing_has_an_icon_in_a_known_style_and_in_the_held_out_one() -> None:
    for thing in THINGS:
        assert any(thing.name in icons.load(style) for style in icons.KNOWN_STYLES)
        for style in (*icons.STYLES_OF["plain"], icons.HELD_OUT_STYLE):
            assert thing.name in icons.load(style), thing.name


def test_the_held_out_icons_are_no_known_icons() -> None:
    held_out = {
        icon.tobytes() for cells in icons.load(icons.HELD_OUT_STYLE).values() for icon in cells
    }
    for style in icons.KNOWN_STYLES:
        assert held_out.isdisjoint(
            i.tobytes() for cells in icons.load(style).values() for i in cells
        )


def test_a_scene_depends_on_split_seed_and_number_alone() -> None:
    def picture(split: str, seed: int, number: int) -> bytes:
        return random_scene(scene_rng(split, seed, number), split=split).image.tobytes()

    assert picture("test", 3, 5) == picture("test", 3, 5)
    pictures = {
        picture(*key) for key in [("test", 3, 5), ("test", 3, 6), ("test", 4, 5), ("known", 3, 5)]
    }
    assert len(pictures) == 4


def test_the_map_of_a_lone_thing_covers_where_the_picture_differs_from_an_empty_one() -> None:
    plan = Plan(("bus",), "wall", "")
    scene = _draw_scene(plan, scene_rng("map", 0, 1), style="noto")
    assert scene.image.size == (64, 64)
    assert scene.seen.shape == (COARSE, COARSE)
    assert set(np.unique(scene.seen)) == {INDEX["bus"], EMPTY}
    # Saturated yellow and dark windows on a dull wall: cells of the bus vary more than the rest.
    cells = np.asarray(scene.image).reshape(COARSE, 4, COARSE, 4, 3).std((1, 3)).mean(-1)
    on, off = cells[scene.seen == INDEX["bus"]], cells[scene.seen == EMPTY]
    assert on.mean() > 2 * off.mean()


@pytest.mark.parametrize("count", [1, 4, 6])
def test_plain_things_fill_different_cells(count: int) -> None:
    rng, seen = scene_rng("plain", 0, count), set()
    for _ in range(50):
        layout = _layout(count, rng, "plain")
        assert {size for _, _, size in layout} == {32}
        corners = {(x - 16, y - 16) for x, y, _ in layout}
        assert len(corners) == count
        seen |= corners
    assert seen == {(x, y) for x in (0, 32, 64) for y in (0, 32, 64)}


def test_a_plain_scene_is_larger_and_its_map_says_where_its_six_things_are() -> None:
    names = ("dog", "cat", "bus", "car", "boat", "tree")
    scene = random_scene(scene_rng("plain", 0, 0), split="plain", plan=Plan(names, "sky", ""))
    assert scene.image.size == (96, 96)
    assert scene.seen.shape == (24, 24)
    assert set(scene.visible()) == set(names)
    for name in names:  # within one cell each
        rows, columns = np.nonzero(scene.seen == INDEX[name])
        assert len(set(rows // 8)) == len(set(columns // 8)) == 1


def test_cluttered_scenes_show_more_and_smaller_things_and_some_classes_rarely() -> None:
    plans = [_plan_cluttered_scene(scene_rng("hard", 0, n)) for n in range(400)]
    assert {len(set(plan.names)) for plan in plans} == {3, 4, 5, 6}
    counts = Counter(name for plan in plans for name in plan.names)
    shares = sorted((counts[thing.name] for thing in VOC), reverse=True)
    assert shares[0] > 10 * shares[-1] > 0
    splits = ("test", "dev", "hard", "style")
    layouts = {split: _layout(4, scene_rng(split, 0, 1), split) for split in splits}
    sizes = {split: max(size for _, _, size in spots) for split, spots in layouts.items()}
    assert max(sizes[split] for split in splits[:3]) < 22 < 28 >= sizes["style"]


def test_one_icon_in_five_of_a_test_scene_has_a_style_that_no_model_saw(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[str] = []
    icon = scenes._icon

    def noted(name: str, style: str, rng: random.Random) -> Image.Image:
        drawn.append(style)
        return icon(name, style, rng)

    monkeypatch.setattr(scenes, "_icon", noted)
    for number in range(60):
        random_scene(scene_rng("test", 0, number), split="test")
    assert set(drawn) == set(icons.STYLES)
    assert 0.1 < drawn.count(icons.HELD_OUT_STYLE) / len(drawn) < 0.3
    drawn.clear()
    random_scene(scene_rng("style", 0, 0), split="style")
    assert set(drawn) == {icons.HELD_OUT_STYLE}


@pytest.mark.parametrize("split", ["test", "style", "hard", "known"])
def test_a_written_set_is_reproducible_and_labels_what_is_visible(
    tmp_path: Path, split: str
) -> None:
    names = ["dog", "person"]
    write_test_set(tmp_path / "a", 6, seed=1, split=split, names=names)
    write_test_set(tmp_path / "b", 6, seed=1, split=split, names=names)
    for file in sorted((tmp_path / "a").iterdir()):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    with (tmp_path / "a" / "labels.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 6
    for row in rows:
        assert Image.open(tmp_path / "a" / row["image"]).size == (64, 64)
        assert set(row["labels"].split("|")) <= {"", "dog", "person"}
    assert any(row["labels"] for row in rows)


def test_a_thing_wholly_behind_another_is_not_labelled() -> None:
    scene = _draw_scene(Plan(("dog",), "field", ""), scene_rng("v", 0, 0), style="noto")
    scene.seen[scene.seen == INDEX["dog"]] = INDEX["cat"]
    assert scene.visible() == ["cat"]
