from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from t2ipal.errors import UserError
from t2ipal.method.checkpoint import tuned_state
from t2ipal.method.head_config import HeadConfig
from t2ipal.method.items import ItemSet
from t2ipal.method.train_config import TrainConfig, VerifyConfig
from t2ipal.method.training import fit
from t2ipal.method.verification import doubtful, evidence, verified
from tiny_head import make_world, unit


def items(targets: list[list[int]]) -> ItemSet:
    count = len(targets)
    local = unit(count * 3, 8, seed=2).reshape(count, 3, 8)
    labels = torch.tensor(targets, dtype=torch.int8)
    return ItemSet(unit(count, 8, seed=1), local, None, labels, "image")


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**31), st.integers(0, 4))
def test_doubt_equals_the_loop(seed: int, patience: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(-1, 2, (6, 7), generator=generator)
    scores = torch.randint(0, 5, (6, 7), generator=generator).float()  # ties too
    missing, added = doubtful(targets, scores, patience)
    for row, values, m, a in zip(targets, scores, missing, added, strict=True):
        labels = [c for c in range(7) if row[c] == 1]
        absent = [c for c in range(7) if row[c] == 0]
        for c in range(7):
            above = sum(1 for other in absent if values[other] > values[c])
            few = max(0, min(patience, (len(absent) - 1) // 2))
            assert m[c] == (c in labels and above > few)
            asked = labels and all(values[c] > values[label] for label in labels)
            assert a[c] == bool(c in absent and asked)


# The first image lacks its second label, the second shows what nobody asked for, the third lacks
# its only label, the fourth is fine.
TARGETS = [[1, 1, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 1]]
SCORES = torch.tensor([[9.0, 0, 5, 6], [3, 1, 8, 2], [7, 0, 5, 5], [0, 3, 2, 1]])


def test_what_is_doubtful_becomes_unknown_and_what_has_no_label_goes() -> None:
    found = verified(items(TARGETS), SCORES, VerifyConfig(kind="unknown", patience=1))
    assert found.targets.tolist() == [[1, -1, 0, 0], [1, 0, -1, 0], [0, 1, 1, 1]]
    assert torch.equal(found.global_, items(TARGETS).global_[[0, 1, 3]])


def test_images_that_lack_a_label_are_dropped() -> None:
    found = verified(items(TARGETS), SCORES, VerifyConfig(kind="drop", patience=1))
    assert found.targets.tolist() == [[1, 0, -1, 0], [0, 1, 1, 1]]


def test_no_class_loses_its_last_image() -> None:
    unseen = items([[1, 0, 0], [1, 0, 0], [0, 1, 1]])
    scores = torch.tensor([[0.0, 5, 6], [0, 5, 6], [0, 5, 6]])
    for kind in ("unknown", "drop"):
        found = verified(unseen, scores, VerifyConfig(kind=kind, patience=0))
        assert (found.targets == 1).any(dim=0).all()
    # the only image of the second class lacks the first one, and stays for the second one's sake
    mixed = items([[1, 1], [1, 0]])
    scores = torch.tensor([[0.0, 5], [5, 0]])
    mixed_targets = mixed.targets.clone()
    mixed_targets[0, 1] = 1
    found = verified(mixed, scores, VerifyConfig(kind="drop", patience=0))
    assert (found.targets == 1).any(dim=0).all()


def test_switched_off_nothing_changes() -> None:
    same = items(TARGETS)
    assert verified(same, SCORES, VerifyConfig()) is same


def test_soft_labels_weigh_less_the_more_absent_classes_outscore_them() -> None:
    found = verified(items(TARGETS), SCORES, VerifyConfig(kind="soft", patience=2))
    expected = [
        [1, 2 / (2 + 2), 0, 0],
        [2 / (2 + 1), 0, -1, 0],
        [-1, 2 / (2 + 3), -1, -1],
        [0, 1, 1, 1],
    ]
    torch.testing.assert_close(found.targets, torch.tensor(expected))


def test_soft_labels_train_like_hard_ones_where_all_are_sure() -> None:
    world = make_world()
    drawn, valid = world.images(40, seed=1), world.images(20, seed=3)
    settings = TrainConfig(train_on="images", epochs=2, select="last")
    states = []
    for targets in (drawn.targets, drawn.targets.float()):
        head = world.head(HeadConfig())
        fit(head, [replace(drawn, targets=targets)], valid, settings)
        states.append(tuned_state(head))
    for name, tensor in states[0].items():
        torch.testing.assert_close(tensor, states[1][name])


def test_evidence_ranks_the_class_an_image_is_made_of() -> None:
    classes = unit(5, 8, seed=4)
    local = classes[:, None].expand(5, 3, 8)
    shown = ItemSet(classes, local, None, torch.eye(5, dtype=torch.int8), "image")
    scores = evidence(shown, classes, 1 / 40)
    assert torch.equal(scores.argmax(dim=1), torch.arange(5))
    torch.testing.assert_close(scores.mean(dim=1), torch.zeros(5), atol=1e-5, rtol=0)


def test_bad_values_are_named() -> None:
    with pytest.raises(UserError, match=r"VerifyConfig\.kind must be one of"):
        VerifyConfig(kind="delete")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"VerifyConfig\.patience must be a whole number"):
        VerifyConfig(patience=-1)
    with pytest.raises(UserError, match=r"verify\.patience must be at least 1 for"):
        VerifyConfig(kind="soft", patience=0)
