"""Unknown labels, which partial labels are made of, count neither as present nor as absent."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from t2ipal.method.adapter import _cache_values, _choose_bank, _label_counts
from t2ipal.method.checkpoint import tuned_state
from t2ipal.method.head import T2IPALHead
from t2ipal.method.head_config import AdapterConfig, HeadConfig, PromptConfig
from t2ipal.method.items import ItemSet
from t2ipal.method.methods import method_config
from t2ipal.method.train_config import LossConfig, TrainConfig
from t2ipal.method.training import fit
from tiny_head import CLASSES, make_world

WORLD = make_world()
IMAGES, CAPTIONS, VALID = WORLD.images(60, seed=1), WORLD.captions(60, seed=2), WORLD.images(40, 3)
PER_CLASS = PromptConfig(context_tokens=4, per_class=True)
FULL = HeadConfig(prompts=PER_CLASS, adapter=AdapterConfig(per_class=8))
DUAL = replace(method_config("dualcoop").head, prompts=replace(PER_CLASS, kind="dual"))
HIDDEN = 3


def hide(items: ItemSet, mask: torch.Tensor) -> ItemSet:
    return replace(items, targets=items.targets.masked_fill(mask, -1))


def of_each_class(head: T2IPALHead) -> dict[str, torch.Tensor]:
    """The tuned tensors that belong to one class each, class first."""
    state = tuned_state(head)
    return {
        name: tensor
        for name, tensor in state.items()
        if name.startswith(("prompts.", "prototypes."))
    }


@pytest.mark.parametrize("config", [FULL, DUAL], ids=["t2i-pal", "dualcoop"])
@pytest.mark.parametrize("loss", ["hinge", "pair-hinge", "log-sum-exp", "asymmetric", "bce"])
def test_a_class_that_is_unknown_everywhere_gets_no_gradient(config: HeadConfig, loss: str) -> None:
    """With contexts and prototypes of its own it stays as it was, to the bit; the others move."""
    head = WORLD.head(config).start(IMAGES)
    before = of_each_class(head)
    column = torch.arange(CLASSES) == HIDDEN
    # Captions show the class, or fit would refuse it, but have no weight.
    settings = TrainConfig(
        epochs=1, caption_weight=0.0, loss=LossConfig(kind=loss), weight_decay=0.0, select="last"
    )
    fit(head, [hide(IMAGES, column), CAPTIONS], VALID, settings)
    for name, after in of_each_class(head).items():
        same = (after == before[name]).flatten(start_dim=1).all(dim=1)
        assert same.tolist() == column.tolist(), name


def test_prototypes_start_from_known_labels_alone() -> None:
    mask = torch.rand(IMAGES.targets.shape, generator=torch.Generator().manual_seed(0)) < 0.3
    partly = hide(IMAGES, mask)
    taken = WORLD.head(FULL).start(partly).prototypes
    assert taken is not None
    head = WORLD.head(FULL).start(IMAGES)
    scores = head.scores(IMAGES.global_, IMAGES.local)
    shown = scores.heatmap.transpose(1, 2) @ IMAGES.local  # [N, C, D]
    shown = torch.nn.functional.normalize(shown, dim=-1)
    for index in range(CLASSES):
        rows = partly.targets[:, index] == 1
        assert 0 < rows.sum() < (IMAGES.targets[:, index] == 1).sum()
        mean = torch.nn.functional.normalize(shown[rows, index].mean(dim=0), dim=-1)
        assert torch.allclose(taken.vectors[index, 0], mean, atol=1e-5)


def test_an_unknown_label_counts_as_often_as_its_class_is_present() -> None:
    targets = torch.tensor([[1, 1, 0], [1, 0, 0], [1, -1, -1], [0, 1, 1], [1, -1, 0]])
    # The second class is present in 2 of 3 known labels, the third in 1 of 4.
    expected = [2, 1, 1 + 2 / 3 + 1 / 4, 2, 1 + 2 / 3]
    assert torch.allclose(_label_counts(targets.to(torch.int8)), torch.tensor(expected))
    known = targets.clamp_min(0).to(torch.int8)
    assert _label_counts(known).equal((known == 1).sum(dim=1).float())


def test_the_bank_takes_an_image_for_pure_only_where_it_is_known_to_be() -> None:
    """Known to show one class, not "one known to be shown": for absent, the first would win."""
    targets = torch.tensor([[1, -1, -1], [1, 0, 0], [1, 1, 1], [0, 1, 1]], dtype=torch.int8)
    for seed in range(5):
        assert 1 in _choose_bank(targets, 1, seed).tolist()
        assert 0 not in _choose_bank(targets, 1, seed).tolist()
    values = _cache_values(targets, "rows")
    assert values[1, 0] == 1 and values[2, 0] == pytest.approx(1 / 3)
    assert values[2, 0] < values[0, 0] < values[1, 0]
    assert (values[targets != 1] == 0).all()


def test_the_adapter_starts_with_counts_of_all_images_not_of_its_bank() -> None:
    mask = torch.rand(IMAGES.targets.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    partly = hide(IMAGES, mask)
    config = replace(FULL, adapter=AdapterConfig(kind="cache", per_class=2, values="rows"))
    adapter = WORLD.head(config).start(partly).adapter
    assert adapter is not None
    rows = torch.cdist(adapter.keys.detach(), IMAGES.global_.float()).argmin(dim=1)
    present = (partly.targets[rows] == 1).float()
    expected = present / _label_counts(partly.targets)[rows][:, None].clamp_min(1)
    assert torch.allclose(adapter.values, expected)
    assert len(rows) < len(IMAGES)
