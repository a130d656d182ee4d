from __future__ import annotations

import dataclasses
import json
from dataclasses import asdict

import pytest

from t2ipal.errors import UserError, read_settings
from t2ipal.method.head_config import (
    AdapterConfig,
    FusionConfig,
    HeadConfig,
    HeatmapConfig,
    PromptConfig,
    PrototypeConfig,
)
from t2ipal.method.methods import METHOD_NAMES, method_config
from t2ipal.method.train_config import LossConfig, TrainConfig


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_survives_json(name: str) -> None:
    method = method_config(name)
    assert read_settings(HeadConfig, json.loads(json.dumps(asdict(method.head)))) == method.head
    if method.train is not None:
        read = read_settings(TrainConfig, json.loads(json.dumps(asdict(method.train))))
        assert read == method.train


def test_partial_mappings_keep_the_defaults() -> None:
    head = read_settings(HeadConfig, {"adapter": {"alpha": 2}})
    assert head == HeadConfig(adapter=AdapterConfig(alpha=2))
    assert read_settings(TrainConfig, {"loss": {"kind": "bce"}}).loss.pointwise


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"adaptor": {}}, r"unknown key 'head.adaptor' \(did you mean 'adapter'\?\)"),
        ({"adapter": {"alfa": 1}}, r"unknown key 'head\.adapter\.alfa' \(did you mean 'alpha'"),
        ({"adapter": "cache"}, r"head\.adapter must be a group of settings, not 'cache'"),
        ({"adapter": {"kind": "cash"}}, r"adapter\.kind must be one of none, class-cache, cache"),
        ({"prompts": {"context_tokens": 2.5}}, "whole number"),
    ],
)
def test_mappings_are_read_strictly(mapping: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_settings(HeadConfig, mapping, "head.{}".format)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: HeatmapConfig(image_temperature=-1.0),
            "image_temperature .* at least 1e-06",
        ),
        (
            lambda: HeatmapConfig(caption_temperature=0.0),
            "caption_temperature .* at least 1e-06",
        ),
        (lambda: HeatmapConfig(enabled="yes"), "true or false"),
        (lambda: PrototypeConfig(per_class=0), "at least 1, not 0; to leave prototypes out set"),
        (lambda: PrototypeConfig(temperature=float("nan")), "at least 1e-06"),
        (
            lambda: PrototypeConfig(temperature=-0.1),
            "Config.temperature .* at least 1e-06, not -0.1",
        ),
        (
            lambda: PrototypeConfig(start="kmeans"),
            r"Config.start .*did you mean 'k-means'",
        ),
        (lambda: PrototypeConfig(aggregation="soft-max"), "did you mean 'smooth-max'"),
        (lambda: AdapterConfig(selection="typicl"), "did you mean 'typical'"),
        (lambda: AdapterConfig(alpha=-1.0), "AdapterConfig.alpha .* at least 0"),
        (lambda: AdapterConfig(reduction=0), "AdapterConfig.reduction .* at least 1"),
        (lambda: AdapterConfig(per_class=0), "to leave the adapter out set adapter.kind to none"),
        (lambda: AdapterConfig(ratio=1.5), "from 0 to 1"),
        (lambda: AdapterConfig(beta="5"), "above 0, not '5'"),
        (lambda: PromptConfig(context_tokens=0), "at least 1"),
        (lambda: PromptConfig(start="phrases"), "did you mean 'phrase'"),
        (lambda: PromptConfig(class_names="keys"), "did you mean 'key'"),
        (lambda: PromptConfig(class_position="start"), "end, middle, front"),
        (lambda: FusionConfig(global_weight=-1.0), "at least 0"),
        (
            lambda: FusionConfig(global_weight=0, local_weight=0, prototype_weight=0),
            "at least one branch",
        ),
        (lambda: HeadConfig(logit_scale=0), "logit_scale .* above 0"),
        (lambda: HeadConfig(logit_scale=1e308), "logit_scale must be at most 1000000"),
        (lambda: LossConfig(kind="hinges"), "did you mean 'hinge'"),
        (lambda: LossConfig(margin=-1.0), "LossConfig.margin .* at least 0"),
        (lambda: LossConfig(negative_focus=-1.0), "LossConfig.negative_focus .* at least 0"),
        (lambda: TrainConfig(train_on="photos"), "captions, images, both"),
        (lambda: TrainConfig(caption_weight=1.5), "caption_weight .* from 0 to 1"),
        (lambda: TrainConfig(schedule="epoch"), "did you mean 'epochs'"),
        (lambda: TrainConfig(warmup_lr=-1e-5), "warmup_lr .* at least 0"),
        (lambda: TrainConfig(epochs=0), "epochs .* at least 1"),
        (lambda: TrainConfig(ema=1.0), "ema .* below 1"),
        (lambda: TrainConfig(lr_prompts=-1e-3), "lr_prompts .* at least 0"),
        (lambda: TrainConfig(seed=1), "unknown key 'TrainConfig.seed'"),  # it is the run's
    ],
)
def test_bad_values_say_what_is_wrong(make: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


def test_configurations_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        HeadConfig().logit_scale = 1.0
