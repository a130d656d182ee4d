"""Real architectures at random weights, and tiny local folders, each made once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch

from t2ipal.clip.backbone import Backbone
from t2ipal.clip.clip_settings import ClipSettings
from tiny_clip import build_tiny_clip, randomise_norms


def random_backbone(name: str, **options: Any) -> Backbone:
    """open_clip's model ``name`` at random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.create_model(name)
        randomise_norms(model)
    config = open_clip.get_model_config(name)
    tokenizer = open_clip.get_tokenizer(name)
    return Backbone(
        model, tokenizer, ClipSettings(clip=name, device="cpu"), config=config, **options
    )


@pytest.fixture(scope="session")
def rn50() -> Backbone:
    return random_backbone("RN50")


@pytest.fixture(scope="session")
def vit_b_32() -> Backbone:
    return random_backbone("ViT-B-32")


@pytest.fixture(scope="session")
def tiny_vit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_clip(tmp_path_factory.mktemp("clip") / "vit", "vit")


@pytest.fixture(scope="session")
def tiny_resnet_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_clip(tmp_path_factory.mktemp("clip") / "resnet", "resnet")


@pytest.fixture(scope="session")
def tiny_vit(tiny_vit_folder: Path) -> Backbone:
    return Backbone.load(ClipSettings(clip=str(tiny_vit_folder), device="cpu"))


@pytest.fixture(scope="session")
def tiny_resnet(tiny_resnet_folder: Path) -> Backbone:
    return Backbone.load(ClipSettings(clip=str(tiny_resnet_folder), device="cpu"))
