"""What the hub on the loopback address serves: real ids and layouts of files, tiny random weights.

Each repository has the files that the real one has as far as a library may ask for them: variants
in half precision, shards, pickles beside the safetensors, single-file checkpoints that nobody here
wants, the schedulers of the real configurations.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
)
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPImageProcessor

import tiny_diffusion
import tiny_families
from loopback_hub import Hub
from tiny_clip import tiny_config

_NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}

CLIPS = {
    "timm/resnet50_clip.openai": ("RN50", "resnet"),
    "timm/vit_base_patch16_clip_224.openai": ("ViT-B-16", "vit"),
}
"""Repository -> open_clip's name of the model that has its weights there, and a tiny kind of it."""


def small_model_config(kind: Any) -> dict[str, Any]:
    """open_clip's configuration of a tiny CLIP that reads OpenAI's vocabulary."""
    config = tiny_config(kind, vocab_size=49408, width=16, heads=2, layers=1)
    del config["text_cfg"]["hf_tokenizer_name"]
    return config


def put_clips(hub: Hub, folder: Path, patch: Callable[[str, dict[str, Any]], None]) -> None:
    """OpenAI's CLIPs as timm's organisation has them.

    open_clip knows the sizes of its models itself, so it is told other ones: ``patch`` sets the
    configuration of a name.
    """
    import open_clip

    for repo, (name, kind) in CLIPS.items():
        config = small_model_config(kind)
        patch(name, config)
        place = folder / repo
        place.mkdir(parents=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = open_clip.CLIP(**config, quick_gelu=True)
        save_file(model.state_dict(), place / "open_clip_model.safetensors")
        save_file({"other": torch.zeros(1)}, place / "model.safetensors")  # timm's own
        torch.save(model.state_dict(), place / "open_clip_pytorch_model.bin")
        text = {"model_cfg": {**config, "quick_gelu": True}, "preprocess_cfg": {}}
        (place / "open_clip_config.json").write_text(json.dumps(text))
        (place / "config.json").write_text(json.dumps({"architecture": name}))
        (place / "README.md").write_text("---\nlicense: mit\n---\n")
        hub.add(repo, place)


def stable_diffusion(
    scheduler: Any, halvings: int, checker: bool = False
) -> StableDiffusionPipeline:
    """Stable Diffusion 1.5 or SD-Turbo.

    The real autoencoder halves each side three times; with six there is less to compute.
    """
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**small, "intermediate_size": 16, "patch_size": 112, "image_size": 224}
    return StableDiffusionPipeline(
        vae=tiny_diffusion.vae(halvings=halvings),
        text_encoder=tiny_diffusion.clip_text(),
        tokenizer=tiny_diffusion.tokenizer(),
        unet=tiny_diffusion.unet(),
        scheduler=scheduler,
        safety_checker=StableDiffusionSafetyChecker(
            CLIPConfig(vision_config=vision, projection_dim=16)
        )
        if checker
        else None,
        feature_extractor=CLIPImageProcessor() if checker else None,
        requires_safety_checker=checker,
    )


def _sdxl(scheduler: Any) -> Any:
    pipe = tiny_families.sdxl(halvings=6)
    pipe.scheduler = scheduler
    return pipe


def _flow() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(shift=1.0)


GENERATORS: dict[str, Callable[[], Any]] = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": lambda: stable_diffusion(
        PNDMScheduler(**_NOISE, skip_prk_steps=True, steps_offset=1), 6, checker=True
    ),
    "stabilityai/sd-turbo": lambda: stable_diffusion(
        EulerDiscreteScheduler(**_NOISE, timestep_spacing="trailing", steps_offset=1), 3
    ),
    "stabilityai/sdxl-turbo": lambda: _sdxl(
        EulerAncestralDiscreteScheduler(**_NOISE, timestep_spacing="trailing")
    ),
    "stabilityai/stable-diffusion-xl-base-1.0": lambda: _sdxl(
        EulerDiscreteScheduler(**_NOISE, timestep_spacing="leading", steps_offset=1)
    ),
    "stabilityai/stable-diffusion-3.5-medium": lambda: tiny_families.sd3(halvings=6),
    "PixArt-alpha/PixArt-XL-2-512x512": lambda: tiny_families.pixart(halvings=6),
    "Efficient-Large-Model/Sana_600M_512px_diffusers": lambda: tiny_diffusion.sana(halvings=6),
    "black-forest-labs/FLUX.1-schnell": lambda: tiny_families.flux(halvings=6),
}
SHARDED = {
    "stabilityai/stable-diffusion-3.5-medium": "40KB",
    "black-forest-labs/FLUX.1-schnell": "40KB",
    "Efficient-Large-Model/Sana_600M_512px_diffusers": "40KB",
}
HALVED = (
    "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "stabilityai/sd-turbo",
    "stabilityai/sdxl-turbo",
    "stabilityai/stable-diffusion-xl-base-1.0",
)
GATED = ("stabilityai/stable-diffusion-3.5-medium", "black-forest-labs/FLUX.1-schnell")


def put_generator(hub: Hub, folder: Path, repo: str, *, gated: bool = False) -> Path:
    """A text-to-image pipeline under its real id; the folder that is served."""
    place = folder / repo
    if not place.exists():
        with torch.random.fork_rng(devices=[]), pytest.MonkeyPatch.context() as patch:
            for module in (tiny_diffusion, tiny_families):
                patch.setattr(module, "PROMPT_LENGTH", 77)  # that of the real text encoders
            torch.manual_seed(0)
            pipe = GENERATORS[repo]()
        pipe.save_pretrained(place, max_shard_size=SHARDED.get(repo, "10GB"))
        if repo in HALVED:
            for weights in sorted(place.rglob("*.safetensors")):
                _pickle(weights)
                _half(weights)
            name = repo.rpartition("/")[2].replace("-", "_")
            save_file({"all": torch.zeros(1)}, place / f"{name}.safetensors")
        (place / "README.md").write_text("---\nlicense: other\n---\n")
    hub.add(repo, place, gated=gated)
    return place


def _pickle(weights: Path) -> None:
    """The same weights beside them, as PyTorch saved them before there were safetensors."""
    name = weights.stem if weights.stem.startswith("diffusion") else f"pytorch_{weights.stem}"
    torch.save(load_file(weights), weights.with_name(f"{name}.bin"))


def _half(weights: Path) -> None:
    """The same weights in half precision beside them, as ``variant="fp16"`` names them."""
    halved = {name: copy.copy(value).half() for name, value in load_file(weights).items()}
    save_file(halved, weights.with_name(f"{weights.stem}.fp16.safetensors"), {"format": "pt"})
