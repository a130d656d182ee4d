"""A CLIP that comes with code of its own, or with pickled weights: refused before anything runs."""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import load_file

from conftest import TinyRun
from loopback_hub import Hub
from t2ipal.cli import main
from t2ipal.clip import load as sources
from t2ipal.clip.backbone import Backbone
from t2ipal.errors import UserError

EVIL = """\
from pathlib import Path
Path({marker!r}).write_text("code of the model was run")
from transformers import PreTrainedTokenizerFast

class Tok(PreTrainedTokenizerFast):
    pass
"""


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the model's code would write; it must not be there after the test."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "marker"


@pytest.fixture
def evil(tmp_path: Path, tiny_vit_folder: Path, marker: Path) -> Path:
    """A CLIP whose tokenizer is code beside the weights, and whose configuration trusts it."""
    folder = tmp_path / "evil"
    shutil.copytree(tiny_vit_folder, folder)
    (folder / "evil.py").write_text(EVIL.format(marker=str(marker)))
    _edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Tok", "evil.Tok"]})
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"trust_remote_code": True}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


def _edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def _harmless_configuration(folder: Path, tiny_vit_folder: Path) -> None:
    shutil.copy(tiny_vit_folder / "open_clip_config.json", folder)


def test_a_folder_is_refused(evil: Path, marker: Path) -> None:
    with pytest.raises(UserError) as caught:
        Backbone.load(str(evil))
    said = str(caught.value)
    assert said.startswith(f"{evil / 'open_clip_config.json'}: ")
    assert "model_cfg.text_cfg.tokenizer_kwargs.trust_remote_code" in said and "\n" not in said
    with pytest.raises(UserError, match="trust_remote_code"):
        Backbone.load(f"local-dir:{evil}")
    assert not marker.exists()


def test_a_folder_with_a_harmless_configuration_is_refused_too(
    evil: Path, tiny_vit_folder: Path, marker: Path
) -> None:
    _harmless_configuration(evil, tiny_vit_folder)
    with pytest.raises(UserError, match=r"tokenizer_config\.json: auto_map names Python code"):
        Backbone.load(str(evil))
    # what AutoTokenizer also reads, if the tokenizer's own file says nothing of its class
    shutil.copy(tiny_vit_folder / "tokenizer_config.json", evil)
    names = {"AutoConfig": "evil.Config", "AutoTokenizer": ["evil.Tok", "evil.Tok"]}
    (evil / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": names}))
    settings = json.loads((evil / "tokenizer_config.json").read_text())
    del settings["tokenizer_class"]
    (evil / "tokenizer_config.json").write_text(json.dumps(settings))
    with contextlib.suppress(UserError):
        Backbone.load(str(evil))
    assert not marker.exists()


def test_the_commands_refuse_it(
    evil: Path,
    tmp_path: Path,
    marker: Path,
    tiny_run: TinyRun,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """``embed`` and ``run`` with the folder as their ``--clip``."""
    (tmp_path / "classes.yaml").write_text("- dog\n- cat\n")
    embed = ["embed", "--images", tiny_run.folder, "--clip", evil]
    embed += ["--features", tmp_path / "features"]
    run = ["run", "--classes", tmp_path / "classes.yaml", "--compose", 2, "--steps", 1]
    run += ["--generator", tiny_run.config.generator, "--clip", evil, "--out", tmp_path / "run"]
    for command in (embed, run):
        assert main([str(argument) for argument in command]) == 2
        assert "trust_remote_code" in capsys.readouterr().err
    assert not marker.exists()


@pytest.mark.parametrize("prefix", ["", "local-dir:"])
def test_a_tagger_that_names_it_is_refused(
    evil: Path, marker: Path, tmp_path: Path, tiny_run: TinyRun, prefix: str
) -> None:
    from t2ipal.tagger.tagger import Tagger

    model = tmp_path / "model"
    shutil.copytree(tiny_run.folder / "model", model)
    text = (model / "config.json").read_text()
    old, new = (json.dumps(spec) for spec in (tiny_run.config.clip, f"{prefix}{evil}"))
    assert old in text
    (model / "config.json").write_text(text.replace(old, new))
    with pytest.raises(UserError, match="trust_remote_code"):
        Tagger.from_pretrained(model)
    photo = tmp_path / "photo.png"
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(photo)
    assert main(["predict", str(model), str(photo)]) == 2
    assert not marker.exists()


@pytest.mark.parametrize("trusting", [True, False])
def test_a_hub_model_is_refused(
    evil: Path, tiny_vit_folder: Path, tmp_path: Path, hub: Hub, trusting: bool
) -> None:
    """Also one whose tokenizer's repository has the code."""
    config = json.loads((evil / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "org/name"
    hub.add("org/name", evil)
    if not trusting:
        del config["model_cfg"]["text_cfg"]["tokenizer_kwargs"]
        shutil.copy(tiny_vit_folder / "tokenizer_config.json", evil)
    (evil / "open_clip_config.json").write_text(json.dumps(config))
    hub.add("org/model", evil)
    refused = pytest.raises(UserError, match="trust_remote_code")
    # without trust, transformers may still know a class of its own for such a tokenizer
    with refused if trusting else contextlib.suppress(UserError):
        Backbone.load("hf-hub:org/model")
    assert not (tmp_path / "marker").exists()


def _set(*keys: str, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        *path, last = keys
        for key in path:
            config = config.setdefault(key, {})
        config[last] = to

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_set("text_cfg", "tokenizer_kwargs", "bpe_path", to="x"), r"tokenizer_kwargs\.bpe_path"),
        (_set("text_cfg", "tokenizer_kwargs", "reduction_mask", to="syntax"), "reduction_mask"),
        (_set("text_cfg", "tokenizer_kwargs", to=[1]), "tokenizer_kwargs must be a JSON object"),
        (_set("text_cfg", "invented", to=1), r"text_cfg\.invented"),
        (_set("vision_cfg", "invented", to=1), r"vision_cfg\.invented"),
        (_set("invented", to=1), r"model_cfg\.invented"),
        (_set("text_cfg", to=[]), "text_cfg must be a JSON object"),
        (_set("vision_cfg", to=None), "vision_cfg must be a JSON object"),
        (_set("vision_cfg", "timm_model_name", to="hf-hub:a/b"), "timm_model_name must be a plain"),
        (_set("vision_cfg", "timm_model_name", to="local-dir:/x"), "timm_model_name must be a pla"),
        (_set("text_cfg", "hf_tokenizer_name", to="/etc/x"), "hf_tokenizer_name must be a plain"),
        (_set("text_cfg", "hf_tokenizer_name", to={"a": 1}), "hf_tokenizer_name must be a plain"),
        (_set("text_cfg", "hf_model_name", to="evil/code"), "Hugging Face text tower"),
        (_set("multimodal_cfg", to={}), "CoCa"),
    ],
)
def test_only_known_keys_are_let_through(
    tmp_path: Path,
    tiny_vit_folder: Path,
    change: Callable[[dict[str, Any]], None],
    says: str,
) -> None:
    folder = tmp_path / "clip"
    shutil.copytree(tiny_vit_folder, folder)
    config = json.loads((folder / "open_clip_config.json").read_text())
    change(config["model_cfg"])
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=says) as caught:
        sources.find(str(folder))
    assert "\n" not in str(caught.value)


def test_known_keys_still_reach_the_tokenizer(tmp_path: Path, tiny_vit_folder: Path) -> None:
    folder = tmp_path / "clip"
    shutil.copytree(tiny_vit_folder, folder)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"clean": "canonicalize"}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    tokenizer = sources.find(str(folder)).load_tokenizer()
    assert tokenizer(["A, dog!"]).tolist() == tokenizer(["a dog"]).tolist()


def test_open_clips_own_models_say_nothing_else(tmp_path: Path) -> None:
    """The list of harmless keys has all that the models of open_clip need."""
    import open_clip

    from t2ipal.clip.model_folder import read_config

    for name in open_clip.list_models():
        path = tmp_path / "open_clip_config.json"
        path.write_text(json.dumps({"model_cfg": open_clip.get_model_config(name)}))
        assert read_config(path) == open_clip.get_model_config(name)


@pytest.mark.parametrize("name", ["open_clip_pytorch_model.bin", "weights.pt", "model.pth"])
def test_pickled_weights_are_refused_and_converted_by_the_command(
    tmp_path: Path, tiny_vit_folder: Path, name: str
) -> None:
    folder = tmp_path / "a clip"
    shutil.copytree(tiny_vit_folder, folder)
    safe = folder / "open_clip_model.safetensors"
    weights = load_file(safe)
    safe.unlink()
    torch.save({"state_dict": weights} if name == "weights.pt" else weights, folder / name)
    with pytest.raises(UserError, match="pickled weights are not loaded") as caught:
        Backbone.load(str(folder))
    command = str(caught.value).split("convert them: ")[1]
    program, flag, code = shlex.split(command)
    assert (program, flag) == ("python", "-c")
    subprocess.run([sys.executable, "-c", code], check=True)
    assert {k: v.tolist() for k, v in load_file(safe).items()} == {
        k: v.tolist() for k, v in weights.items()
    }
    Backbone.load(str(folder))


def test_a_pickle_beside_other_safetensors_is_not_taken_for_them(
    tmp_path: Path, tiny_vit_folder: Path
) -> None:
    """open_clip prefers open_clip_pytorch_model.bin to a file called model.safetensors."""
    folder = tmp_path / "clip"
    shutil.copytree(tiny_vit_folder, folder)
    (folder / "open_clip_model.safetensors").rename(folder / "model.safetensors")
    Backbone.load(str(folder))
    (folder / "open_clip_pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(UserError, match="pickled weights are not loaded"):
        Backbone.load(str(folder))


def test_a_file_of_pickled_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "epoch_1.pt").write_bytes(b"a pickle")
    with pytest.raises(UserError, match="pickled weights are not loaded"):
        sources.find(f"RN50:{tmp_path / 'epoch_1.pt'}")


@pytest.mark.parametrize(
    ("part", "key", "size"),
    [
        ("vision_cfg", "layers", 10_000),
        ("vision_cfg", "layers", [1, 1, 2**31, 1]),
        ("vision_cfg", "width", 10**6),
        ("text_cfg", "vocab_size", 10**9),
        ("text_cfg", "width", -(10**9)),
        ("text_cfg", "context_length", 1e30),
        ("vision_cfg", "image_size", 8192),
        ("text_cfg", "context_length", 8192),
    ],
)
def test_sizes_that_the_weights_do_not_have_are_refused_before_they_fill_the_memory(
    part: str, key: str, size: Any, tiny_vit_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "large"
    shutil.copytree(tiny_vit_folder, folder)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"][part][key] = size
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=f"{key} of model_cfg.{part} is .* weights are smaller"):
        sources.find(str(folder)).load()


@pytest.mark.parametrize(
    ("part", "sizes"),
    [
        ("vision_cfg", {"width": 4096, "layers": 60}),
        ("vision_cfg", {"image_size": 4096, "patch_size": 1}),
        ("vision_cfg", {"timm_model_name": "vit_giant_patch14_224", "timm_model_pretrained": True}),
        ("text_cfg", {"width": 4096, "layers": 30}),
        ("text_cfg", {"width": 4096, "mlp_ratio": 4096}),
    ],
)
def test_a_model_that_is_larger_than_its_weights_is_refused_before_it_fills_the_memory(
    part: str, sizes: dict[str, Any], tiny_vit_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "large"
    shutil.copytree(tiny_vit_folder, folder)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"][part] |= sizes
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"model_cfg is of a model of [\d,]+ numbers or more"):
        sources.find(str(folder)).load()


def test_a_tokenizer_that_cannot_pad_is_refused_when_it_is_loaded(
    tiny_vit_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "unpadded"
    shutil.copytree(tiny_vit_folder, folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    del settings["pad_token"]
    path.write_text(json.dumps(settings))
    with pytest.raises(UserError, match=r"tokenizer cannot be loaded .*pad"):
        sources.find(str(folder)).load_tokenizer()
