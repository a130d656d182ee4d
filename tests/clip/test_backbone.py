"""A backbone is open_clip's model, frozen, with digests that change when anything does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from t2ipal.clip.backbone import Backbone
from t2ipal.clip.clip_settings import ClipSettings
from t2ipal.errors import UserError
from tiny_clip import build_tiny_clip, tiny_config


def photo(size: tuple[int, int] = (90, 70)) -> Image.Image:
    gradient = torch.linspace(0, 255, size[0] * size[1] * 3).reshape(size[1], size[0], 3)
    return Image.fromarray(gradient.to(torch.uint8).numpy())


@pytest.mark.parametrize("kind", ["vit", "resnet"])
@torch.no_grad()
def test_a_local_folder_is_what_open_clip_loads(kind: str, request: pytest.FixtureRequest) -> None:
    backbone: Backbone = request.getfixturevalue(f"tiny_{kind}")
    folder: Path = request.getfixturevalue(f"tiny_{kind}_folder")
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    model.eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")

    pixels = backbone.preprocess(photo())
    assert torch.equal(pixels, transform(photo())) and pixels.shape == (3, 64, 64)
    theirs = model.encode_image(pixels[None])
    ours = backbone.encode_image(pixels[None]).global_
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    texts = ["A dog and a horse.", "zebra"]
    assert torch.equal(backbone.tokenize(texts), tokenizer(texts))
    torch.testing.assert_close(
        backbone.encode_text(texts).global_, model.encode_text(tokenizer(texts)), atol=1e-5, rtol=0
    )
    assert backbone.width == 32 and backbone.text_width == 48 and backbone.context_length == 77
    assert backbone.image_size == 64 and backbone.precision == "fp32"
    assert backbone.logit_scale == pytest.approx(1 / 0.07, rel=1e-5)


def test_it_is_frozen(tiny_vit: Backbone) -> None:
    assert not any(parameter.requires_grad for parameter in tiny_vit.model.parameters())
    assert not any(module.training for module in tiny_vit.model.modules())
    features = tiny_vit.encode_image(torch.zeros(1, 3, 64, 64))
    assert not features.global_.requires_grad and not features.local.requires_grad
    # not inference tensors: a head that is trained on them must be able to save them
    weight = torch.ones(32, requires_grad=True)
    (features.global_ @ weight).sum().backward()


def test_digests(tiny_vit: Backbone, tiny_vit_folder: Path, tmp_path: Path) -> None:
    again = Backbone.load(str(tiny_vit_folder))
    assert (again.digest, again.image_space, again.text_space) == (
        tiny_vit.digest,
        tiny_vit.image_space,
        tiny_vit.text_space,
    )

    other = shutil.copytree(tiny_vit_folder, tmp_path / "weights")
    weights = load_file(other / "open_clip_model.safetensors")
    weights["visual.proj"][0, 0] += 1e-3
    save_file(weights, other / "open_clip_model.safetensors")
    changed = Backbone.load(str(other))
    assert changed.digest != tiny_vit.digest
    assert changed.preprocess_digest == tiny_vit.preprocess_digest
    assert changed.image_space != tiny_vit.image_space
    assert changed.text_space != tiny_vit.text_space

    squashed = Backbone.load(ClipSettings(clip=str(tiny_vit_folder), resize_mode="squash"))
    assert squashed.digest == tiny_vit.digest
    assert squashed.preprocess_digest != tiny_vit.preprocess_digest
    assert squashed.image_space != tiny_vit.image_space
    assert squashed.text_space == tiny_vit.text_space


def test_half_precision_weights_are_computed_in_single(
    tiny_vit: Backbone, tiny_vit_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_vit_folder, tmp_path / "half")
    file = folder / "open_clip_model.safetensors"
    save_file({name: tensor.half() for name, tensor in load_file(file).items()}, file)
    half = Backbone.load(str(folder))
    pixels = torch.randn(2, 3, 64, 64)
    ours, theirs = half.encode_image(pixels), tiny_vit.encode_image(pixels)
    assert ours.global_.dtype == torch.float32
    torch.testing.assert_close(ours.global_, theirs.global_, atol=2e-2, rtol=0)


def test_bf16_is_close_to_fp32(tiny_vit: Backbone, tiny_vit_folder: Path) -> None:
    low = Backbone.load(ClipSettings(clip=str(tiny_vit_folder), device="cpu", precision="bf16"))
    pixels = torch.randn(2, 3, 64, 64)
    ours, theirs = low.encode_image(pixels), tiny_vit.encode_image(pixels)
    assert ours.local.dtype == torch.float32 and not torch.equal(ours.local, theirs.local)
    similarity = torch.cosine_similarity(ours.local, theirs.local, dim=-1)
    assert float(similarity.min()) > 0.99
    assert low.digest == tiny_vit.digest and low.image_space != tiny_vit.image_space


def test_pool_positions_is_its_own_feature_space(tiny_resnet_folder: Path) -> None:
    tai_dpt = Backbone.load(str(tiny_resnet_folder), pool_positions=False)
    clip = Backbone.load(str(tiny_resnet_folder))
    assert tai_dpt.digest == clip.digest and tai_dpt.image_space != clip.image_space
    pixels = torch.randn(1, 3, 64, 64)
    assert not torch.allclose(tai_dpt.encode_image(pixels).global_, clip.model.visual(pixels))


def test_squash_keeps_the_borders(tiny_vit_folder: Path) -> None:
    wide = Image.new("RGB", (200, 50), "white")
    wide.paste("black", (0, 0, 40, 50))
    cut = Backbone.load(str(tiny_vit_folder)).preprocess(wide)
    whole = Backbone.load(ClipSettings(clip=str(tiny_vit_folder), resize_mode="squash")).preprocess(
        wide
    )
    assert float(cut.min()) > 1.9  # (1 - 0.5) / 0.25: all white
    assert float(whole[:, :, 0].max()) < -1.9


def rewrite(name: str, content: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(content) and None


def truncate(folder: Path) -> None:
    file = folder / "open_clip_model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])


def reconfigure(**text: Any) -> Callable[[Path], None]:
    content = json.dumps({"model_cfg": tiny_config("vit", **text)})
    return rewrite("open_clip_config.json", content)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda f: (f / "open_clip_model.safetensors").unlink(), "no CLIP weights"),
        (lambda f: (f / "open_clip_config.json").unlink(), "open_clip_config.json"),
        (rewrite("open_clip_config.json", "{"), "not an open_clip configuration"),
        (rewrite("open_clip_config.json", "[]"), "not an open_clip configuration"),
        (truncate, "weights cannot be loaded"),
        (reconfigure(width=64), "weights cannot be loaded"),
        (lambda f: (f / "tokenizer.json").unlink(), "tokenizer"),
        (reconfigure(hf_model_name="roberta-base"), "Hugging Face text tower"),
        (reconfigure(hf_tokenizer_name=None), "tokenizer gives ids up to"),
    ],
    ids=[
        "weights",
        "config",
        "json",
        "array",
        "cut",
        "misfit",
        "tokenizer",
        "hf-text",
        "vocabulary",
    ],
)
def test_broken_folders(damage: Callable[[Path], Any], says: str, tmp_path: Path) -> None:
    folder = build_tiny_clip(tmp_path / "clip")
    damage(folder)
    with pytest.raises(UserError, match=says) as caught:
        Backbone.load(str(folder))
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_tokenizer_whose_end_is_not_the_highest_id_is_refused(tmp_path: Path) -> None:
    folder = build_tiny_clip(tmp_path / "clip")
    text = (folder / "tokenizer.json").read_text()
    tokenizer = json.loads(text)
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["<end_of_text>"], vocabulary["a"] = vocabulary["a"], vocabulary["<end_of_text>"]
    for token in tokenizer["post_processor"]["special_tokens"].values():
        token["ids"] = [vocabulary[token["id"]]]
    for token in tokenizer["added_tokens"]:
        token["id"] = vocabulary[token["content"]]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(UserError, match="highest id"):
        Backbone.load(str(folder))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"device": "gpu"}, "device must be one of auto, cpu, cuda, cuda:N, mps, not 'gpu'"),
        ({"device": "xpu"}, "device must be one of auto, cpu, cuda, cuda:N, mps, not 'xpu'"),
        ({"device": "cuda:77"}, "'cuda:77' is not there"),
        ({"precision": "fp23"}, "did you mean 'fp32'"),
        ({"device": "cpu", "precision": "fp16"}, "needs a GPU"),
        ({"resize_mode": "squish"}, "did you mean 'squash'"),
    ],
)
def test_bad_options(options: dict[str, Any], says: str, tiny_vit_folder: Path) -> None:
    with pytest.raises(UserError, match=says):
        Backbone.load(ClipSettings(clip=str(tiny_vit_folder), **options))


def test_a_vit_pools_in_one_way(tiny_vit_folder: Path) -> None:
    with pytest.raises(UserError, match="pool_positions"):
        Backbone.load(str(tiny_vit_folder), pool_positions=False)


def test_pixels_of_the_wrong_size(tiny_vit: Backbone) -> None:
    with pytest.raises(ValueError, match=r"takes \[B, 3, 64, 64\]"):
        tiny_vit.encode_image(torch.zeros(1, 3, 224, 224))


def test_a_local_grid_averages_positions_and_keeps_its_features_apart(
    tiny_vit: Backbone, tiny_vit_folder: Path
) -> None:
    size, (height, width) = tiny_vit.cost
    assert height == width > 2
    coarse = Backbone.load(ClipSettings(clip=str(tiny_vit_folder), local_grid=2))
    pixels = torch.randn(
        3, 3, coarse.image_size, coarse.image_size, generator=torch.Generator().manual_seed(0)
    )
    fine, found = tiny_vit.encode_image(pixels), coarse.encode_image(pixels)
    assert found.grid == (2, 2) and torch.equal(found.global_, fine.global_)
    maps = fine.local.reshape(3, height, width, -1)
    edge = -(-height // 2)  # cells of an odd grid overlap by a row
    corner = maps[:, height - edge :, :edge].mean(dim=(1, 2))
    torch.testing.assert_close(found.local[:, 2], corner, atol=1e-5, rtol=1e-4)
    assert coarse.cost[0] == size - 2 * (height * width - 4) * fine.local.shape[2]
    assert coarse.image_space != tiny_vit.image_space and coarse.digest == tiny_vit.digest
    same = Backbone.load(ClipSettings(clip=str(tiny_vit_folder), local_grid=height))
    assert torch.equal(same.encode_image(pixels).local, fine.local)
    with pytest.raises(UserError, match="local_grid must be a whole number from 1 to 256"):
        Backbone.load(ClipSettings(clip=str(tiny_vit_folder), local_grid=0))
