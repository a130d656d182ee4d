"""Models of the hub: what is fetched, and one sentence for everything that goes wrong there."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import open_clip
import pytest
import torch
from huggingface_hub import constants

from hub_models import CLIPS, put_clips, put_generator
from loopback_hub import TOKEN, Content, Fault, Hub, files_of, serving
from t2ipal.cli import main
from t2ipal.clip.backbone import Backbone
from t2ipal.clip.load import find
from t2ipal.errors import UserError
from t2ipal.generation.diffusion.settings import Settings
from t2ipal.generation.diffusion.source import load_pipeline, locate
from t2ipal.generation.diffusion.text_to_image import TextToImage
from t2ipal.tagger.tagger import Tagger

SD = "stabilityai/sd-turbo"
CLIP = "timm/resnet50_clip.openai"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folders of repositories, made once; open_clip is told the sizes of what is in them."""
    folder = tmp_path_factory.mktemp("shelf")
    with pytest.MonkeyPatch.context() as patch, serving(folder / "cache") as hub:
        configs = open_clip.factory._MODEL_CONFIGS
        put_clips(hub, folder, lambda name, config: patch.setitem(configs, name, config))
        put_generator(hub, folder, SD)
        yield folder


@pytest.fixture
def stocked(hub: Hub, shelf: Path) -> Hub:
    """A hub with two CLIPs, a generator and a tagger."""
    for repo in CLIPS:
        hub.add(repo, shelf / repo)
    hub.add("org/clip", shelf / CLIP)
    put_generator(hub, shelf, SD)
    hub.add("org/tagger", {"config.json": b"{}", "model.safetensors": b"", "README.md": b""})
    return hub


def _generator() -> Any:
    return TextToImage.load(SD, settings=Settings(device="cpu"))


ROUTES: dict[str, tuple[str, Callable[[], Any]]] = {
    "a name of open_clip": (CLIP, lambda: Backbone.load("RN50:openai")),
    "hf-hub": ("org/clip", lambda: Backbone.load("hf-hub:org/clip")),
    "generator": (SD, _generator),
    "tagger": ("org/tagger", lambda: Tagger.from_pretrained("org/tagger")),
}
every_route = pytest.mark.parametrize("route", ROUTES)
STORE = r"^GET /[0-9a-f]{64}"  # files of weights


def _said(route: str) -> str:
    """The sentence that loading ends with."""
    with pytest.raises(UserError) as caught:
        ROUTES[route][1]()
    said = str(caught.value)
    assert "\n" not in said and said.endswith((".", '"'))
    return said


def _cached(pattern: str) -> list[str]:
    return sorted(path.name for path in Path(constants.HF_HUB_CACHE).rglob(pattern))


@every_route
def test_a_licence_that_must_be_accepted_is_named(
    stocked: Hub, route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = ROUTES[route][0]
    found = stocked.repositories[repo]
    card = b"---\nlicense: other\nlicense_name: open-rail\n---\n"
    files = {**found.commits[found.refs["main"]], "README.md": card}
    stocked.add(repo, files, gated=True)
    said = _said(route)
    page = f"{stocked.url}/{repo}"
    assert f"asks for its licence (open-rail) to be accepted on {page}; accept it" in said
    assert "run: hf auth login" in said
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert "which your token's account has not done" in _said(route)
    assert not _cached("*.safetensors")


@every_route
def test_what_is_not_on_the_hub(stocked: Hub, route: str) -> None:
    found = stocked.repositories.pop(ROUTES[route][0])
    assert "is not on the hub, or is private; check the name, or run: hf auth login" in _said(route)
    stocked.repositories[ROUTES[route][0]] = found
    found.private = True
    assert "is not on the hub, or is private" in _said(route)


@every_route
@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault(".", 500), "the hub is out of order (it answers 500); run the same command again"),
        (Fault(STORE, 503), "the hub is out of order (it answers 503)"),
        (Fault(".", 429, headers={"Retry-After": "1"}), "refuses so many requests (429); wait"),
        (Fault(STORE, 429), "refuses so many requests (429); wait"),
        (Fault(STORE, cut=0), "the connection to the hub broke (peer closed"),
    ],
    ids=["500 for ever", "503 for weights", "429 for ever", "429 for weights", "cut for ever"],
)
def test_a_hub_that_fails_is_one_sentence_and_leaves_nothing(
    stocked: Hub, route: str, fault: Fault, says: str
) -> None:
    if route == "tagger":
        stocked.add("org/tagger", {"config.json": b"{}", "model.safetensors": b"weights"})
    with stocked.failing(fault):
        assert says in _said(route)
    assert not _cached("*.safetensors") and not _cached("*.incomplete")


@pytest.mark.parametrize("route", [route for route in ROUTES if route != "tagger"])
@pytest.mark.parametrize(
    "fault",
    [
        Fault("open_clip|model_index", 429, times=2, headers={"Retry-After": "1"}),
        Fault(STORE, cut=1000, times=2),
    ],
    ids=["429", "cut"],
)
def test_what_passes_is_waited_for(stocked: Hub, route: str, fault: Fault) -> None:
    """Too many requests, and a connection that is cut in the middle of a file of weights."""
    times = fault.times
    with stocked.failing(fault):
        ROUTES[route][1]()
    assert fault.times == 0 and times
    fault.times = times


@every_route
def test_no_network(stocked: Hub, route: str) -> None:
    stocked.close()
    said = _said(route)
    assert "the hub cannot be reached (" in said
    assert "its files are not on this machine: where there is a network" in said
    assert f"run: hf download {ROUTES[route][0]}" in said


def test_what_is_in_the_cache_needs_no_network(stocked: Hub) -> None:
    clip, pipe = Backbone.load("RN50:openai"), _generator()
    stocked.close()
    assert Backbone.load("RN50:openai").digest == clip.digest
    assert _generator().revision == pipe.revision


def test_only_safetensors_are_fetched_and_no_second_copy(stocked: Hub) -> None:
    """Repositories hold the same weights as pickles, in half precision, and in a single file."""
    Backbone.load("RN50:openai")
    Backbone.load("hf-hub:org/clip")
    _generator()
    assert sorted(set(_cached("*.safetensors"))) == [
        "diffusion_pytorch_model.safetensors",
        "model.safetensors",
        "open_clip_model.safetensors",
    ]
    assert not _cached("*.bin") and not _cached("*.fp16*")
    assert not stocked.tokens_at_the_store


def test_the_token_stays_with_the_hub(stocked: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    stocked.repositories[CLIP].private = True
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    Backbone.load("RN50:openai")
    assert not stocked.tokens_at_the_store


@pytest.mark.parametrize("route", ["a name of open_clip", "hf-hub"])
def test_a_clip_of_pickled_weights_is_converted_by_the_command(
    stocked: Hub, shelf: Path, tmp_path: Path, route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = ROUTES[route][0]
    stocked.add(repo, _without_safetensors(shelf / CLIP))
    said = _said(route)
    assert "pickled weights are not loaded, because they can run code" in said
    fetch, convert = said.split("name the folder: ")[1].split(" && ")
    assert fetch == f"hf download {repo} --local-dir FOLDER"
    _download(repo, tmp_path / "FOLDER")
    monkeypatch.chdir(tmp_path)
    program, flag, code = shlex.split(convert)
    assert (program, flag) == ("python", "-c")
    exec(code)
    Backbone.load("FOLDER")


def test_a_generator_of_pickled_weights_is_converted_by_the_command(
    hub: Hub, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(SD, _without_safetensors(shelf / SD))
    said = _said("generator")
    assert "its weights are pickled, which are not loaded, because they can run code" in said
    fetch, convert = said.split("give FOLDER-safe: ")[1].split(" && ")
    assert fetch == f"hf download {SD} --local-dir FOLDER"
    _download(SD, tmp_path / "FOLDER")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=re.escape(convert)):
        load_pipeline(locate("FOLDER"), None, torch.float32)
    exec(shlex.split(convert)[2])
    load_pipeline(locate("FOLDER-safe"), None, torch.float32)


def _without_safetensors(folder: Path) -> dict[str, Content]:
    return {name: file for name, file in files_of(folder).items() if ".safetensors" not in name}


def _download(repo: str, folder: Path) -> None:
    """What ``hf download REPO --local-dir FOLDER`` does."""
    huggingface_hub.snapshot_download(repo, local_dir=folder)


def test_a_tag_says_how_its_photos_are_prepared(
    stocked: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """open_clip knows it of the tag, not of the file of weights that it is given."""
    tags = open_clip.pretrained._PRETRAINED["RN50"]
    other = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "interpolation": "bilinear"}
    monkeypatch.setitem(tags, "odd", {**tags["openai"], **other, "resize_mode": "squash"})
    expected = open_clip.create_model("RN50", "odd").visual.preprocess_cfg
    assert expected["mean"] == other["mean"] and expected["resize_mode"] == "squash"
    assert find("RN50:odd").load()[0].visual.preprocess_cfg == expected


def test_a_revision_that_moved(hub: Hub, shelf: Path) -> None:
    """A branch is followed, a commit is kept, and without a network the last one is taken."""
    first = hub.add(SD, shelf / SD)
    assert load_pipeline(locate(SD), None, torch.float32)[1].revision == first
    card = {"README.md": b"a new card"}
    second = hub.add(SD, {**hub.repositories[SD].commits[first], **card})
    assert second != first
    assert locate(SD).revision == first  # as far as this machine knows
    assert load_pipeline(locate(SD), None, torch.float32)[1].revision == second
    assert load_pipeline(locate(SD, first), first, torch.float32)[1].revision == first
    with pytest.raises(UserError, match=r"has no revision 'v9' on the hub; check http"):
        load_pipeline(locate(SD, "v9"), "v9", torch.float32)
    with pytest.raises(UserError, match=r"hf-hub:org/x@v9: the repository has no revision 'v9'"):
        hub.add("org/x", {"README.md": b""})
        find("hf-hub:org/x@v9")


@pytest.mark.parametrize("part", ["scheduler", "tokenizer"])
def test_code_in_a_repository_is_not_even_fetched(hub: Hub, shelf: Path, part: str) -> None:
    files = files_of(shelf / SD)
    index = json.loads(files["model_index.json"].read_text())
    index[part] = ["evil", "Part"]
    code = b"raise SystemExit('the code of the model was run')"
    changed = {"model_index.json": json.dumps(index).encode(), f"{part}/evil.py": code}
    hub.add(SD, files | changed)
    with pytest.raises(UserError, match=f"{part} names a class of 'evil'"):
        _generator()
    assert not _cached("*.py") and not _cached("*.safetensors")


def test_the_commands_end_with_status_2_and_write_nothing(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    captions = tmp_path / "captions.jsonl"
    row = {"id": "1", "caption": "a dog", "labels": ["dog"], "unknown": [], "matches": {}}
    captions.write_text(json.dumps(row) + "\n")
    out = str(tmp_path / "out")
    run = ["run", "--classes", "voc2007", "--compose", "5", "--clip", "RN50:openai", "--out", out]
    generate = ["generate", "--labelled-captions", str(captions), "--preset", "flux", "--out", out]
    with hub.failing(Fault(".", 500)):
        for command in (run, generate, ["predict", "org/tagger", "examples/photos"]):
            assert main(command) == 2, command
            assert "the hub is out of order (it answers 500)" in capsys.readouterr().err
    left = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not [path for path in left if path.suffix not in (".yaml", ".txt", ".lock")], left


def test_the_environment_names_the_hub(shelf: Path, hub: Hub, tmp_path: Path) -> None:
    """HF_ENDPOINT, as a user sets it, in a process of its own: ``hf download``, then a run."""
    hub.add(CLIP, shelf / CLIP)
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    with pytest.raises(UserError) as caught, pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        find("RN50:openai")
    command = str(caught.value).split("run: ")[1].rstrip(".")
    hf, *arguments = shlex.split(command)
    program = Path(sys.executable).with_name(hf)
    subprocess.run([program, *arguments], check=True, env=environment, capture_output=True)
    assert list((tmp_path / "home").rglob("open_clip_model.safetensors"))
