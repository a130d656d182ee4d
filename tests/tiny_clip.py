"""Tiny random CLIPs as open_clip local folders: a test fixture that loads like the real thing."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any, Literal

import open_clip
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

Kind = Literal["vit", "resnet"]

SOS, EOS, PAD, UNKNOWN = "<start_of_text>", "<end_of_text>", "<pad>", "<unk>"
# One token a character: any words are told apart without a vocabulary to maintain.
CHARACTERS = [*" ", *string.ascii_lowercase, *string.digits, *string.punctuation]
VOCABULARY = {word: i for i, word in enumerate([PAD, UNKNOWN, *CHARACTERS, SOS, EOS])}

WIDTH = 32  # D
IMAGE_SIZE = 64

VISION: dict[Kind, dict[str, Any]] = {
    # an 8 x 8 grid
    "vit": {"image_size": IMAGE_SIZE, "patch_size": 8, "width": 64, "layers": 3, "head_width": 16},
    # a 2 x 2 grid: the stride of CLIP's ResNets is always 32
    "resnet": {"image_size": IMAGE_SIZE, "width": 8, "layers": [1, 1, 1, 1], "head_width": 32},
}


def tiny_config(kind: Kind = "vit", **text: Any) -> dict[str, Any]:
    """open_clip's ``model_cfg`` of a tiny CLIP; ``text`` overrides entries of ``text_cfg``."""
    return {
        "embed_dim": WIDTH,
        "vision_cfg": dict(VISION[kind]),
        "text_cfg": {
            "context_length": 77,
            "vocab_size": len(VOCABULARY),
            "width": 48,
            "heads": 4,
            "layers": 2,
            "hf_tokenizer_name": "tokenizer.json",
            **text,
        },
    }


def build_tiny_clip(
    folder: Path, kind: Kind = "vit", *, seed: int = 0, config: dict[str, Any] | None = None
) -> Path:
    """Write a tiny CLIP of random weights into ``folder`` and return ``folder``.

    ``Backbone.load(str(folder))`` loads it. The same arguments give the same weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = tiny_config(kind) if config is None else config
    preprocess = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "resize_mode": "shortest"}
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}, indent=2)
    )
    write_tokenizer(folder)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        towers = {name: part for name, part in config.items() if name != "custom_text"}
        build = open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP
        model = build(**towers)
        randomise_norms(model)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


def randomise_norms(model: torch.nn.Module) -> None:
    """Give normalisation layers, which start as 1 and 0, random weights and statistics."""
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, (torch.nn.LayerNorm, torch.nn.BatchNorm2d)):
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.normal_(std=0.1)
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.running_mean.normal_(std=0.1)
                layer.running_var.uniform_(0.5, 1.5)


def write_tokenizer(folder: Path) -> None:
    """A lower-casing character tokenizer in the files that open_clip reads from a local folder."""
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{SOS} $A {EOS}", special_tokens=[(t, VOCABULARY[t]) for t in (SOS, EOS)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SOS,
        "eos_token": EOS,
        "pad_token": PAD,
        "unk_token": UNKNOWN,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))
