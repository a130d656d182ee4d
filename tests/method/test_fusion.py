from __future__ import annotations

import math

import pytest
import torch

from t2ipal.method.fusion import fuse, fuse_crops, standardise
from t2ipal.method.head_config import FusionConfig

SCORES = {
    name: torch.randn(4, 6, generator=torch.Generator().manual_seed(seed))
    for seed, name in enumerate(("global", "local", "prototype"))
}


def test_standardise_equals_the_loop() -> None:
    for row, result in zip(
        SCORES["global"].tolist(), standardise(SCORES["global"]).tolist(), strict=True
    ):
        mean = sum(row) / 6
        deviation = math.sqrt(sum((x - mean) ** 2 for x in row) / 6)
        assert result == pytest.approx([(x - mean) / deviation for x in row], abs=1e-5)


def test_standardise_forgets_offset_and_scale_of_an_image() -> None:
    scores = SCORES["global"]
    changed = scores * torch.tensor([[2.0], [0.5], [9.0], [1.0]]) + torch.arange(4.0)[:, None]
    assert torch.allclose(standardise(changed), standardise(scores), atol=1e-5)


def test_standardise_of_one_class_or_equal_scores_is_zero() -> None:
    assert torch.equal(standardise(torch.tensor([[3.0], [-1.0]])), torch.zeros(2, 1))
    assert torch.equal(standardise(torch.full((2, 5), 0.7)).abs() < 1e-3, torch.ones(2, 5) > 0)


def test_fused_score_is_the_weighted_sum() -> None:
    weights = {"global_weight": 1.0, "local_weight": 0.5, "prototype_weight": 2.0}
    raw = fuse(SCORES, FusionConfig(kind="raw", **weights))
    expected = SCORES["global"] + 0.5 * SCORES["local"] + 2 * SCORES["prototype"]
    assert torch.allclose(raw, expected, atol=1e-6)
    parts = {name: standardise(scores) for name, scores in SCORES.items()}
    expected = parts["global"] + 0.5 * parts["local"] + 2 * parts["prototype"]
    fused = fuse(SCORES, FusionConfig(kind="standardised", **weights))
    assert torch.allclose(fused, expected, atol=1e-6)


def test_branches_that_are_missing_or_weigh_nothing_are_left_out() -> None:
    two = {"global": SCORES["global"], "local": SCORES["local"]}
    config = FusionConfig(kind="raw")
    assert torch.equal(fuse(two, config), SCORES["global"] + SCORES["local"])
    silent = {**SCORES, "local": torch.full((4, 6), torch.nan)}
    assert fuse(silent, FusionConfig(local_weight=0.0)).isfinite().all()
    with pytest.raises(ValueError, match="no branch"):
        fuse({"prototype": SCORES["prototype"]}, FusionConfig(prototype_weight=0.0))


STANDARDISED = FusionConfig(kind="standardised")


def test_few_classes_are_not_standardised() -> None:
    for classes in (1, 2, 4):
        few = {name: scores[:, :classes] for name, scores in SCORES.items()}
        assert torch.equal(fuse(few, STANDARDISED), fuse(few, FusionConfig(kind="raw")))
    few = {name: scores[:, :5] for name, scores in SCORES.items()}
    assert not torch.allclose(fuse(few, STANDARDISED), fuse(few, FusionConfig(kind="raw")))


def test_crops_count_by_their_weight_against_the_whole_image() -> None:
    whole, *crops = SCORES.values()
    config = FusionConfig(crop_weight=0.25)
    expected = 0.75 * whole + 0.25 * torch.maximum(*crops)
    assert torch.allclose(fuse_crops(whole, crops, config), expected)
    mean = FusionConfig(crops="mean", crop_weight=1.0)
    assert torch.allclose(fuse_crops(whole, crops, mean), (crops[0] + crops[1]) / 2)
    assert fuse_crops(whole, [], config) is whole
