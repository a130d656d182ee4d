from __future__ import annotations

import math

import torch

from t2ipal.method.heatmap import (
    attention,
    class_features,
    local_score,
    similarity_map,
    uniform_attention,
)
from tiny_recognizer import unit

LOCAL, CLASSES = unit(3, 5, 8, seed=1), unit(4, 8, seed=2)
MASK = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 1, 0, 0], [0, 0, 0, 0, 1]], dtype=torch.bool)
TEMPERATURE = 0.1


def test_equals_the_loop() -> None:
    similarity = similarity_map(LOCAL, CLASSES)
    weights = attention(similarity, TEMPERATURE, MASK)
    scores, features = local_score(weights, similarity), class_features(weights, LOCAL)
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
    plain, other = similarity_map(LOCAL, CLASSES), similarity_map(disturbed, CLASSES)
    weights = attention(plain, TEMPERATURE, MASK)
    assert (weights[~MASK] == 0).all()
    assert torch.equal(attention(other, TEMPERATURE, MASK), weights)
    assert torch.equal(class_features(weights, disturbed), class_features(weights, LOCAL))


def test_temperature_goes_from_the_mean_to_the_maximum() -> None:
    similarity = similarity_map(LOCAL, CLASSES)
    cold = local_score(attention(similarity, 1e-4), similarity)
    hot = local_score(attention(similarity, 1e6), similarity)
    assert torch.allclose(cold, similarity.amax(dim=1), atol=1e-5)
    assert torch.allclose(hot, similarity.mean(dim=1), atol=1e-5)


def test_switched_off_it_is_the_mean_over_real_positions() -> None:
    similarity = similarity_map(LOCAL, CLASSES)
    weights = uniform_attention(similarity, MASK)
    for b in range(3):
        mean = similarity[b, MASK[b]].mean(dim=0)
        assert torch.allclose(local_score(weights, similarity)[b], mean, atol=1e-6)
    features = class_features(weights, LOCAL)
    assert torch.allclose(features, features[:, :1].expand_as(features), atol=1e-6)
