from __future__ import annotations

import pytest
import torch

from t2ipal.method.items import ItemSet
from tiny_head import unit


def items(count: int = 4, positions: int = 3, mask: torch.Tensor | None = None) -> ItemSet:
    targets = torch.zeros(count, 2, dtype=torch.int8)
    return ItemSet(unit(count, 8), unit(count, positions, 8), mask, targets, "caption")


def test_join_pads_to_the_longest_and_keeps_order() -> None:
    short, long = items(2, 3), items(3, 5, torch.tensor([[True] * 4 + [False]] * 3))
    joined = ItemSet.join([short, long])
    assert joined.local.shape == (5, 5, 8) and joined.mask is not None
    assert joined.mask.tolist() == [[True] * 3 + [False] * 2] * 2 + [[True] * 4 + [False]] * 3
    assert torch.equal(joined.local[:2, :3], short.local)
    assert torch.equal(joined.global_[2:], long.global_)
    assert ItemSet.join([items(2), items(3)]).mask is None


def test_join_refuses_what_does_not_belong_together() -> None:
    image = ItemSet(unit(1, 8), unit(1, 3, 8), None, torch.zeros(1, 2, dtype=torch.int8), "image")
    with pytest.raises(ValueError, match="one kind"):
        ItemSet.join([items(), image])
    with pytest.raises(ValueError, match="one kind"):
        ItemSet.join([])


def test_take_keeps_the_rows_together() -> None:
    whole = items(4, 3, torch.eye(4, 3, dtype=torch.bool) | (torch.arange(3) == 2))
    part = whole.take(torch.tensor([3, 1]))
    assert part.mask is not None and whole.mask is not None
    for name in ("global_", "local", "mask", "targets"):
        assert torch.equal(getattr(part, name), getattr(whole, name)[[3, 1]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"global_": 2 * unit(4, 8)}, "global features are not L2-normalised"),
        ({"local": 2 * unit(4, 3, 8)}, "local features are not L2-normalised"),
        ({"local": unit(4, 3, 7)}, r"local features have shape \[4, 3, 7\]; expected \[4, P, 8\]"),
        ({"mask": torch.ones(4, 2, dtype=torch.bool)}, r"mask .* shape \[4, 2\]"),
        ({"mask": torch.zeros(4, 3, dtype=torch.bool)}, "no real position"),
        ({"targets": torch.zeros(3, 2)}, r"targets have shape \[3, 2\]; expected \[4, C\]"),
        ({"targets": torch.full((4, 2), 2)}, "1 .present., 0 .absent., between, or -1"),
        ({"kind": "photo"}, "kind must be image or caption"),
    ],
)
def test_bad_items_are_refused(change: dict[str, object], message: str) -> None:
    good = vars(items())
    with pytest.raises(ValueError, match=message):
        ItemSet(**{**good, **change})


def test_float16_features_are_unit_enough() -> None:
    good = items()
    ItemSet(good.global_.half(), good.local.half(), None, good.targets, "caption")
