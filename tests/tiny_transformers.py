"""Tiny random CLIPs of transformers, saved as transformers saves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from tiny_clip import EOS, PAD, UNKNOWN, VOCABULARY, write_tokenizer

VISION = {
    "hidden_size": 64,
    "intermediate_size": 100,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 64,
    "patch_size": 8,
}
TEXT = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": len(VOCABULARY),
    "max_position_embeddings": 40,
}
KINDS = ("clip", "metaclip_2", "chinese_clip", "siglip", "siglip2")
_CLASSES = {
    "clip": "CLIP",
    "metaclip_2": "MetaClip2",
    "chinese_clip": "ChineseCLIP",
    "siglip": "Siglip",
    "siglip2": "Siglip2",
}
_CLIP_PROCESSOR = {
    "crop_size": {"height": 64, "width": 64},
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "image_processor_type": "CLIPImageProcessor",
    "resample": 3,
    "size": {"shortest_edge": 64},
}
_SIGLIP_PROCESSOR = {
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "image_processor_type": "SiglipImageProcessor",
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"height": 64, "width": 64},
}


def tiny_model(kind: str, *, seed: int = 0, **text: Any) -> Any:
    """A model of random weights, norms included; ``text`` overrides entries of its text tower."""
    name = _CLASSES[kind]
    vision, words = dict(VISION), dict(TEXT)
    if kind == "siglip2":
        vision["num_patches"] = (vision.pop("image_size") // vision["patch_size"]) ** 2
    if kind in ("siglip", "siglip2"):
        words |= {"projection_size": 64}
    else:
        words |= {"eos_token_id": VOCABULARY[EOS]}
    config = getattr(transformers, f"{name}Config")(
        vision_config=vision,
        text_config={"bos_token_id": 0, "pad_token_id": 0, "eos_token_id": 0} | words | text,
        **({} if kind in ("siglip", "siglip2") else {"projection_dim": 32}),
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = getattr(transformers, f"{name}Model")(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():  # biases and norms start as 0 and 1
                parameter.add_(torch.randn_like(parameter) * 0.02)
            model.logit_scale.fill_(2.5)
    return model


def save_tiny(folder: Path, kind: str, **text: Any) -> Any:
    """Write a model, its tokenizer and its processor's settings; the model is returned."""
    model = tiny_model(kind, **text)
    model.save_pretrained(folder)
    if kind in ("siglip", "siglip2"):
        _write_endless_tokenizer(folder, pad=EOS if kind == "siglip" else PAD)
    else:
        write_tokenizer(folder)
    processor = dict(_CLIP_PROCESSOR if kind not in ("siglip", "siglip2") else _SIGLIP_PROCESSOR)
    if kind == "siglip2":
        del processor["size"]
        processor |= {
            "image_processor_type": "Siglip2ImageProcessor",
            "patch_size": 8,
            "max_num_patches": 64,
            "resample": 2,
        }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=2))
    return model


def _write_endless_tokenizer(folder: Path, pad: str) -> None:
    """SigLIP's kind: no start token, one at the end, which SigLIP 1 pads with."""
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {EOS}", special_tokens=[(EOS, VOCABULARY[EOS])]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": EOS,
        "pad_token": pad,
        "unk_token": UNKNOWN,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))
