"""Specifications: found with their weights, or refused with one sentence that helps."""

from __future__ import annotations

import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from huggingface_hub import constants

from t2ipal.clip import load as sources
from t2ipal.clip.backbone import Backbone
from t2ipal.errors import UserError


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No network, and a hub cache of our own."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def put_on_hub(cache: Path, folder: Path, repo: str, commit: str, ref: str = "main") -> Path:
    """Lay a folder into the hub's cache as a download would."""
    root = cache / f"models--{repo.replace('/', '--')}"
    snapshot = root / "snapshots" / commit
    shutil.copytree(folder, snapshot)
    (root / "refs").mkdir(exist_ok=True)
    (root / "refs" / ref).write_text(commit)
    # a download also notes what the repository does not have; transformers asks for this one
    absent = root / ".no_exist" / commit
    absent.mkdir(parents=True)
    (absent / "config.json").touch()
    return snapshot


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("RN500:openai", r"neither a folder nor a model of open_clip \(did you mean 'RN50'\?\)"),
        ("some/where/else", "neither a folder"),
        ("local-dir:some/where/else", "no such folder"),
        ("RN50", "RN50:openai"),
        ("RN50:opanai", "did you mean 'openai'"),
        ("ViT-B/16:laion", "open_clip has no weights 'laion' for ViT-B-16"),
        ("coca_ViT-B-32:laion2b_s13b_b90k", "CoCa"),
        ("roberta-ViT-B-32:laion2b_s12b_b32k", "Hugging Face text tower"),
        ("hf-hub:", "not on the hub"),
        ("hf-hub:a/b/c", "not on the hub"),
    ],
)
def test_unknown_models(spec: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        sources.find(spec)
    assert "\n" not in str(caught.value)


def test_missing_weights_name_the_command_that_fetches_them() -> None:
    with pytest.raises(UserError) as caught:
        Backbone.load("RN50:openai")
    said = str(caught.value)
    assert "HF_HUB_OFFLINE" in said and "\n" not in said
    assert said.endswith("hf download timm/resnet50_clip.openai open_clip_model.safetensors.")

    with pytest.raises(UserError) as caught:
        Backbone.load("hf-hub:org/name")
    said = str(caught.value)
    assert "HF_HUB_OFFLINE" in said and "run: hf download org/name" in said


@torch.no_grad()
def test_hub_model_from_the_cache(offline: Path, tiny_vit_folder: Path, tiny_vit: Backbone) -> None:
    first = put_on_hub(offline, tiny_vit_folder, "org/name", "1" * 40)
    # the tokenizer of a hub model is read from the repository that the configuration names
    config = (first / "open_clip_config.json").read_text()
    named = config.replace('"tokenizer.json"', '"org/name"')
    (first / "open_clip_config.json").write_text(named)
    backbone = Backbone.load("hf-hub:org/name")
    pixels = torch.randn(1, 3, 64, 64)
    assert torch.equal(backbone.encode_image(pixels).global_, tiny_vit.encode_image(pixels).global_)
    assert torch.equal(backbone.tokenize(["a dog"]), tiny_vit.tokenize(["a dog"]))


def test_hub_revisions_are_honoured(
    offline: Path, tiny_vit_folder: Path, tiny_resnet_folder: Path
) -> None:
    put_on_hub(offline, tiny_vit_folder, "org/name", "1" * 40)
    put_on_hub(offline, tiny_resnet_folder, "org/name", "2" * 40, ref="v2")
    assert sources.find("hf-hub:org/name").load()[1]["vision_cfg"]["layers"] == 3
    assert sources.find("hf-hub:org/name@v2").load()[1]["vision_cfg"]["layers"] == [1, 1, 1, 1]
    with pytest.raises(UserError, match="files are not on this machine"):
        sources.find("hf-hub:org/name@v3")


def test_hub_model_without_weights_is_refused(offline: Path, tiny_vit_folder: Path) -> None:
    snapshot = put_on_hub(offline, tiny_vit_folder, "org/name", "1" * 40)
    (snapshot / "open_clip_model.safetensors").unlink()
    with pytest.raises(UserError, match="files are not on this machine"):
        sources.find("hf-hub:org/name")


def test_a_tag_may_be_a_file_of_weights(
    tmp_path: Path, tiny_vit_folder: Path, tiny_vit: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the tiny model as if it were one of open_clip's own
    configs = open_clip.factory._MODEL_CONFIGS
    config = open_clip.get_model_config(f"local-dir:{tiny_vit_folder}")
    config["text_cfg"]["hf_tokenizer_name"] = str(tiny_vit_folder)
    monkeypatch.setitem(configs, "tiny", config)
    file = tiny_vit_folder / "open_clip_model.safetensors"
    backbone = Backbone.load(f"tiny:{file}")
    assert torch.equal(backbone.model.visual.proj, tiny_vit.model.visual.proj)
    with pytest.raises(UserError, match="no such file"):
        Backbone.load(f"tiny:{tmp_path}/absent.pt")


def test_openai_weights_get_quickgelu(
    tmp_path: Path, tiny_vit_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = open_clip.get_model_config(f"local-dir:{tiny_vit_folder}")
    config["text_cfg"]["hf_tokenizer_name"] = str(tiny_vit_folder)
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", config)
    file = str(tiny_vit_folder / "open_clip_model.safetensors")
    tags = {"plain": {"file": file}, "openai": {"file": file, "quick_gelu": True}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny", tags)
    plain, quick = Backbone.load("tiny:plain"), Backbone.load("tiny:openai")
    kinds = {type(m).__name__ for m in quick.model.modules()}
    assert "QuickGELU" in kinds and "GELU" not in kinds
    assert "QuickGELU" not in {type(m).__name__ for m in plain.model.modules()}
    assert plain.digest != quick.digest
