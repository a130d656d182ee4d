from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from t2ipal.method.head_config import PrototypeConfig
from t2ipal.method.prototypes import Prototypes, _with_neighbours, spherical_kmeans
from tiny_head import unit

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


SHOWN, classes_shown = unit(10, 8, seed=4), torch.tensor([0, 1, 2, 0, 1, 2, 0, 0, 1, 2])
TEXT = unit(3, 8, seed=5)


def started(config: PrototypeConfig, features: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return Prototypes.start(config, features, classes_shown, TEXT, seed).vectors.detach()


@pytest.mark.parametrize(("start", "count"), [("k-means", 1), ("mean", 1), ("mean", 3)])
def test_start_is_the_normalised_mean_of_what_shows_the_class(start: str, count: int) -> None:
    config = PrototypeConfig(start=start, per_class=count)
    vectors = started(config, SHOWN)
    assert vectors.shape == (3, count, 8)
    for c in range(3):
        rows = [SHOWN[q].tolist() for q in range(10) if int(classes_shown[q]) == c]
        mean = torch.tensor([sum(column) / len(rows) for column in zip(*rows, strict=True)])
        assert torch.allclose(vectors[c, 0], mean / mean.norm(), atol=1e-6)


def test_start_from_the_centres_of_the_images_that_show_the_class() -> None:
    vectors = started(PrototypeConfig(per_class=2), SHOWN)
    assert vectors.shape == (3, 2, 8)
    for c in range(3):
        assert torch.equal(vectors[c], spherical_kmeans(SHOWN[classes_shown == c], 2))


def test_start_from_the_text_needs_no_likeness_to_the_images() -> None:
    config = PrototypeConfig(start="text")
    assert torch.equal(started(config, SHOWN)[:, 0], TEXT)
    assert torch.equal(started(config, -SHOWN)[:, 0], TEXT)


@pytest.mark.parametrize("start", ["mean", "text"])
def test_several_prototypes_from_one_start_are_near_it_and_apart(start: str) -> None:
    """Equal ones would have equal gradients and never part."""
    config = PrototypeConfig(start=start, per_class=4)
    vectors = started(config, SHOWN, seed=1)
    assert torch.equal(vectors, started(config, SHOWN, seed=1))
    assert not torch.equal(vectors, started(config, SHOWN, seed=2))
    assert torch.allclose(vectors.norm(dim=-1), torch.ones(3, 4))
    cosines = vectors @ vectors.transpose(1, 2)  # [3, 4, 4]
    assert (cosines > 0.95).all()
    others = cosines[:, ~torch.eye(4, dtype=torch.bool)]
    assert (others < 0.9999).all()


def test_one_prototype_is_the_centre_alone() -> None:
    assert torch.equal(_with_neighbours(TEXT, 1, torch.Generator()), TEXT[:, None])
