"""Crops cover the image, overlap by half, and the cache keeps them apart."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from t2ipal.clip import image_reader
from t2ipal.clip.backbone import Backbone
from t2ipal.clip.crops import crop_boxes, cut
from t2ipal.clip.features import FeatureCache, image_items
from t2ipal.errors import UserError


@pytest.mark.parametrize("crops", [2, 3, 5])
def test_crops_cover_the_image_and_overlap_by_half(crops: int) -> None:
    found = crop_boxes(crops)
    assert len(set(found)) == crops**2
    for low, high in ((0, 2), (1, 3)):
        edges = sorted({(crop[low], crop[high]) for crop in found})
        assert edges[0][0] == 0 and edges[-1][1] == pytest.approx(1)
        for (a, b), (c, _) in pairwise(edges):
            assert c == pytest.approx((a + b) / 2)


def test_no_crops_and_bad_numbers() -> None:
    assert crop_boxes(0) == ()
    for bad in (1, -2):
        with pytest.raises(UserError, match=r"0 .none. or at least 2 per side"):
            crop_boxes(bad)


def test_a_cut_is_the_part_of_the_crop_and_never_empty() -> None:
    pixels = np.arange(60, dtype=np.uint8).reshape(6, 10)
    image = Image.fromarray(pixels)
    assert np.array_equal(np.asarray(cut(image, (0.2, 1 / 3, 0.7, 1))), pixels[2:, 2:7])
    assert cut(Image.new("RGB", (1, 1)), (0.9, 0.9, 1.0, 1.0)).size == (1, 1)


def test_a_crop_has_its_own_features_under_the_files_hash(
    tiny_vit: Backbone, tmp_path: Path
) -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (64, 64, 3), generator=generator, dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(tmp_path / "whole.png")
    crop = crop_boxes(2)[3]
    cut(Image.open(tmp_path / "whole.png"), crop).save(tmp_path / "part.png")
    cache = FeatureCache(tmp_path / "cache", tiny_vit)
    whole = cache.images([tmp_path / "whole.png"])
    seen = cache.images([tmp_path / "whole.png"], crop=crop)
    part = cache.images([tmp_path / "part.png"])
    assert torch.equal(seen.global_, part.global_) and torch.equal(seen.local, part.local)
    assert not torch.equal(seen.global_, whole.global_)
    again = FeatureCache(tmp_path / "cache", tiny_vit)
    assert again.images([tmp_path / "whole.png"], crop=crop).computed == 0


def test_a_file_is_hashed_and_decoded_once_for_all_its_crops(
    tiny_vit: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / f"{number}.png" for number in range(7)]
    for number, file in enumerate(files):
        pixels = np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file)
    opened: list[Path] = []
    load_image = image_reader.load_image
    monkeypatch.setattr(
        image_reader,
        "load_image",
        lambda path, **how: opened.append(path) or load_image(path, **how),
    )
    hashed: list[Path] = []
    sha256_file = image_reader.sha256_file
    monkeypatch.setattr(
        image_reader, "sha256_file", lambda path: hashed.append(path) or sha256_file(path)
    )
    targets = np.zeros((len(files), 2), dtype=np.int8)
    items = image_items(FeatureCache(tmp_path / "cache", tiny_vit), files, targets, crops=2)
    assert sorted(opened) == sorted(hashed) == files and len(items.crops) == 4
    apart = FeatureCache(tmp_path / "apart", tiny_vit)
    for crop, seen in zip((None, *crop_boxes(2)), (items, *items.crops), strict=True):
        alone = apart.images(files, crop=crop)
        assert torch.equal(seen.global_, alone.global_) and torch.equal(seen.local, alone.local)
