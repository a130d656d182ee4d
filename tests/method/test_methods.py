from __future__ import annotations

from dataclasses import replace

import pytest

from t2ipal.errors import UserError
from t2ipal.method.head_config import HeadConfig
from t2ipal.method.methods import METHOD_NAMES, method_config

FULL = method_config("t2i-pal")


def test_the_methods_a_table_needs_are_there() -> None:
    assert METHOD_NAMES[:4] == ("zero-shot", "clip-dpt", "tai-dpt", "t2i-pal")
    wanted = "no-adapter no-prototypes no-heatmap prompts-only captions images both"
    assert {f"t2i-pal/{name}" for name in wanted.split()} <= set(METHOD_NAMES)
    for name in METHOD_NAMES:
        assert method_config(name).name == name


def test_an_unknown_method_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"no method 't2i-pal/no-adaptor' \(did you mean 't2i-pal"):
        method_config("t2i-pal/no-adaptor")
    with pytest.raises(UserError, match="no method"):
        method_config("zero-shot/no-adapter")


def test_untrained_methods_use_fixed_prompts_and_nothing_from_images() -> None:
    for name in ("zero-shot", "clip-dpt", "clip-dpt/standardised"):
        method = method_config(name)
        assert method.train is None
        assert method.head.prompts.kind == "fixed" and not method.head.needs_images


def test_tai_dpt_has_the_published_constants() -> None:
    head, train = method_config("tai-dpt").head, method_config("tai-dpt").train
    assert train is not None and train.train_on == "captions"
    assert (train.loss.kind, train.loss.margin) == ("hinge", 1.0)
    assert (train.optimiser, train.momentum, train.weight_decay) == ("sgd", 0.9, 5e-4)
    assert 1 / head.heatmap.image_temperature == pytest.approx(40)
    assert 1 / head.heatmap.caption_temperature == pytest.approx(50)
    assert head.logit_scale == 4 and head.prompts.context_tokens == 16
    assert head.prompts.start == "random" and head.prompts.start_deviation == 0.02
    assert head.fusion.kind == "raw" and not head.needs_images
    assert (head.fusion.global_weight, head.fusion.local_weight) == (0.5, 0.5)


def test_the_full_method_is_the_default() -> None:
    assert FULL.head == HeadConfig()
    assert FULL.train is not None and FULL.train.train_on == "both"


def test_each_ablation_changes_its_part_alone() -> None:
    head = FULL.head
    parts = {
        "no-adapter": replace(head, adapter=replace(head.adapter, kind="none")),
        "no-prototypes": replace(head, prototypes=replace(head.prototypes, enabled=False)),
        "no-heatmap": replace(head, heatmap=replace(head.heatmap, enabled=False)),
        "standardised": replace(head, fusion=replace(head.fusion, kind="standardised")),
    }
    for name, expected in parts.items():
        method = method_config(f"t2i-pal/{name}")
        assert method.head == expected != head
        assert method.train == FULL.train
    for name in ("images", "both"):
        method = method_config(f"t2i-pal/{name}")
        assert method.train == replace(FULL.train, train_on=name)
        assert method.head == head
    captions, prompts = method_config("t2i-pal/captions"), method_config("t2i-pal/prompts-only")
    assert captions.train == replace(FULL.train, train_on="captions")
    assert captions.head == prompts.head and not captions.head.needs_images
    assert prompts.train == FULL.train
