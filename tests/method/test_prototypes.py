from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from t2ipal.errors import UserError
from t2ipal.method.head_config import PrototypeConfig
from t2ipal.method.prototypes import (
    Prototypes,
    part,
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


SHOWN, classes_shown = unit(10, 8, seed=4), torch.tensor([0, 1, 2, 0, 1, 2, 0, 0, 1, 2])
TEXT, NAMES = unit(3, 8, seed=5), ("ant", "bee", "cat")


@pytest.mark.parametrize(("start", "count"), [("k-means", 1), ("mean", 1), ("mean", 3)])
def test_start_is_the_normalised_mean_of_what_shows_the_class(start: str, count: int) -> None:
    config = PrototypeConfig(start=start, per_class=count)
    vectors = start_prototypes(config, SHOWN, classes_shown, TEXT, NAMES)
    assert vectors.shape == (3, count, 8)
    for c in range(3):
        rows = [SHOWN[q].tolist() for q in range(10) if int(classes_shown[q]) == c]
        mean = torch.tensor([sum(column) / len(rows) for column in zip(*rows, strict=True)])
        assert torch.allclose(vectors[c, 0], mean / mean.norm(), atol=1e-6)


def test_start_from_the_centres_of_the_images_that_show_the_class() -> None:
    vectors = start_prototypes(PrototypeConfig(per_class=2), SHOWN, classes_shown, TEXT, NAMES)
    assert vectors.shape == (3, 2, 8)
    for c in range(3):
        assert torch.equal(vectors[c], spherical_kmeans(SHOWN[classes_shown == c], 2))


def test_start_from_the_text_needs_no_likeness_to_the_images() -> None:
    config = PrototypeConfig(start="text")
    assert torch.equal(start_prototypes(config, SHOWN, classes_shown, TEXT, NAMES)[:, 0], TEXT)
    assert torch.equal(start_prototypes(config, -SHOWN, classes_shown, TEXT, NAMES)[:, 0], TEXT)


@pytest.mark.parametrize("start", ["mean", "text"])
def test_several_prototypes_from_one_start_are_near_it_and_apart(start: str) -> None:
    """Equal ones would have equal gradients and never part."""
    config = PrototypeConfig(start=start, per_class=4)
    vectors = start_prototypes(config, SHOWN, classes_shown, TEXT, NAMES, seed=1)
    assert torch.equal(vectors, start_prototypes(config, SHOWN, classes_shown, TEXT, NAMES, seed=1))
    assert not torch.equal(
        vectors, start_prototypes(config, SHOWN, classes_shown, TEXT, NAMES, seed=2)
    )
    assert torch.allclose(vectors.norm(dim=-1), torch.ones(3, 4))
    cosines = vectors @ vectors.transpose(1, 2)  # [3, 4, 4]
    assert (cosines > 0.95).all()
    others = cosines[:, ~torch.eye(4, dtype=torch.bool)]
    assert (others < 0.9999).all()


def test_one_prototype_is_the_centre_alone() -> None:
    assert torch.equal(part(TEXT, 1, torch.Generator()), TEXT[:, None])


@pytest.mark.parametrize("start", ["k-means", "mean", "text"])
def test_a_class_without_image_is_named(start: str) -> None:
    config, names = PrototypeConfig(start=start), ("ant", "bee", "cat", "dog")
    features, labels = unit(4, 8, seed=4), torch.tensor([0, 2, 2, 0])
    with pytest.raises(UserError, match=r"no training image shows 'bee', 'dog'.*add captions"):
        start_prototypes(config, features, labels, unit(4, 8), names)
