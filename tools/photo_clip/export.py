"""The trained towers as a folder in open_clip's format, which ``t2ipal.clip.load`` reads."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tools.photo_clip import tokens, trunk
from torch import Tensor

WIDTH, LAYERS = 256, 4  # of the text tower


def model_config(vocabulary_size: int, embed_dim: int) -> dict[str, Any]:
    """open_clip's ``model_cfg``: EfficientNet-Lite0, a linear projection, a text transformer."""
    return {
        "embed_dim": embed_dim,
        "vision_cfg": {
            "timm_model_name": trunk.NAME,
            "timm_model_pretrained": False,
            "timm_pool": "avg",
            "timm_proj": "linear",
            "timm_proj_bias": True,
            "image_size": trunk.SIZE,
        },
        "text_cfg": {
            "context_length": tokens.CONTEXT,
            "vocab_size": vocabulary_size,
            "hf_tokenizer_name": "tokenizer.json",
            "width": WIDTH,
            "heads": WIDTH // 64,
            "layers": LAYERS,
        },
    }


def load_image_tower(model: CLIP, weight: Tensor, bias: Tensor, trained: Any = None) -> None:
    """Put the ImageNet trunk (or ``trained``, a tuned one) and the projection into the model.

    Args:
        weight: [D, 1280] and ``bias`` [D] of the projection, on features as the trunk gives them.
    """
    source = trained if trained is not None else trunk.imagenet_trunk()
    state = {k: v for k, v in source.state_dict().items() if not k.startswith("classifier.")}
    model.visual.trunk.load_state_dict(state)
    with torch.no_grad():
        model.visual.head.proj.weight.copy_(weight)
        model.visual.head.proj.bias.copy_(bias)


def unfold(weight: Tensor, bias: Tensor, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
    """A projection of standardised features as one of the features themselves."""
    plain = weight / deviation
    return plain, bias - plain @ mean


def write(
    folder: Path, model: CLIP, config: dict[str, Any], tokenizer: Tokenizer, met: Iterable[str]
) -> None:
    """Configuration, half-precision weights, tokenizer, and the words that pictures named."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    for name, value in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.zeros_like(value)
    weights = folder / "open_clip_model.safetensors"
    save_file(state, weights)
    weights.chmod(0o644)
    preprocess = {
        "mean": list(trunk.MEAN),
        "std": list(trunk.STD),
        "interpolation": "bicubic",
        "resize_mode": "squash",
    }
    text = json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}, indent=1)
    (folder / "open_clip_config.json").write_text(text + "\n", encoding="utf-8")
    tokens.save(tokenizer, folder)
    words = sorted({word.lower() for word in met})
    (folder / "words.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
