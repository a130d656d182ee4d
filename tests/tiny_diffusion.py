"""Diffusion pipelines with tiny random parts: the real classes, drawing noise in a blink.

``build(folder)`` saves a Stable Diffusion and ``build_sana(folder)`` a Sana in diffusers' format.
The parts are seeded, so that two builds hold the same weights; the prompt reaches the image through
the cross-attention, as in the real ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    SanaPipeline,
    SanaTransformer2DModel,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Gemma2Config,
    Gemma2Model,
)

IMAGE_SIZE = 16  # pixels; latents are half that
PROMPT_LENGTH = 16  # tokens, start and end included
WIDTH = 32  # of text features


def tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer over letters, digits and a few merges: enough for any caption."""
    characters = "abcdefghijklmnopqrstuvwxyz0123456789.,'-!?"
    tokens = [*characters, *(f"{character}</w>" for character in characters)]
    merges = [("t", "h"), ("th", "e</w>"), ("d", "o"), ("do", "g</w>"), ("c", "a"), ("ca", "t</w>")]
    tokens += ["".join(pair) for pair in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={token: number for number, token in enumerate(tokens)},
        merges=merges,
        model_max_length=PROMPT_LENGTH,
    )


def clip_text(projected: bool = False) -> CLIPTextModel | CLIPTextModelWithProjection:
    """A CLIP text encoder, as Stable Diffusion has it, or with the projection of SDXL and SD3."""
    words = tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=PROMPT_LENGTH,
        projection_dim=WIDTH,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval()


def unet(cross_attention_dim: int = WIDTH, **special: Any) -> UNet2DConditionModel:
    """A denoiser that reads text by cross-attention; ``special`` is what a family adds."""
    return UNet2DConditionModel(
        sample_size=IMAGE_SIZE // 2,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=cross_attention_dim,
        attention_head_dim=4,
        norm_num_groups=8,
        **special,
    ).eval()


def vae(shift_factor: float | None = None, halvings: int = 1) -> AutoencoderKL:
    """An autoencoder that halves each side; the real ones do so three times."""
    return AutoencoderKL(
        block_out_channels=(8,) * halvings + (16,),
        layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * (halvings + 1),
        up_block_types=("UpDecoderBlock2D",) * (halvings + 1),
        norm_num_groups=4,
        sample_size=IMAGE_SIZE,
        shift_factor=shift_factor,
    ).eval()


def pipeline(seed: int = 0) -> StableDiffusionPipeline:
    """The pipeline in memory, in eval mode, the same weights for the same ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        text_encoder, network, autoencoder = clip_text(), unet(), vae()
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    pipe = StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=text_encoder,
        tokenizer=tokenizer(),
        unet=network,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def build(folder: str | Path, seed: int = 0) -> Path:
    """Save the pipeline under ``folder`` and return it."""
    folder = Path(folder)
    pipeline(seed).save_pretrained(folder)
    return folder


def sana(seed: int = 0, halvings: int = 2) -> SanaPipeline:
    """A Sana for 32 pixels: a transformer with linear attention and a text encoder of its own.

    Its autoencoder halves each side ``halvings`` times, the real one five times.
    """
    words = tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        text_encoder = Gemma2Model(
            Gemma2Config(
                vocab_size=len(words),
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=1,
                num_attention_heads=2,
                num_key_value_heads=2,
                head_dim=16,
                max_position_embeddings=PROMPT_LENGTH,
                use_cache=False,
            )
        )
        transformer = SanaTransformer2DModel(
            in_channels=4,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=16,
            num_layers=2,
            num_cross_attention_heads=2,
            cross_attention_head_dim=16,
            cross_attention_dim=32,
            caption_channels=32,
            sample_size=8,
            patch_size=1,
        )
        vae = AutoencoderDC(
            latent_channels=4,
            encoder_block_out_channels=(8,) * halvings + (16,),
            decoder_block_out_channels=(8,) * halvings + (16,),
            encoder_layers_per_block=(0,) + (1,) * halvings,
            decoder_layers_per_block=(0,) + (1,) * halvings,
            encoder_qkv_multiscales=((),) * (halvings + 1),
            decoder_qkv_multiscales=((),) * (halvings + 1),
            encoder_out_shortcut=False,
            decoder_in_shortcut=False,
        )
    return SanaPipeline(
        tokenizer=words,
        text_encoder=text_encoder.eval(),
        vae=vae.eval(),
        transformer=transformer.eval(),
        scheduler=DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True
        ),
    )


def build_sana(folder: str | Path, seed: int = 0) -> Path:
    """Save the Sana under ``folder`` and return it."""
    folder = Path(folder)
    sana(seed).save_pretrained(folder)
    return folder
