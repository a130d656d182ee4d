"""The packaged photo CLIP: loaded like any other, its features by the formula, its words."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from t2ipal.clip import class_prompts
from t2ipal.clip import photo_clip as photo
from t2ipal.clip.backbone import Backbone
from t2ipal.clip.class_prompts import class_ensemble, class_tokens
from t2ipal.clip.load import why_not_here
from t2ipal.errors import UserError
from t2ipal.method.head_config import PromptConfig
from t2ipal.method.prompts import LearnedPrompts
from t2ipal.vocabulary import Vocabulary

GOLDEN = Path(__file__).with_name("photo_golden.npz")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone.load("photo")


@pytest.fixture(scope="module")
def pixels(backbone: Backbone) -> torch.Tensor:
    """Two made pictures: a disc on a gradient, and stripes."""
    y, x = np.mgrid[0:200, 0:300] / 200
    disc = np.where(
        ((x - 0.7) ** 2 + (y - 0.5) ** 2 < 0.1)[..., None], (220, 60, 40), (90, 140, 200)
    )
    stripes = np.repeat((np.sin(40 * x) > 0)[..., None], 3, 2) * 255
    images = [Image.fromarray(np.uint8(array)) for array in (disc + 20 * y[..., None], stripes)]
    return torch.stack([backbone.preprocess(image) for image in images])


def test_it_is_here_and_small() -> None:
    assert why_not_here("photo") is None
    size = sum(file.stat().st_size for file in photo.path().iterdir())
    assert size <= 30e6


def test_the_folder_names_no_machine() -> None:
    for file in photo.path().glob("*.json"):
        text = file.read_text(encoding="utf-8")
        assert "/tmp" not in text and "_name_or_path" not in text, file


def test_whole_pictures_are_seen(backbone: Backbone) -> None:
    assert backbone.resize_mode == "squash" and backbone.image_size == 224


@torch.no_grad()
def test_global_and_local_features_follow_the_formula(
    backbone: Backbone, pixels: torch.Tensor
) -> None:
    """EfficientNet pools by the mean: g is the mean position's projection, L_j each one's own."""
    features = backbone.encode_image(pixels)
    visual = backbone.model.visual
    x = visual.trunk.forward_features(pixels)  # [2, 1280, 7, 7]
    weight, bias = visual.head.proj.weight, visual.head.proj.bias
    assert features.grid == (7, 7) and features.local.shape == (2, 49, backbone.width)
    torch.testing.assert_close(features.global_, backbone.model.encode_image(pixels))
    torch.testing.assert_close(
        features.global_, x.mean((2, 3)) @ weight.T + bias, atol=1e-4, rtol=1e-4
    )
    for row, column in [(0, 0), (2, 5), (6, 6)]:
        by_hand = x[:, :, row, column] @ weight.T + bias
        torch.testing.assert_close(
            features.local[:, row * 7 + column], by_hand, atol=1e-4, rtol=1e-4
        )


def test_text_as_open_clip_encodes_it(backbone: Backbone) -> None:
    texts = ["a photo of a dog.", "Two women carry umbrellas past a bakery", "espresso machine"]
    whole = backbone.model.encode_text(backbone.tokenize(texts))
    torch.testing.assert_close(backbone.encode_text(texts).global_, whole, atol=1e-4, rtol=1e-4)


def test_embeddings_are_those_of_the_packaged_weights(
    backbone: Backbone, pixels: torch.Tensor
) -> None:
    golden = np.load(GOLDEN)
    vocabulary = Vocabulary.load("voc2007")
    features = backbone.encode_image(pixels)
    found = {
        "images": F.normalize(features.global_, dim=-1),
        "position": F.normalize(features.local[:, 24], dim=-1),
        "classes": class_ensemble(backbone, vocabulary),
    }
    for name, value in found.items():
        cosine = (value * torch.from_numpy(golden[name])).sum(-1)
        assert cosine.min() > 0.999, name


def test_words_it_means_the_same_by(backbone: Backbone) -> None:
    names = ["dog", "puppy", "airplane", "aeroplane", "sofa", "couch", "bicycle", "bike"]
    words = class_ensemble(backbone, Vocabulary.of(names))
    similarity = words @ words.T - 2 * torch.eye(len(names))
    assert similarity.argmax(1).tolist() == [1, 0, 3, 2, 5, 4, 7, 6]


def test_prompts_can_be_learned_through_the_text_tower(backbone: Backbone) -> None:
    vocabulary = Vocabulary.of(["dog", "potted plant"])
    tokens = class_tokens(backbone, vocabulary)
    prompts = LearnedPrompts.start(PromptConfig(), tokens, backbone.encode_prompts)
    plain = F.normalize(
        backbone.encode_text([f"a photo of a {n}." for n in vocabulary.names]).global_
    )
    learned = prompts().global_
    torch.testing.assert_close(learned, plain, atol=1e-4, rtol=1e-4)
    learned[0, 0].backward()
    assert prompts.global_context.grad is not None
    assert prompts.global_context.grad.abs().sum() > 0


def test_unmet_words() -> None:
    for name in ("voc2007", "coco2014"):
        assert photo.unmet(Vocabulary.load(name).readable) == []
    assert photo.unmet(["dogs", "red car", "astrolabe", "zyx"]) == ["astrolabe", "zyx"]


def test_a_class_it_never_met_is_said_once(
    backbone: Backbone, caplog: pytest.LogCaptureFixture
) -> None:
    class_prompts._warn_of_unmet.cache_clear()
    with caplog.at_level(logging.WARNING):
        class_ensemble(backbone, Vocabulary.of(["dog", "astrolabe"]))
        class_ensemble(backbone, Vocabulary.of(["dog", "astrolabe"]))
    assert [r.getMessage() for r in caplog.records] == [
        "--clip photo never saw a picture of 'astrolabe'; what it finds for such classes is a "
        "guess. Use a common word for the class, or a larger CLIP."
    ]


def test_a_package_without_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(photo, "MODEL", tmp_path)
    with pytest.raises(UserError, match="the packaged photo CLIP is missing"):
        Backbone.load("photo")
