"""Windows cover the image, overlap by half, and are what the cache keeps apart."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from t2ipal.clip.backbone import Backbone
from t2ipal.clip.crops import cut, windows
from t2ipal.clip.features import FeatureCache
from t2ipal.errors import UserError


@pytest.mark.parametrize("crops", [2, 3, 5])
def test_windows_cover_the_image_and_overlap_by_half(crops: int) -> None:
    found = windows(crops)
    assert len(set(found)) == crops**2
    for low, high in ((0, 2), (1, 3)):
        edges = sorted({(window[low], window[high]) for window in found})
        assert edges[0][0] == 0 and edges[-1][1] == pytest.approx(1)
        for (a, b), (c, _) in pairwise(edges):
            assert c == pytest.approx((a + b) / 2)


def test_no_crops_and_bad_numbers() -> None:
    assert windows(0) == ()
    for bad in (1, -2):
        with pytest.raises(UserError, match=r"0 .none. or at least 2 a side"):
            windows(bad)


def test_a_cut_is_the_part_under_the_window_and_never_empty() -> None:
    pixels = np.arange(60, dtype=np.uint8).reshape(6, 10)
    image = Image.fromarray(pixels)
    assert np.array_equal(np.asarray(cut(image, (0.2, 1 / 3, 0.7, 1))), pixels[2:, 2:7])
    assert cut(Image.new("RGB", (1, 1)), (0.9, 0.9, 1.0, 1.0)).size == (1, 1)


def test_a_window_has_its_own_features_under_the_files_hash(
    tiny_vit: Backbone, tmp_path: Path
) -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (64, 64, 3), generator=generator, dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(tmp_path / "whole.png")
    window = windows(2)[3]
    cut(Image.open(tmp_path / "whole.png"), window).save(tmp_path / "part.png")
    cache = FeatureCache(tmp_path / "cache", tiny_vit)
    whole = cache.images([tmp_path / "whole.png"])
    seen = cache.images([tmp_path / "whole.png"], window=window)
    part = cache.images([tmp_path / "part.png"])
    assert torch.equal(seen.global_, part.global_) and torch.equal(seen.local, part.local)
    assert not torch.equal(seen.global_, whole.global_)
    again = FeatureCache(tmp_path / "cache", tiny_vit)
    assert again.images([tmp_path / "whole.png"], window=window).computed == 0
