"""A user's own model object becomes a backbone, and stays as it was."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import transformers
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from t2ipal.clip.backbone import Backbone
from t2ipal.clip.features import FeatureCache
from t2ipal.errors import UserError
from tiny_clip import randomise_norms
from tiny_transformers import save_tiny

PIXELS = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def photo() -> Image.Image:
    return Image.linear_gradient("L").resize((91, 70)).convert("RGB")


@pytest.fixture
def tiny(tiny_resnet_folder: Path) -> tuple[Any, Any, Any]:
    """open_clip's three objects."""
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{tiny_resnet_folder}")
    return model, open_clip.get_tokenizer(f"local-dir:{tiny_resnet_folder}"), transform


@torch.no_grad()
def test_a_model_of_open_clip(
    tiny: tuple[Any, Any, Any], tiny_resnet: Backbone, tmp_path: Path
) -> None:
    model, tokenizer, transform = tiny
    before = copy.deepcopy(model.state_dict())
    wrapped = Backbone.wrap(model, tokenizer, transform, device="cpu")
    ours, theirs = wrapped.encode_image(PIXELS), tiny_resnet.encode_image(PIXELS)
    assert torch.equal(ours.global_, theirs.global_) and torch.equal(ours.local, theirs.local)
    text = ["a dog", "zebra"]
    assert torch.equal(wrapped.encode_text(text).global_, tiny_resnet.encode_text(text).global_)
    assert torch.equal(wrapped.preprocess(photo()), tiny_resnet.preprocess(photo()))
    assert (wrapped.image_size, wrapped.resize_mode, wrapped.spec) == (64, "shortest", "wrapped")

    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.requires_grad for parameter in model.parameters())

    file = tmp_path / "photo.png"
    photo().save(file)
    found = FeatureCache(tmp_path / "features", wrapped).images([file])
    expected = FeatureCache(tmp_path / "features", tiny_resnet).images([file])
    assert expected.computed == 1  # another feature space, with the same features
    assert torch.equal(found.local, expected.local)


def test_what_a_function_does_is_part_of_the_feature_space(tiny: tuple[Any, Any, Any]) -> None:
    model, tokenizer, transform = tiny
    spaces = {
        Backbone.wrap(model, tokenizer, one, device="cpu").image_space
        for one in (transform, lambda image: transform(image), lambda image: 2 * transform(image))
    }
    assert len(spaces) == 2


@torch.no_grad()
def test_a_model_of_transformers(tmp_path: Path) -> None:
    model = save_tiny(tmp_path, "clip").half()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    processor = CLIPImageProcessorPil.from_pretrained(tmp_path)
    wrapped = Backbone.wrap(model, tokenizer, processor, device="cpu")
    theirs = model.float().get_image_features(pixel_values=PIXELS).pooler_output
    torch.testing.assert_close(wrapped.encode_image(PIXELS).global_, theirs, atol=1e-5, rtol=1e-5)
    expected = processor(images=photo(), return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(wrapped.preprocess(photo()), expected, atol=1e-5, rtol=0)
    assert wrapped.tokenize(["a dog"]).shape == (1, 40)


@torch.no_grad()
def test_a_model_of_openai(tiny: tuple[Any, Any, Any]) -> None:
    """Its class has the names of open_clip's, which grew out of it; widths are multiples of 64."""

    class CLIP(open_clip.CLIP):  # type: ignore[misc]
        pass

    CLIP.__module__ = "clip.model"
    _, tokenizer, transform = tiny
    vision = {"image_size": 64, "patch_size": 16, "width": 64, "layers": 2, "head_width": 64}
    text = {"context_length": 77, "vocab_size": 73, "width": 64, "heads": 1, "layers": 1}
    model = CLIP(32, vision, text, quick_gelu=True).eval()
    randomise_norms(model)
    wrapped = Backbone.wrap(model, tokenizer, transform, device="cpu")
    ours = wrapped.encode_image(PIXELS).global_
    torch.testing.assert_close(ours, model.encode_image(PIXELS), atol=1e-6, rtol=0)


def test_what_is_no_clip_is_refused(tiny: tuple[Any, Any, Any]) -> None:
    model, tokenizer, transform = tiny

    class Mine(open_clip.CLIP):  # type: ignore[misc]
        """Might compute something else."""

    mine = copy.copy(model)
    mine.__class__ = Mine
    bert = transformers.BertModel(
        transformers.BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
    )
    cases: list[tuple[tuple[Any, Any, Any], str]] = [
        ((torch.nn.Linear(2, 2), tokenizer, transform), "a Linear is no CLIP"),
        ((mine, tokenizer, transform), "a Mine is no CLIP"),
        ((bert, tokenizer, transform), "type 'bert' is none of the CLIPs"),
        ((model, "tokenizer", transform), "tokenizer is a str"),
        ((model, tokenizer, None), "preprocess is a NoneType"),
        ((model, tokenizer, lambda image: image), "must turn a PIL image into"),
        ((model, tokenizer, lambda image: torch.zeros(3, 32, 32)), "images of 32 pixels, but"),
        ((model, lambda texts: torch.zeros(len(texts), 5).long(), transform), "rows of 5"),
    ]
    for (one, words, pixels), says in cases:
        with pytest.raises(UserError, match=says):
            Backbone.wrap(one, words, pixels, device="cpu")
