"""Each equation against a loop, and what it promises beyond that."""

from __future__ import annotations

import math

import pytest
import torch

from t2ipal.method.equations import (
    _smooth_maximum,
    class_feature,
    fuse,
    fuse_crops,
    heatmap,
    local_score,
    similarity,
    standardise,
)
from t2ipal.method.head_config import FusionConfig
from tiny_head import unit

LOCAL, CLASSES = unit(3, 5, 8, seed=1), unit(4, 8, seed=2)
MASK = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 1, 0, 0], [0, 0, 0, 0, 1]], dtype=torch.bool)
TEMPERATURE = 0.1


def test_the_heatmap_and_what_it_pools_equal_the_loop() -> None:
    cosines = similarity(LOCAL, CLASSES)
    weights = heatmap(cosines, TEMPERATURE, MASK)
    scores, features = local_score(weights, cosines), class_feature(weights, LOCAL)
    for b in range(3):
        real = [p for p in range(5) if MASK[b, p]]
        for c in range(4):
            h = {p: sum(float(LOCAL[b, p, d] * CLASSES[c, d]) for d in range(8)) for p in real}
            total = sum(math.exp(h[p] / TEMPERATURE) for p in real)
            a = {p: math.exp(h[p] / TEMPERATURE) / total for p in real}
            for p in range(5):
                assert math.isclose(weights[b, p, c], a.get(p, 0.0), abs_tol=1e-6)
            assert math.isclose(scores[b, c], sum(a[p] * h[p] for p in real), abs_tol=1e-6)
            pooled = [sum(a[p] * float(LOCAL[b, p, d]) for p in real) for d in range(8)]
            length = math.sqrt(sum(x * x for x in pooled))
            for d in range(8):
                assert math.isclose(features[b, c, d], pooled[d] / length, abs_tol=1e-5)


def test_masked_positions_have_no_influence_at_all() -> None:
    disturbed = torch.where(MASK[..., None], LOCAL, 7.0)
    plain, other = similarity(LOCAL, CLASSES), similarity(disturbed, CLASSES)
    weights = heatmap(plain, TEMPERATURE, MASK)
    assert (weights[~MASK] == 0).all()
    assert torch.equal(heatmap(other, TEMPERATURE, MASK), weights)
    assert torch.equal(class_feature(weights, disturbed), class_feature(weights, LOCAL))


def test_temperature_goes_from_the_mean_to_the_maximum() -> None:
    cosines = similarity(LOCAL, CLASSES)
    cold = local_score(heatmap(cosines, 1e-4), cosines)
    hot = local_score(heatmap(cosines, 1e6), cosines)
    assert torch.allclose(cold, cosines.amax(dim=1), atol=1e-5)
    assert torch.allclose(hot, cosines.mean(dim=1), atol=1e-5)


def test_switched_off_it_is_the_mean_over_real_positions() -> None:
    cosines = similarity(LOCAL, CLASSES)
    weights = heatmap(cosines, math.inf, MASK)
    for b in range(3):
        mean = cosines[b, MASK[b]].mean(dim=0)
        assert torch.allclose(local_score(weights, cosines)[b], mean, atol=1e-6)
    features = class_feature(weights, LOCAL)
    assert torch.allclose(features, features[:, :1].expand_as(features), atol=1e-6)


def test_smooth_maximum_lies_between_mean_and_maximum() -> None:
    values = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)).double()
    smooth = _smooth_maximum(values, 0.5)
    assert (smooth >= values.mean(dim=1) - 1e-6).all() and (smooth <= values.amax(dim=1)).all()
    assert torch.allclose(_smooth_maximum(values, 1e-4), values.amax(dim=1), atol=1e-3)
    assert torch.allclose(_smooth_maximum(values, 1e4), values.mean(dim=1), atol=1e-3)
    assert torch.allclose(_smooth_maximum(values[:, :1], 0.5), values[:, 0], atol=1e-6)


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
