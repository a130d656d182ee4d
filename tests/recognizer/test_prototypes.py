from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from t2ipal.errors import UserError
from t2ipal.recognizer.config import PrototypeConfig
from t2ipal.recognizer.prototypes import (
    Prototypes,
    smooth_maximum,
    spherical_kmeans,
    start_prototypes,
)
from tiny_recognizer import unit

FEATURES, VECTORS = unit(2, 4, 8, seed=1), 3 * unit(4, 3, 8, seed=2)


@pytest.mark.parametrize("aggregation", ["smooth-max", "max", "mean"])
def test_score_equals_the_loop(aggregation: str) -> None:
    config = PrototypeConfig(per_class=3, aggregation=aggregation, temperature=0.2)
    scores = Prototypes(config, VECTORS)(FEATURES).detach()
    for b in range(2):
        for c in range(4):
            cosines = []
            for k in range(3):
                length = math.sqrt(sum(float(x) ** 2 for x in VECTORS[c, k]))
                product = sum(float(FEATURES[b, c, d] * VECTORS[c, k, d]) for d in range(8))
                cosines.append(product / length)
            expected = {
                "smooth-max": 0.2 * math.log(sum(math.exp(x / 0.2) for x in cosines) / 3),
                "max": max(cosines),
                "mean": sum(cosines) / 3,
            }[aggregation]
            assert math.isclose(scores[b, c], expected, abs_tol=1e-5)


def test_smooth_maximum_lies_between_mean_and_maximum() -> None:
    values = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)).double()
    smooth = smooth_maximum(values, 0.5)
    assert (smooth >= values.mean(dim=1) - 1e-6).all() and (smooth <= values.amax(dim=1)).all()
    assert torch.allclose(smooth_maximum(values, 1e-4), values.amax(dim=1), atol=1e-3)
    assert torch.allclose(smooth_maximum(values, 1e4), values.mean(dim=1), atol=1e-3)
    assert torch.allclose(smooth_maximum(values[:, :1], 0.5), values[:, 0], atol=1e-6)


def test_kmeans_finds_separated_groups_in_any_order() -> None:
    centres = torch.eye(8)[:3]
    noise = 0.05 * torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    points = F.normalize(centres.repeat(20, 1) + noise, dim=-1)
    for order in (torch.arange(60), torch.randperm(60)):
        found = spherical_kmeans(points[order], 3)
        assert torch.allclose(found.norm(dim=-1), torch.ones(3))
        cosines = found @ centres.T
        assert sorted(cosines.argmax(dim=1).tolist()) == [0, 1, 2]
        assert (cosines.amax(dim=1) > 0.99).all()


def test_kmeans_repeats_points_where_there_are_too_few() -> None:
    points = unit(2, 8, seed=3)
    assert torch.equal(spherical_kmeans(points, 5), points[[0, 1, 0, 1, 0]])


def test_start_is_the_normalised_mean_of_what_shows_the_class() -> None:
    features, labels = unit(10, 8, seed=4), torch.tensor([0, 1, 2, 0, 1, 2, 0, 0, 1, 2])
    start = start_prototypes(features, labels, 1, ("ant", "bee", "cat"))
    assert start.shape == (3, 1, 8)
    for c in range(3):
        mean = features[labels == c].mean(dim=0)
        assert torch.allclose(start[c, 0], mean / mean.norm(), atol=1e-6)
    assert start_prototypes(features, labels, 2, ("ant", "bee", "cat")).shape == (3, 2, 8)


def test_a_class_without_image_is_named() -> None:
    features, labels = unit(4, 8, seed=4), torch.tensor([0, 2, 2, 0])
    with pytest.raises(UserError, match=r"no training image shows 'bee', 'dog'.*add captions"):
        start_prototypes(features, labels, 1, ("ant", "bee", "cat", "dog"))
