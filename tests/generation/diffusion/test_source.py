from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch

from t2ipal.errors import UserError
from t2ipal.generation.diffusion.source import (
    _folder_digest,
    _most,
    _numbers,
    load_pipeline,
    locate,
)
from t2ipal.miniature.weights import path


def put_on_hub(cache: Path, folder: Path, repo: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Fill the hub's cache by hand, the way the hub's client lays it out, and cut the network."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = cache / f"models--{repo.replace('/', '--')}"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return commit


def test_a_folder_is_known_by_its_content(tiny: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny, copy)
    digest = _folder_digest(tiny)
    assert digest.startswith("sha256:")
    assert locate(str(tiny)).revision == _folder_digest(copy) == digest
    (copy / "README.md").write_text("not part of any component")
    (copy / "samples").mkdir()
    (copy / "samples/cat.txt").write_text("neither")
    assert _folder_digest(copy) == digest
    weights = copy / "unet/diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    assert _folder_digest(copy) != digest


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
    assert source.revision == _folder_digest(copy)


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
    commit = put_on_hub(tmp_path, tiny, "somebody/tiny", monkeypatch)
    assert locate("somebody/tiny").revision == commit
    assert locate("somebody/tiny", commit).revision == commit
    assert locate("somebody/tiny", "other").revision is None


def test_without_diffusers(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(UserError, match=r"pip install diffusers accelerate"):
        load_pipeline(locate(str(tiny)), None, torch.float32)


EVIL = """\
from pathlib import Path
Path({marker!r}).write_text("code of the generator was run")
from diffusers import DDIMScheduler, StableDiffusionPipeline
from transformers import CLIPTokenizer

class Scheduler(DDIMScheduler): ...
class Tokenizer(CLIPTokenizer): ...
class Pipeline(StableDiffusionPipeline): ...
"""
AUTO_MAP = {"AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"]}


def _class_name(index: dict[str, Any]) -> None:
    index["_class_name"] = ["evil", "Pipeline"]


def _custom_pipeline(index: dict[str, Any]) -> None:
    index["custom_pipeline"] = "evil"


def _scheduler(index: dict[str, Any]) -> None:
    index["scheduler"] = ["evil", "Scheduler"]


def _tokenizer(index: dict[str, Any]) -> None:
    index["tokenizer"] = ["evil", "Tokenizer"]


def _auto_tokenizer(index: dict[str, Any]) -> None:
    index["tokenizer"] = ["transformers", "AutoTokenizer"]


def _module_on_the_path(index: dict[str, Any]) -> None:
    index["scheduler"] = ["evil_elsewhere", "Scheduler"]


def _dotted(index: dict[str, Any]) -> None:
    index["scheduler"] = ["diffusers.evil", "Scheduler"]


@pytest.mark.parametrize("where", ["folder", "hub"])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_class_name, r"model_index\.json: _class_name must be the name"),
        (_custom_pipeline, r"model_index\.json: custom_pipeline names code"),
        (_scheduler, r"model_index\.json: scheduler names a class of 'evil'"),
        (_tokenizer, r"model_index\.json: tokenizer names a class of 'evil'"),
        (_auto_tokenizer, r"tokenizer_config\.json: auto_map names code"),
        (_module_on_the_path, r"model_index\.json: scheduler names a class of 'evil_elsewhere'"),
        (_dotted, r"model_index\.json: scheduler names a class of 'diffusers\.evil'"),
    ],
)
def test_code_of_a_generator_is_never_run(
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[dict[str, Any]], None],
    says: str,
    where: str,
) -> None:
    marker = tmp_path / "marker"
    code = EVIL.format(marker=str(marker))
    copy = tmp_path / "generator"
    shutil.copytree(tiny, copy)
    for place in (copy, copy / "scheduler", copy / "tokenizer"):
        (place / "evil.py").write_text(code)
    (tmp_path / "evil_elsewhere.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    index = json.loads((copy / "model_index.json").read_text())
    change(index)
    (copy / "model_index.json").write_text(json.dumps(index))
    settings = json.loads((copy / "tokenizer/tokenizer_config.json").read_text())
    settings = {**settings, "auto_map": AUTO_MAP}
    (copy / "tokenizer/tokenizer_config.json").write_text(json.dumps(settings))
    spec = str(copy)
    if where == "hub":
        spec = "somebody/evil"
        put_on_hub(tmp_path, copy, spec, monkeypatch)
    with pytest.raises(UserError, match=says) as caught:
        load_pipeline(locate(spec), None, torch.float32)
    assert "\n" not in str(caught.value)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("part", "key", "size"),
    [
        ("scheduler/scheduler_config.json", "num_train_timesteps", 10**9),
        ("scheduler/scheduler_config.json", "num_train_timesteps", 1e9),
        ("transformer/config.json", "sample_size", 10**6),
        ("transformer/config.json", "sample_size", 4000),  # as a table of positions
        ("transformer/config.json", "num_layers", 10**6),
        ("transformer/config.json", "caption_channels", 10**9),
        ("text_encoder/config.json", "num_hidden_layers", 10**6),
        ("text_encoder/config.json", "vocab_size", 10**9),
        ("vae/config.json", "decoder_layers_per_block", [0, 10**6, 1]),
    ],
)
def test_sizes_that_the_weights_do_not_have_are_refused_before_they_fill_the_memory(
    part: str, key: str, size: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "large"
    shutil.copytree(path("generator"), folder)
    config = json.loads((folder / part).read_text())
    (folder / part).write_text(json.dumps({**config, key: size}))
    with pytest.raises(UserError, match=rf"{part}: {key} is \d.* but must be at most") as caught:
        load_pipeline(locate(str(folder)), None, torch.float32)
    assert "\n" not in str(caught.value)


def test_sizes_of_known_models_are_let_through() -> None:
    stable_diffusion_3 = {
        "sample_size": 128, "patch_size": 2, "pos_embed_max_size": 192, "num_layers": 24,
        "num_attention_heads": 24, "attention_head_dim": 64,
    }  # fmt: skip
    shapes = [[1, 36864, 1536], *[[1536, 1536], [6144, 1536], [1536, 6144]] * 24]
    auraflow = {"pos_embed_max_size": 9216, "patch_size": 2, "num_mmdit_layers": 4}
    for config, weights in (
        (stable_diffusion_3, shapes),
        (auraflow, [[1, 9216, 3072], *[[3072, 12288]] * 36]),
        ({"rope_theta": 10**9, "eos_token_id": 2**21, "max_position_embeddings": 10**7}, [[1]]),
    ):
        for key, number in _numbers(config):
            assert abs(number) <= _most(key, "Transformer", config, weights), key


def test_a_pipeline_file_beside_the_index_is_not_run(tiny: Path, tmp_path: Path) -> None:
    """diffusers looks for the code of an unnamed custom pipeline in None.py."""
    marker = tmp_path / "marker"
    copy = tmp_path / "generator"
    shutil.copytree(tiny, copy)
    for name in ("None.py", "pipeline.py", "StableDiffusionPipeline.py"):
        (copy / name).write_text(EVIL.format(marker=str(marker)))
    with pytest.raises(UserError, match="contains custom code"):
        load_pipeline(locate(str(copy)), None, torch.float32)
    (copy / "None.py").unlink()
    load_pipeline(locate(str(copy)), None, torch.float32)
    assert not marker.exists()


def test_a_component_named_like_its_library_is_not_run(tiny: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    copy = tmp_path / "generator"
    shutil.copytree(tiny, copy)
    (copy / "scheduler/diffusers.py").write_text(EVIL.format(marker=str(marker)))
    with pytest.raises(UserError, match="scheduler names a class of 'diffusers'"):
        load_pipeline(locate(str(copy)), None, torch.float32)
    assert not marker.exists()


def test_pickled_weights_are_refused_and_converted_by_the_command(
    tiny: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "generator"
    pipe, _ = load_pipeline(locate(str(tiny)), None, torch.float32)
    shutil.copytree(tiny, copy)
    (copy / "unet/diffusion_pytorch_model.safetensors").unlink()
    torch.save(pipe.unet.state_dict(), copy / "unet/diffusion_pytorch_model.bin")
    with pytest.raises(UserError, match=r"model\.bin: pickled weights are not loaded") as caught:
        load_pipeline(locate(str(copy)), None, torch.float32)
    program, flag, code = shlex.split(str(caught.value).split("convert the pipeline: ")[1])
    assert (program, flag) == ("python", "-c")
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    again, _ = load_pipeline(locate(f"{copy}-safe"), None, torch.float32)
    weights = again.unet.state_dict()
    assert all(torch.equal(weights[key], value) for key, value in pipe.unet.state_dict().items())


def test_a_generator_in_the_hubs_cache_is_loaded(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = put_on_hub(tmp_path, tiny, "somebody/tiny", monkeypatch)
    pipe, source = load_pipeline(locate("somebody/tiny"), None, torch.float32)
    assert type(pipe).__name__ == "StableDiffusionPipeline"
    assert (source.folder, source.revision) == (None, commit)
