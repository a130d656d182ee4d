"""What a tagger says of itself: its repr, its results' repr, its model card."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file, save_file

from conftest import TinyRun
from t2ipal.errors import UserError
from t2ipal.generation.store import read_manifest
from t2ipal.tagger.card import model_card
from t2ipal.tagger.tagger import Tagger
from t2ipal.tagger.tags import Tags


@pytest.fixture
def tagger(tiny_run: TinyRun) -> Tagger:
    found = Tagger.from_pretrained(tiny_run.folder / "model", device="cpu")
    found.about.pop("scores", None)
    return found


def test_a_tagger_says_what_it_is(tagger: Tagger):
    size = tagger.clip.backbone.image_size
    clip = f"CLIP {tagger.clip.backbone.spec} at {size} px"
    assert repr(tagger) == f"Tagger(t2i-pal, 6 classes, {clip}, cpu)"
    assert repr(tagger.vocabulary) == "Vocabulary('classes', 6 classes: dog, person, cat, ...)"
    tagger.model.crops = 2
    assert "px, 2 x 2 crops, cpu)" in repr(tagger)


def test_a_result_says_its_tags_best_first():
    probabilities, limits = np.array([0.2, 0.914, 0.5]), np.array([0.3, 0.9, 0.5])
    names = ("dog", "cat", "bus")
    tags = Tags(names, probabilities, limits, Path("a/b.jpg"))
    assert tags.tags == ["cat", "bus"]
    assert repr(tags) == "Tags(a/b.jpg: cat 0.91, bus 0.50)"
    assert tags == {"dog": 0.2, "cat": 0.914, "bus": 0.5} and tags["cat"] == 0.914
    assert tags.above(0.1) == tags.top(3) == ["cat", "bus", "dog"] and tags.top(1) == ["cat"]
    table = tags.to_pandas()
    assert list(table["class"]) == ["cat", "bus", "dog"] and list(table.tag) == [True, True, False]
    nothing = Tags(names, probabilities, np.ones(3))
    assert nothing.tags == [] and repr(nothing) == "Tags(image: no tag)"


def test_an_unreadable_image_has_no_tags(tagger: Tagger, tmp_path: Path):
    (tmp_path / "torn.png").write_bytes(b"\x89PNG")
    good = Image.new("RGB", (32, 32), (200, 90, 10))
    torn, read = tagger.stream([tmp_path / "torn.png", good])
    assert torn.error is not None and torn.tags == [] and torn.error in repr(torn)
    assert read.names == tagger.names and read.tags == tagger.tags(good)


def test_the_card_has_every_class_by_name_and_key_with_its_threshold(tagger: Tagger):
    text = model_card(tagger)
    limits = tagger.thresholds.thresholds
    for item, limit in zip(tagger.vocabulary.classes, limits, strict=True):
        assert f"| {item.readable} | {item.name} | {limit:.2f} |\n" in text
    assert "| city bus | bus | " in text
    for words in ("6 classes", "No annotated photo was used.", "| method | t2i-pal |", "torch "):
        assert words in text
    for section in ("How to use it", "How it was made", "Limits", "Licence"):
        assert f"\n## {section}\n" in text
    assert "{'" not in text and "Measured" not in text and " AP |" not in text
    tagger.about["real_images"] = "12 images"
    assert "Labelled real images were trained on too." in model_card(tagger)


def test_the_card_shows_text_and_does_what_none_of_it_says(tagger: Tagger):
    tagger.about["captions"] = "</title><script>alert(1)</script> [x](javascript:y)\n\n# ![z](//a)"
    tagger.about["generator"] = "a`<b>\n"
    text = model_card(tagger)
    assert "<script" not in text
    body = text.split("## How it was made")[1]
    assert not re.search(r"(?<!\\)\]\(", body)
    assert "&lt;script&gt;alert(1)&lt;/script&gt; \\[x\\](javascript:y) # !" in text
    assert "`a'<b>`" in text


def test_the_card_s_head_is_what_the_hub_reads(tagger: Tagger):
    head = yaml.safe_load(model_card(tagger).split("---\n")[1])
    assert head["library_name"] == "t2ipal" and head["pipeline_tag"] == "image-classification"
    assert head["tags"] == ["multi-label", "clip", "t2i-pal"] and "model-index" not in head
    assert ModelCard(model_card(tagger)).data.library_name == "t2ipal"


def test_measured_scores_stand_in_the_card_in_percent(tagger: Tagger):
    classes = {name: {"AP": 0.25} for name in tagger.names} | {"cat": {"AP": None}}
    tagger.about["scores"] = {
        "source": "my | photos",
        "images": 50,
        "mAP": 0.7634,
        "CF1": 0.5,
        "OF1": 0.4567,
        "classes": classes,
    }
    text = model_card(tagger)
    assert "On my \\| photos (50 images), in percent:" in text
    assert "| mAP | CF1 | OF1 |\n| ---: | ---: | ---: |\n| 76.3 | 50.0 | 45.7 |\n" in text
    assert "| class | key | threshold | AP |\n| --- | --- | ---: | ---: |\n" in text
    limits = dict(zip(tagger.names, tagger.thresholds.thresholds, strict=True))
    assert f"| city bus | bus | {limits['bus']:.2f} | 25.0 |\n" in text
    assert f"| cat | cat | {limits['cat']:.2f} | - |\n" in text
    results = ModelCard(text).data.eval_results
    assert [(r.metric_type, r.metric_value) for r in results] == [
        ("mAP", 76.3),
        ("CF1", 50.0),
        ("OF1", 45.7),
    ]
    tagger.about["scores"] = {"source": "my photos", "mAP": 0.7634}
    assert "On my photos, in percent:\n\n| mAP |\n| ---: |\n| 76.3 |\n" in model_card(tagger)


def test_the_card_is_written_beside_the_model(tiny_run: TinyRun, tmp_path: Path):
    found = Tagger.from_pretrained(tiny_run.folder / "model")
    found.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == model_card(found)
    file = tiny_run.folder / read_manifest(tiny_run.folder)[0].file
    assert found.tags(file) == Tagger.from_pretrained(tmp_path).tags(file)


def test_a_tagger_made_for_one_size_says_so_once(tagger: Tagger, caplog: pytest.LogCaptureFixture):
    photo, scene = Image.new("RGB", (40, 30)), Image.new("RGB", (8, 8))
    tagger.predict([photo, photo])
    assert not caplog.records  # most know images of any size
    tagger.about["made_for"] = {"images": "icon scenes, not photos", "size": [8, 8]}
    tagger.predict([scene, scene])
    assert not caplog.records
    tagger.predict([scene, photo, photo], batch_size=1)
    said = (
        "this tagger knows icon scenes, not photos, and images of 8 x 8 pixels alone: what it says "
        "of one of 40 x 30 means nothing"
    )
    assert caplog.messages == [said]
    tagger.tags(photo)
    assert caplog.messages == [said], "not again in a loop over photos"
    assert "- It knows icon scenes, not photos, and images of 8 x 8 pixels alone." in model_card(
        tagger
    )


def _changed(model: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of a model with another config.json."""
    copy = tmp_path / "changed"
    shutil.copytree(model, copy, dirs_exist_ok=True)
    config = json.loads((copy / "config.json").read_text())
    change(config)
    (copy / "config.json").write_text(json.dumps(config))
    return copy


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(crops="2"), "crops must be 0 .none. or at least 2 per side .*'2'"),
        (lambda c: c.update(crops=100), "at most 10, not 100"),
        (lambda c: c.update(about=[1]), "'about' must be a mapping"),
        (lambda c: c.update(backbone=3), "'backbone' must be a mapping"),
        (lambda c: c["backbone"].pop("digest"), "'digest' is missing"),
        (lambda c: c["backbone"].update(pool_positions="x"), "'pool_positions' must be true"),
        (lambda c: c["backbone"].update(image_size=10**5), "image_size must be at most 4096"),
        (lambda c: c["thresholds"].pop("dog"), "'dog' is a class or has thresholds, but not"),
        (lambda c: c["thresholds"].update(x=c["thresholds"]["dog"]), "'x' is a class or has"),
        (lambda c: c.update(head=[]), "'head' must be a mapping"),
        (lambda c: c["head"].update(logit_scale=1e308), "head.logit_scale must be at most 1000000"),
        (lambda c: c["head"]["fusion"].update(global_weight=1e39), "global_weight must be at most"),
        (
            lambda c: c["head"]["heatmap"].update(image_temperature=1e-320),
            "image_temperature must be a number of at least 1e-06, not 1e-320",
        ),
    ],
)
def test_a_model_that_says_what_cannot_be_is_refused(
    change: Any, said: str, tiny_run: TinyRun, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        Tagger.from_pretrained(_changed(tiny_run.folder / "model", tmp_path, change))


def test_thresholds_belong_to_classes_by_name(tagger: Tagger, tiny_run: TinyRun, tmp_path: Path):
    def turned(config: dict[str, Any]) -> None:
        config["thresholds"] = dict(reversed(config["thresholds"].items()))

    again = Tagger.from_pretrained(_changed(tiny_run.folder / "model", tmp_path, turned))
    assert again.thresholds == tagger.thresholds


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.tensor(float("nan")), "no numbers, or far too large"),
        (torch.tensor(float("inf")), "no numbers, or far too large"),
        (torch.tensor(3e38), "no numbers, or far too large"),
        (torch.tensor(1, dtype=torch.int64), "holds torch.int64, not torch.float32"),
        (torch.tensor(1, dtype=torch.float16), "holds torch.float16"),
        (torch.tensor(1, dtype=torch.complex64), "holds torch.complex64"),
    ],
)
def test_tensors_that_are_no_numbers_are_refused(
    value: torch.Tensor, said: str, tiny_run: TinyRun, tmp_path: Path
) -> None:
    folder = _changed(tiny_run.folder / "model", tmp_path, lambda config: None)
    for name in load_file(folder / "model.safetensors"):
        tensors = load_file(tiny_run.folder / "model" / "model.safetensors")
        tensors[name] = tensors[name].to(value.dtype)
        tensors[name].view(-1)[-1] = value
        save_file(tensors, folder / "model.safetensors")
        with pytest.raises(UserError, match=f"'{re.escape(name)}' {said}|{said}"):
            Tagger.from_pretrained(folder)
