"""A tagger goes to the hub and comes back the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from conftest import TinyRun
from loopback_hub import TOKEN, Fault, Hub
from t2ipal.cli import main
from t2ipal.clip.backbone import Backbone
from t2ipal.errors import UserError
from t2ipal.tagger.card import model_card
from t2ipal.tagger.tagger import Tagger

# what huggingface_hub's own upload of large files says of the client below it
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def tagger(tiny_run: TinyRun, hub: Hub) -> Tagger:
    """A tagger whose CLIP is on the hub, as far as it knows."""
    clip = Path(tiny_run.config.clip)
    config = json.loads((clip / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "org/clip"
    changed = {"open_clip_config.json": json.dumps(config).encode()}
    hub.add("org/clip", {path.name: path for path in clip.iterdir()} | changed)
    found = Tagger.from_pretrained(tiny_run.folder / "model", device="cpu")
    there = Backbone.load("hf-hub:org/clip")
    found.clip.backbone.spec, found.clip.backbone.digest = there.spec, there.digest
    found.about |= {"generator": "/home/somebody/generator", "captions": "captions.txt"}
    found.about["scores"] = {
        "source": "photos:/home/somebody/photos", "images": 24, "mAP": 0.5, "interval": [0.4, 0.6],
        "classes": {"dog": {"AP": 0.25}},
    }  # fmt: skip
    return found


def test_pushed_and_loaded_again_it_predicts_the_same(
    tagger: Tagger, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    expected = tagger.predict(image)
    commit = tagger.push_to_hub("org/tagger", private=True, token=TOKEN, license="apache-2.0")
    repository = hub.repositories["org/tagger"]
    assert commit == f"{hub.url}/org/tagger/commit/{repository.refs['main']}"
    assert repository.private
    with pytest.raises(UserError, match="is not on the hub, or is private"):
        Tagger.from_pretrained("org/tagger")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    again = Tagger.from_pretrained("org/tagger", device="cpu")
    assert again.predict(image) == expected
    assert again.names == tagger.names and again.about["license"] == "apache-2.0"
    files = repository.commits[repository.refs["main"]]
    assert set(files) == {".gitattributes", "README.md", "config.json", "model.safetensors"}
    assert not hub.tokens_at_the_store


def test_the_card_on_the_hub_is_complete_and_names_no_folder_of_this_machine(
    tagger: Tagger, hub: Hub
) -> None:
    tagger.push_to_hub("org/tagger", token=TOKEN, license="cc-by-4.0")
    repository = hub.repositories["org/tagger"]
    files = repository.commits[repository.refs["main"]]
    card, config = files["README.md"], files["config.json"]
    assert isinstance(card, bytes) and isinstance(config, bytes)
    assert b"/home/" not in card and b"/home/" not in config and b"/tmp/" not in config
    _, head, text = card.decode().split("---\n", 2)
    data = yaml.safe_load(head)
    assert data["license"] == "cc-by-4.0" and data["base_model"] == "org/clip"
    assert data["library_name"] == "t2ipal"
    assert data["pipeline_tag"] == "image-classification"
    assert data["model-index"][0]["results"][0]["metrics"][0]["value"] == 50.0
    for part in (
        'Tagger.from_pretrained("org/tagger")', "t2ipal predict org/tagger photo.jpg",
        "## Intended use", "## Classes", "## How it was made", "## Limits", "## Licence",
        "The 95 % interval of mAP is 40.0 to 60.0", "No annotated photo was used",
        "This model: cc-by-4.0.", "| generator | generator |",
    ):  # fmt: skip
        assert part in text, part
    assert tagger.about["generator"] == "/home/somebody/generator"  # the one here is as it was
    assert "Choose a licence" in model_card(tagger)


def test_revisions(tagger: Tagger, hub: Hub) -> None:
    tagger.push_to_hub("org/tagger", token=TOKEN)
    first = hub.repositories["org/tagger"].refs["main"]
    strict = [0.75] * len(tagger.names)
    tagger.thresholds = replace(tagger.thresholds, thresholds=tuple(strict))
    tagger.push_to_hub("org/tagger", token=TOKEN, revision="strict")
    assert hub.repositories["org/tagger"].refs["main"] == first

    def limits(name: str, **given: str) -> list[float]:
        return list(Tagger.from_pretrained(name, device="cpu", **given).thresholds.thresholds)

    assert limits("org/tagger", revision="strict") == limits("org/tagger@strict") == strict
    assert limits("org/tagger") == limits("org/tagger", revision=first) != strict
    with pytest.raises(UserError, match=r"has no revision 'v9' on the hub"):
        Tagger.from_pretrained("org/tagger", revision="v9")
    # a branch that moves is followed
    tagger.push_to_hub("org/tagger", token=TOKEN)
    assert limits("org/tagger") == strict


def test_what_cannot_be_pushed(
    tagger: Tagger, tiny_run: TinyRun, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=r"refuses the token \(401\); run: hf auth login"):
        tagger.push_to_hub("org/tagger")
    with pytest.raises(UserError, match="'a/b/c' is not on the hub, because it is no name"):
        tagger.push_to_hub("a/b/c", token=TOKEN)
    with hub.failing(Fault("^POST", 503)), pytest.raises(UserError, match="it answers 503"):
        tagger.push_to_hub("org/tagger", token=TOKEN)
    assert "org/tagger" not in hub.repositories
    assert main(["push", str(tiny_run.folder / "model"), "org/tagger"]) == 2
    assert "which nobody else has; put that on the hub first" in capsys.readouterr().err
    with pytest.raises(UserError, match="a folder has no revisions; leave out 'v1'"):
        Tagger.from_pretrained(tiny_run.folder / "model", revision="v1")


def test_push_and_predict_by_command(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The packaged tagger, whose CLIP everybody has."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert main(["push", "photo", "org/photo", "--private"]) == 0
    assert f"pushed to {hub.url}/org/photo/commit/" in capsys.readouterr().out
    Image.new("RGB", (64, 64), (9, 200, 30)).save(tmp_path / "a.png")
    said = []
    for model in ("photo", "org/photo"):
        assert main(["predict", model, str(tmp_path / "a.png"), "--top", "3"]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
