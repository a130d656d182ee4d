from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch

from t2ipal.errors import UserError
from t2ipal.generation.diffusion.source import folder_digest, load_pipeline, locate


def test_a_folder_is_known_by_its_content(tiny: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny, copy)
    digest = folder_digest(tiny)
    assert digest.startswith("sha256:")
    assert locate(str(tiny)).revision == folder_digest(copy) == digest
    (copy / "README.md").write_text("not part of any component")
    (copy / "samples").mkdir()
    (copy / "samples/cat.txt").write_text("neither")
    assert folder_digest(copy) == digest
    weights = copy / "unet/diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    assert folder_digest(copy) != digest


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("miniatur", "did you mean 'miniature'"),
        ("/no/such/folder", "no such generator"),
        ("./nowhere", "no such generator"),
        ("a/b/c", "no such generator"),
        ("", "no such generator|model_index.json is missing"),
    ],
)
def test_what_is_no_generator(spec: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        locate(spec)


def test_folders_without_a_pipeline(tmp_path: Path, tiny: Path) -> None:
    with pytest.raises(UserError, match=r"model_index\.json is missing"):
        locate(str(tmp_path))
    checkpoint = tmp_path / "model.safetensors"
    checkpoint.write_bytes(b"")
    with pytest.raises(UserError, match="give the folder that save_pretrained"):
        locate(str(checkpoint))
    for content, sentence in (("{", "broken JSON"), ("[]", "expected a JSON object")):
        (tmp_path / "model_index.json").write_text(content)
        with pytest.raises(UserError, match=sentence):
            locate(str(tmp_path))
    with pytest.raises(UserError, match="a folder has no revisions"):
        locate(str(tiny), "main")


def test_incomplete_folders_and_unknown_classes(tiny: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny, copy)
    (copy / "unet/diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(UserError, match=r"cannot be loaded .*check that the folder is complete"):
        load_pipeline(locate(str(copy)), None, torch.float32)
    index = json.loads((tiny / "model_index.json").read_text())
    index["_class_name"] = "PipelineOfTheFuture"
    (copy / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="cannot be loaded"):
        load_pipeline(locate(str(copy)), None, torch.float32)


def test_a_class_that_auto_pipeline_does_not_know(tiny: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny, copy)
    index = json.loads((tiny / "model_index.json").read_text())
    index["_class_name"] = "StableDiffusionSAGPipeline"
    (copy / "model_index.json").write_text(json.dumps(index))
    pipe, source = load_pipeline(locate(str(copy)), None, torch.float32)
    assert type(pipe).__name__ == "StableDiffusionSAGPipeline"
    assert source.revision == folder_digest(copy)


def test_the_precision_reaches_the_weights(tiny: Path) -> None:
    pipe, _ = load_pipeline(locate(str(tiny)), None, torch.bfloat16)
    for part in (pipe.unet, pipe.vae, pipe.text_encoder):
        assert {parameter.dtype for parameter in part.parameters()} == {torch.bfloat16}


def test_a_hub_model_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    source = locate("nobody/nothing", "v1")
    assert (source.folder, source.revision) == (None, None)
    with pytest.raises(UserError, match="run: hf download nobody/nothing --revision v1"):
        load_pipeline(source, "v1", torch.float32)


def test_a_hub_model_in_the_cache(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache is filled by hand, the way the hub's client lays it out."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--somebody--tiny"
    shutil.copytree(tiny, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert locate("somebody/tiny").revision == commit
    assert locate("somebody/tiny", commit).revision == commit
    assert locate("somebody/tiny", "other").revision is None


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        ("GatedRepoError", "asks for its licence"),
        ("RepositoryNotFoundError", "is not on the hub, or is private"),
        ("RevisionNotFoundError", "at revision v1 is not on the hub"),
        ("RemoteEntryNotFoundError", r"has no model_index\.json"),
        ("HfHubHTTPError", "cannot be fetched"),
    ],
)
def test_what_the_hub_answers(monkeypatch: pytest.MonkeyPatch, error: str, sentence: str) -> None:
    kind = getattr(huggingface_hub.errors, error)

    def refuse(*args: object, **options: object) -> None:
        raise kind.__new__(kind)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(UserError, match=sentence):
        load_pipeline(locate("nobody/nothing"), "v1", torch.float32)


def test_without_diffusers(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(UserError, match=r"pip install 't2ipal\[generate\]'"):
        load_pipeline(locate(str(tiny)), None, torch.float32)
