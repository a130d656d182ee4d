"""CLIPs of transformers give transformers' features, and local ones by the same formulas."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from t2ipal.clip.backbone import Backbone
from t2ipal.clip.class_prompts import class_tokens
from t2ipal.clip.clip_settings import ClipSettings
from t2ipal.clip.load import find, why_not_here
from t2ipal.clip.preprocessing import Preprocessing, of_transformers
from t2ipal.errors import UserError
from t2ipal.vocabulary import Vocabulary
from tiny_clip import EOS, VOCABULARY
from tiny_transformers import KINDS, TEXT, VISION, save_tiny

SIGLIP = ("siglip", "siglip2")
TEXTS = ["A dog and a horse.", "zebra", "", "Two cats on a sofa next to a lamp, at night"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any, Backbone]]:
    """Folder, transformers' model and our backbone of each kind."""
    found = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp(kind)
        model = save_tiny(folder, kind)
        found[kind] = folder, model, load(folder)
    return found


def load(folder: Path | str, **options: Any) -> Backbone:
    return Backbone.load(ClipSettings(clip=f"transformers:{folder}", device="cpu", **options))


def photo(size: tuple[int, int]) -> Image.Image:
    made = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (size[1], size[0], 3), generator=made, dtype=torch.uint8)
    return Image.fromarray(pixels.numpy())


def image_inputs(kind: str, pixels: Tensor) -> dict[str, Tensor]:
    if kind != "siglip2":
        return {"pixel_values": pixels}
    patches = pixels.reshape(-1, 3, 8, 8, 8, 8).permute(0, 2, 4, 3, 5, 1).reshape(-1, 64, 192)
    count = len(pixels)
    return {
        "pixel_values": patches,
        "pixel_attention_mask": torch.ones(count, 64, dtype=torch.int32),
        "spatial_shapes": torch.tensor([[8, 8]] * count),
    }


def local_by_hand(kind: str, model: Any, pixels: Tensor) -> Tensor:
    """The formulas of clip/dense.py with transformers' modules."""
    tower = model.vision_model
    states = tower(**image_inputs(kind, pixels), output_hidden_states=True).hidden_states
    if kind in SIGLIP:
        x = tower.post_layernorm(states[-1])
        mask = (None,) if kind == "siglip2" else ()
        return torch.stack([tower.head(x[:, j : j + 1], *mask) for j in range(x.shape[1])], dim=1)
    layer = tower.encoder.layers[-1]
    value = layer.self_attn.out_proj(layer.self_attn.v_proj(layer.layer_norm1(states[-2][:, 1:])))
    return model.visual_projection(tower.post_layernorm(value))


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_features_are_those_of_transformers(
    kind: str, saved: dict[str, tuple[Path, Any, Backbone]]
) -> None:
    folder, model, backbone = saved[kind]
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    features = backbone.encode_image(pixels)
    theirs = model.get_image_features(**image_inputs(kind, pixels)).pooler_output
    torch.testing.assert_close(features.global_, theirs, atol=1e-5, rtol=1e-5)
    assert features.grid == (8, 8)
    torch.testing.assert_close(
        features.local, local_by_hand(kind, model, pixels), atol=1e-5, rtol=1e-5
    )

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    length = TEXT["max_position_embeddings"]
    inputs = tokenizer(
        TEXTS,
        padding="max_length",
        padding_side="right",  # SigLIP 2's is called with that, see its conversion script
        max_length=length,
        truncation=True,
        return_tensors="pt",
    )
    if kind in SIGLIP:  # as they were trained
        del inputs["attention_mask"]
    texts = backbone.encode_text(TEXTS)
    theirs = model.get_text_features(**inputs).pooler_output
    torch.testing.assert_close(texts.global_, theirs, atol=1e-5, rtol=1e-5)
    assert texts.mask.sum(dim=1).tolist()[:3] == [20, 7, 2] if kind not in SIGLIP else [19, 6, 1]
    assert backbone.logit_scale == pytest.approx(float(model.logit_scale.exp()), rel=1e-5)
    assert (backbone.image_size, backbone.context_length) == (64, 40)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_prompts_from_embeddings_equal_the_text_they_spell(
    kind: str, saved: dict[str, tuple[Path, Any, Backbone]]
) -> None:
    """Names of several lengths in one batch, behind a shared start, with junk behind their ends."""
    backbone = saved[kind][2]
    names = ["dog", "hippopotamus", "cat"]
    tokens = class_tokens(backbone, Vocabulary.of(names), phrase="a photo of a ")
    start = [] if tokens.sos is None else [tokens.sos[None]]
    assert tokens.init is not None
    rows = [torch.cat([*start, tokens.init, n, tokens.eos_embedding[None]]) for n in tokens.names]
    eos = torch.tensor([len(row) - 1 for row in rows])
    prompts = torch.full((1, 3, max(map(len, rows)), backbone.text_width), 7.0)
    for i, row in enumerate(rows):
        prompts[0, i, : len(row)] = row
    shared = len(start) + len(tokens.init)
    written = backbone.encode_text([f"a photo of a {name}." for name in names]).global_
    found = backbone.encode_prompts(prompts, eos, shared)[0]
    torch.testing.assert_close(found, written, atol=1e-5, rtol=1e-5)


@register_model
def vit_tiny_siglip(pretrained: bool = False, **options: Any) -> VisionTransformer:
    """A trunk that open_clip can name, of the tiny model's size."""
    sizes = {"img_size": options.get("img_size", 64)}
    return VisionTransformer(
        embed_dim=VISION["hidden_size"],
        depth=VISION["num_hidden_layers"],
        num_heads=VISION["num_attention_heads"],
        patch_size=VISION["patch_size"],
        mlp_ratio=VISION["intermediate_size"] / VISION["hidden_size"] + 0.001,
        class_token=False,
        global_pool="map",
        act_layer="gelu_tanh",
        num_classes=0,
        **sizes,
    )


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@torch.no_grad()
def test_the_same_weights_in_open_clips_format(
    kind: str, saved: dict[str, tuple[Path, Any, Backbone]], tmp_path: Path
) -> None:
    folder, _, backbone = saved[kind]
    text = {
        "context_length": TEXT["max_position_embeddings"],
        "vocab_size": TEXT["vocab_size"],
        "width": TEXT["hidden_size"],
        "heads": TEXT["num_attention_heads"],
        "layers": TEXT["num_hidden_layers"],
        "mlp_ratio": TEXT["intermediate_size"] / TEXT["hidden_size"],
        "hf_tokenizer_name": "tokenizer.json",
    }
    if kind == "clip":
        vision: dict[str, Any] = {
            "image_size": 64,
            "patch_size": 8,
            "width": VISION["hidden_size"],
            "layers": VISION["num_hidden_layers"],
            "head_width": 16,
            "mlp_ratio": 100.5 / 64,
        }
    else:
        vision = {
            "image_size": 64,
            "timm_model_name": "vit_tiny_siglip",
            "timm_pool": "",
            "timm_proj": "none",
        }
        text |= {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"}
        text |= {"norm_kwargs": {"eps": 1e-6}, "act_kwargs": {"approximate": "tanh"}}
    config = {
        "embed_dim": 32 if kind == "clip" else 64,
        "vision_cfg": vision,
        "text_cfg": text,
        "custom_text": True,
        "quick_gelu": kind == "clip",
    }
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": {}})
    )
    save_file(backbone.model.state_dict(), tmp_path / "open_clip_model.safetensors")
    other = Backbone.load(ClipSettings(clip=str(tmp_path), device="cpu"))
    assert type(other.model) is open_clip.CustomTextCLIP
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    for ours, theirs in [
        (backbone.encode_image(pixels), other.encode_image(pixels)),
        (backbone.encode_text(TEXTS[:3]), other.encode_text(TEXTS[:3])),
    ]:
        torch.testing.assert_close(ours.global_, theirs.global_, atol=1e-5, rtol=0)
        torch.testing.assert_close(ours.local, theirs.local, atol=1e-5, rtol=0)


def test_a_larger_input_size_is_open_clips(saved: dict[str, tuple[Path, Any, Backbone]]) -> None:
    for kind in ("clip", "siglip", "chinese_clip"):
        large = load(saved[kind][0], image_size=96)
        features = large.encode_image(large.preprocess(photo((120, 130)))[None])
        assert features.grid == (12, 12) and large.digest == saved[kind][2].digest
        assert large.image_space != saved[kind][2].image_space


def test_digests_tell_weights_and_activations_apart(
    saved: dict[str, tuple[Path, Any, Backbone]], tmp_path: Path
) -> None:
    folder, _, backbone = saved["clip"]
    assert load(folder).digest == backbone.digest
    for name in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["hidden_act"] = "gelu"
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    assert load(tmp_path).digest != backbone.digest


# --- pixels --------------------------------------------------------------------------------------

PROCESSORS = {
    "clip": (CLIPImageProcessorPil, {"size": {"shortest_edge": 64}, "crop_size": 64}),
    "clip-old": (CLIPImageProcessorPil, {"size": 64, "crop_size": 64}),
    "margin": (CLIPImageProcessorPil, {"size": {"shortest_edge": 80}, "crop_size": 64}),
    "chinese": (
        CLIPImageProcessorPil,
        {"size": {"height": 64, "width": 64}, "do_center_crop": False},
    ),
    "bilinear": (
        SiglipImageProcessorPil,
        {"size": {"height": 64, "width": 64}, "resample": 2, "image_mean": [0.4, 0.5, 0.6]},
    ),
    "bare": (SiglipImageProcessorPil, {"size": {"height": 64, "width": 64}, "do_normalize": False}),
}


@pytest.mark.parametrize("case", PROCESSORS)
@pytest.mark.parametrize("size", [(90, 70), (64, 64), (139, 201), (1000, 65)])
def test_pixels_are_those_of_the_image_processor(case: str, size: tuple[int, int]) -> None:
    make, settings = PROCESSORS[case]
    kind = "siglip" if make is SiglipImageProcessorPil else "clip"
    image = photo(size)
    theirs = make(**settings)(images=image, return_tensors="pt")["pixel_values"][0]
    ours = Preprocessing.of(of_transformers(settings, kind, "here"), None, None)
    torch.testing.assert_close(ours.transform(image), theirs, atol=1e-5, rtol=0)
    assert ours.side == 64


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"resample": 0}, "resample is 0"),
        ({"rescale_factor": 1 / 127.5}, "not divided by 255"),
        ({"do_resize": False}, "do_resize is false"),
        ({"size": {"height": 64, "width": 48}}, "gives no squares"),
        ({"size": {"longest_edge": 64}}, "gives no squares"),
        ({"do_center_crop": False, "size": {"shortest_edge": 64}}, "gives no squares"),
        ({"size": {"shortest_edge": 64}, "crop_size": 80}, "gives no squares"),
    ],
)
def test_other_preprocessing_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        of_transformers(settings, "clip", "here")


# --- what is refused -----------------------------------------------------------------------------


def edit(name: str, **changes: Any) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def adapt(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight"] = torch.zeros(2, 48)
    save_file(weights, folder / "model.safetensors")


def pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def index(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    named = {"weight_map": {"logit_scale": "../model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(named))


def size(tower: str, key: str, value: int) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        config[f"{tower}_config"][key] = value
        (folder / "config.json").write_text(json.dumps(config))

    return change


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "config.json").write_text("["), "no JSON object"),
        (edit("config.json", model_type="bert"), "type 'bert' is none of the CLIPs"),
        (edit("config.json", projection_dim="wide"), "restore the file"),
        (lambda f: (f / "model.safetensors").unlink(), "no model.safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 99), "weights cannot be loaded"),
        (pickle, "pickled weights are not loaded"),
        (adapt, "merge adapters"),
        (index, "names no files of this folder"),
        (size("vision", "intermediate_size", 99), "does not belong to the weights"),
        (size("text", "num_hidden_layers", 10**12), "more layers"),
        (size("vision", "hidden_size", 2**16), "model of .* numbers, but the weights are"),
        (size("vision", "image_size", 2**20), "model of .* numbers, but the weights are"),
        (size("text", "vocab_size", 10**9), "model of .* numbers, but the weights are"),
        (edit("config.json", projection_dim=10**9), "model of .* numbers, but the weights are"),
        (lambda f: (f / "preprocessor_config.json").unlink(), "no preprocessor_config.json"),
        (lambda f: (f / "tokenizer.json").unlink(), "tokenizer cannot be loaded"),
        (edit("tokenizer_config.json", auto_map={"AutoTokenizer": ["x.T", None]}), "never run"),
        (edit("tokenizer_config.json", tokenizer_class="SiglipTokenizer"), "SentencePiece"),
    ],
    ids=lambda value: value.split()[0] if isinstance(value, str) else "",
)
def test_broken_folders(
    damage: Callable[[Path], Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)  # SentencePiece may be there
    save_tiny(tmp_path, "clip")
    damage(tmp_path)
    with pytest.raises(UserError, match=says) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_vision_towers_alone_are_refused(tmp_path: Path) -> None:
    save_tiny(tmp_path, "clip")
    weights = load_file(tmp_path / "model.safetensors")
    images = {name: tensor for name, tensor in weights.items() if not name.startswith("text_")}
    save_file(images, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="a CLIP with both towers is needed"):
        load(tmp_path)


def test_old_checkpoints_end_at_the_highest_id(tmp_path: Path) -> None:
    """transformers wrote eos_token_id 2 and looked for the highest id."""
    model = save_tiny(tmp_path, "clip", eos_token_id=2)
    assert VOCABULARY[EOS] == max(VOCABULARY.values())
    backbone = load(tmp_path)
    tokens = backbone.tokenize(TEXTS)
    with torch.no_grad():
        theirs = model.get_text_features(input_ids=tokens).pooler_output
    torch.testing.assert_close(backbone.encode_text(TEXTS).global_, theirs, atol=1e-5, rtol=1e-5)


# --- from the hub --------------------------------------------------------------------------------


def test_a_model_of_the_hub_that_is_in_the_cache(
    saved: dict[str, tuple[Path, Any, Backbone]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert "hf download org/name" in str(why_not_here("transformers:org/name"))
    with pytest.raises(UserError, match="run: hf download org/name"):
        find("transformers:org/name")
    with pytest.raises(UserError, match="no such folder"):
        find("transformers:./org/name")
    root = tmp_path / "models--org--name"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text("1" * 40)
    folder, _, backbone = saved["clip"]
    import shutil

    shutil.copytree(folder, root / "snapshots" / ("1" * 40))
    assert why_not_here("transformers:org/name") is None
    assert load("org/name").digest == backbone.digest
    assert why_not_here(f"transformers:{folder}") is None
