from __future__ import annotations

import math

import pytest
import torch

from t2ipal.method.adapter import (
    Adapter,
    _bank_ranks,
    _cache_values,
    _choose_bank,
    some_of_each,
)
from t2ipal.method.head_config import AdapterConfig
from tiny_head import unit

GLOBAL = unit(3, 8, seed=1)
TARGETS = torch.tensor([[1, 0, 1], [0, 1, -1], [1, 1, 1], [0, 0, 1]], dtype=torch.int8)


def test_cache_equals_the_loop() -> None:
    config = AdapterConfig(kind="cache", alpha=0.7, beta=3.0)
    keys, values = 2 * unit(4, 8, seed=2), _cache_values(TARGETS, "balanced")
    with torch.no_grad():
        adapted, bonus = Adapter(config, {"keys": keys, "values": values})(GLOBAL)
    assert torch.equal(adapted, GLOBAL)
    assert bonus is not None
    for b in range(3):
        for c in range(3):
            total = 0.0
            for n in range(4):
                cosine = float(GLOBAL[b] @ keys[n] / keys[n].norm())
                total += math.exp(-3.0 * (1 - cosine)) * float(values[n, c])
            assert math.isclose(bonus[b, c], 0.7 * total, rel_tol=1e-4)


def test_class_cache_equals_the_loop() -> None:
    config = AdapterConfig(alpha=0.7, beta=3.0, per_class=2)
    z, present, absent = unit(4, 3, 8, seed=1), 2 * unit(3, 2, 8, seed=2), 3 * unit(3, 2, 8, seed=3)
    with torch.no_grad():
        found = Adapter(config, {"present": present, "absent": absent}).of_features(z)
    for b in range(4):
        for c in range(3):
            level = []
            for keys in (present[c], absent[c]):
                near = [math.exp(3.0 * float(z[b, c] @ key / key.norm())) for key in keys]
                level.append(math.log(sum(near) / 2) / 3.0)
            assert math.isclose(found[b, c], 0.7 * (level[0] - level[1]), abs_tol=1e-6)


def test_class_cache_starts_from_images_with_and_without_the_class() -> None:
    """Few images are keys themselves; a class that all of them show has nothing against it."""
    features = unit(6, 8, seed=4)
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    shown = torch.tensor([True, False, False, True, True, True])
    config = AdapterConfig(per_class=2)
    adapter = Adapter.start_with_classes(config, features, labels, shown, 2)
    assert torch.equal(adapter.present[0], features[[0, 0]])
    assert torch.equal(adapter.absent[0], features[[1, 2]])
    with torch.no_grad():
        found = adapter.of_features(features[:, None].expand(-1, 2, -1))
    assert found[0, 0] > 0 > found[1, 0]
    assert (found[:, 1] == 0).all()


def test_some_images_of_each_class_are_chosen_by_the_seed() -> None:
    targets = torch.tensor([[0, 1, -1]] * 90 + [[1, 0, 0]] * 10, dtype=torch.int8)
    chosen = some_of_each(targets == 0, 64)
    assert chosen.sum(dim=0).tolist() == [64, 10, 10]
    assert (targets[chosen] == 0).all()
    assert torch.equal(chosen, some_of_each(targets == 0, 64))
    assert not torch.equal(chosen, some_of_each(targets == 0, 64, seed=1))
    assert torch.equal(some_of_each(targets == 0, 100), targets == 0)


def test_projection_equals_the_loop() -> None:
    config = AdapterConfig(kind="projection", ratio=0.3, beta=4.0)
    keys = 2 * unit(5, 8, seed=2)
    with torch.no_grad():
        adapted, bonus = Adapter(config, {"keys": keys})(GLOBAL)
    assert bonus is None
    for g, found in zip(GLOBAL, adapted, strict=True):
        near = [math.exp(4.0 * float(g @ key / key.norm())) for key in keys]
        sum_ = sum(w / sum(near) * key / key.norm() for w, key in zip(near, keys, strict=True))
        blend = 0.3 * sum_ / sum_.norm() + 0.7 * g
        assert torch.allclose(found, blend / blend.norm(), atol=1e-6)


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_projection_goes_from_the_feature_to_the_nearest_image(ratio: float) -> None:
    keys = unit(5, 8, seed=2)
    config = AdapterConfig(kind="projection", ratio=ratio, beta=1e4)
    adapted, _ = Adapter(config, {"keys": keys})(GLOBAL)
    nearest = keys[(GLOBAL @ keys.T).argmax(dim=1)]
    assert torch.allclose(adapted, nearest if ratio else GLOBAL, atol=1e-5)


def test_values_count_present_labels_alone() -> None:
    rows = _cache_values(TARGETS, "rows")
    # The unknown label is of a class that every other image shows: the second shows two, it seems.
    expected = [[0.5, 0, 0.5], [0, 0.5, 0], [1 / 3, 1 / 3, 1 / 3], [0, 0, 1]]
    assert torch.allclose(rows, torch.tensor(expected))
    balanced = _cache_values(TARGETS, "balanced")
    assert torch.allclose(balanced.sum(dim=0), torch.ones(3))
    assert torch.allclose(balanced * rows.sum(dim=0), rows)


def test_bonus_does_not_grow_with_a_balanced_bank() -> None:
    config, keys = AdapterConfig(kind="cache"), unit(4, 8, seed=2)
    values = _cache_values(TARGETS, "balanced")
    _, once = Adapter(config, {"keys": keys, "values": values})(GLOBAL)
    doubled = _cache_values(TARGETS.repeat(2, 1), "balanced")
    _, twice = Adapter(config, {"keys": keys.repeat(2, 1), "values": doubled})(GLOBAL)
    assert once is not None and twice is not None
    assert torch.allclose(once, twice, atol=1e-6)


def test_bank_is_balanced_small_and_the_same_each_time() -> None:
    generator = torch.Generator().manual_seed(0)
    chances = torch.tensor([0.9, 0.4, 0.1, 0.05])
    targets = (torch.rand(400, 4, generator=generator) < chances).to(torch.int8)
    chosen = _choose_bank(targets, 8, seed=3)
    assert torch.equal(chosen, _choose_bank(targets, 8, seed=3))
    assert not torch.equal(chosen, _choose_bank(targets, 8, seed=4))
    assert torch.equal(chosen, chosen.unique())
    assert len(chosen) <= 4 * 8
    assert ((targets[chosen] == 1).sum(dim=0) >= 8).all()
    everything = _choose_bank(targets, 1000)
    assert torch.equal(everything, (targets == 1).any(dim=1).nonzero().squeeze(1))


def test_bank_prefers_images_that_show_little_else() -> None:
    targets = torch.tensor([[1, 1], [1, 0], [1, 1], [0, 1]], dtype=torch.int8)
    assert _choose_bank(targets, 1).tolist() == [1, 3]


def test_typical_images_are_the_nearest_to_the_mean_of_their_class() -> None:
    targets = torch.tensor([[1, 0], [1, 1], [1, 0], [0, 1], [1, -1]], dtype=torch.int8)
    features = unit(5, 8, seed=6)
    ranks = _bank_ranks("typical", features, targets)
    for c in range(2):
        shown = [n for n in range(5) if int(targets[n, c]) == 1]
        mean = [sum(float(features[n, d]) for n in shown) / len(shown) for d in range(8)]
        near = [sum(float(features[n, d]) * mean[d] for d in range(8)) for n in range(5)]
        order = sorted(range(5), key=lambda n: -near[n])
        assert ranks[:, c].argsort().tolist() == order
    chosen = _choose_bank(targets[:, :1], 2, 0, ranks[:, :1])
    best = sorted([n for n in ranks[:, 0].argsort().tolist() if n != 3][:2])
    assert chosen.tolist() == best


def test_selection_decides_which_images_make_the_bank() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = (torch.rand(60, 3, generator=generator) < 0.4).to(torch.int8)
    features, banks = unit(60, 8, seed=3), {}
    for selection in ("fewest-labels", "typical", "random"):
        config = AdapterConfig(kind="cache", selection=selection, per_class=4)
        for seed in (0, 1):
            adapter = Adapter.start(config, features, targets, seed)
            assert adapter is not None
            rows = torch.cdist(adapter.keys.detach(), features).argmin(dim=1)
            assert ((targets[rows] == 1).sum(dim=0) >= 4).all()
            banks[selection, seed] = rows.tolist()
    assert banks["typical", 0] == banks["typical", 1]
    assert banks["random", 0] != banks["random", 1]
    assert banks["fewest-labels", 0] != banks["typical", 0] != banks["random", 0]
    counts = {name: (targets[banks[name, 0]] == 1).sum(dim=1).float().mean() for name, _ in banks}
    assert counts["fewest-labels"] < counts["random"]


def test_a_typical_bank_does_not_depend_on_the_order_of_the_images() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = (torch.rand(40, 3, generator=generator) < 0.4).to(torch.int8)
    features, order = unit(40, 8, seed=3), torch.randperm(40, generator=generator)
    config = AdapterConfig(kind="cache", selection="typical", per_class=3)
    first = Adapter.start(config, features, targets)
    second = Adapter.start(config, features[order], targets[order])
    assert first is not None and second is not None
    with torch.no_grad():
        one, other = first(GLOBAL)[1], second(GLOBAL)[1]
    assert one is not None and other is not None
    assert torch.allclose(one, other, atol=1e-6)


def test_frozen_keys_ask_for_no_gradient() -> None:
    for learn in (True, False):
        config = AdapterConfig(kind="cache", learn_keys=learn, per_class=2)
        adapter = Adapter.start(config, unit(4, 8), TARGETS)
        assert adapter is not None
        assert [p.requires_grad for p in adapter.parameters()] == [learn]


def test_bottleneck_equals_the_loop() -> None:
    config = AdapterConfig(kind="bottleneck", ratio=0.3, reduction=4)
    adapter = Adapter.start(config, unit(4, 8), TARGETS, seed=1)
    assert adapter is not None
    with torch.no_grad():
        adapted, bonus = adapter(GLOBAL)
    assert bonus is None
    down, up = adapter.down.tolist(), adapter.up.tolist()
    assert len(down) == 2 and len(up) == 8
    for b in range(3):
        g = GLOBAL[b].tolist()
        hidden = [max(0.0, sum(w * x for w, x in zip(row, g, strict=True))) for row in down]
        out = [max(0.0, sum(w * x for w, x in zip(row, hidden, strict=True))) for row in up]
        mixed = [0.3 * o + 0.7 * x for o, x in zip(out, g, strict=True)]
        length = math.sqrt(sum(x * x for x in mixed))
        for d in range(8):
            assert math.isclose(adapted[b, d], mixed[d] / length, abs_tol=1e-5)


def test_no_adapter() -> None:
    assert Adapter.start(AdapterConfig(kind="none"), GLOBAL, TARGETS) is None
