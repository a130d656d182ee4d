"""Stable Diffusion XL, Stable Diffusion 3, PixArt and Flux with tiny random parts.

``build(family, folder)`` saves one in diffusers' format. Each has the parts that set its family
apart: two or three text encoders, T5, rectified flow, packed latents.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtAlphaPipeline,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionXLPipeline,
)
from transformers import (
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from tiny_diffusion import IMAGE_SIZE, PROMPT_LENGTH, WIDTH, clip_text, tokenizer, unet, vae


def build(family: str, folder: str | Path) -> Path:
    """Save the pipeline of a family under ``folder`` and return it; same weights every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipe = FAMILIES[family]()
    pipe.save_pretrained(folder)
    return Path(folder)


def sdxl(halvings: int = 1) -> StableDiffusionXLPipeline:
    network = unet(
        2 * WIDTH,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + WIDTH,
        use_linear_projection=True,
    )
    return StableDiffusionXLPipeline(
        vae=vae(halvings=halvings),
        text_encoder=clip_text(),
        text_encoder_2=clip_text(projected=True),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        unet=network,
        scheduler=EulerDiscreteScheduler(),
        add_watermarker=False,
    )


def sd3(halvings: int = 1) -> StableDiffusion3Pipeline:
    transformer = SD3Transformer2DModel(
        sample_size=IMAGE_SIZE // 2,
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=WIDTH,
        joint_attention_dim=2 * WIDTH,
        pooled_projection_dim=2 * WIDTH,
        pos_embed_max_size=16,
    )
    return StableDiffusion3Pipeline(
        transformer=transformer.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(shift_factor=0.06, halvings=halvings),
        text_encoder=clip_text(projected=True),
        tokenizer=tokenizer(),
        text_encoder_2=clip_text(projected=True),
        tokenizer_2=tokenizer(),
        text_encoder_3=t5(2 * WIDTH),
        tokenizer_3=t5_tokenizer(),
    )


def pixart(halvings: int = 1) -> PixArtAlphaPipeline:
    transformer = PixArtTransformer2DModel(
        sample_size=IMAGE_SIZE // 2,
        num_layers=1,
        patch_size=2,
        in_channels=4,
        out_channels=8,
        attention_head_dim=8,
        num_attention_heads=4,
        cross_attention_dim=WIDTH,
        caption_channels=WIDTH,
        use_additional_conditions=False,
    )
    return PixArtAlphaPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5(WIDTH),
        vae=vae(halvings=halvings),
        transformer=transformer.eval(),
        scheduler=DPMSolverMultistepScheduler(),
    )


def flux(halvings: int = 1) -> FluxPipeline:
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        axes_dims_rope=(4, 4, 8),
    )
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae(shift_factor=0.06, halvings=halvings),
        text_encoder=clip_text(),
        tokenizer=tokenizer(),
        text_encoder_2=t5(WIDTH),
        tokenizer_2=t5_tokenizer(),
        transformer=transformer.eval(),
    )


FAMILIES: dict[str, Callable[[], Any]] = {
    "sdxl": sdxl,
    "sd3": sd3,
    "pixart": pixart,
    "flux": flux,
}


def t5_tokenizer() -> T5Tokenizer:
    """A T5 tokenizer that spells."""
    letters = [("▁", -2.0), *((letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz.,!?")]
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    return T5Tokenizer(vocab=special + letters, extra_ids=0, model_max_length=PROMPT_LENGTH)


def t5(width: int) -> T5EncoderModel:
    config = T5Config(
        vocab_size=len(t5_tokenizer()),
        d_model=width,
        d_kv=8,
        d_ff=64,
        num_layers=1,
        num_heads=4,
        use_cache=False,
    )
    return T5EncoderModel(config).eval()
