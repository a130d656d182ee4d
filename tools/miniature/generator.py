"""Training of the small text-to-image diffusion model, and its pipeline in diffusers' format.

A Sana transformer (arXiv 2410.10629: linear attention and depthwise convolutions) over the
autoencoder's 12 x 12 latents, conditioned by cross attention on a small causal text encoder that is
trained with it, by rectified flow (arXiv 2209.03003).

So little training needs help, by two linear maps that are not part of the pipeline: from the hidden
states half-way, which class is where, as the renderer knows it (representation alignment, REPA,
arXiv 2410.06940, with the truth in the place of a vision model's features); from the text's states,
which classes it names.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    DPMSolverMultistepScheduler,
    SanaPipeline,
    SanaTransformer2DModel,
)
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tools.miniature import autoencoder
from tools.miniature.data import Rendered, coverage
from tools.miniature.loop import train_for
from tools.miniature.tokens import as_fast, encode
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Gemma2Config, Gemma2Model

from t2ipal.files import atomic_path
from t2ipal.miniature.world import THINGS

log = logging.getLogger(__name__)
CONTEXT = 40
WIDTH, HEADS, LAYERS = 128, 4, 5


class Denoiser(nn.Module):
    """Text encoder and transformer, trained together, and the two maps to classes."""

    def __init__(self, vocabulary_size: int) -> None:
        super().__init__()
        self.text = Gemma2Model(
            Gemma2Config(
                vocab_size=vocabulary_size,
                hidden_size=128,
                intermediate_size=384,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=4,
                head_dim=32,
                query_pre_attn_scalar=32,
                max_position_embeddings=CONTEXT,
                pad_token_id=0,
                bos_token_id=vocabulary_size - 2,
                eos_token_id=vocabulary_size - 1,
                use_cache=False,
            )
        )
        self.transformer = SanaTransformer2DModel(
            in_channels=autoencoder.LATENT_CHANNELS,
            out_channels=autoencoder.LATENT_CHANNELS,
            num_attention_heads=HEADS,
            attention_head_dim=WIDTH // HEADS,
            num_layers=LAYERS,
            num_cross_attention_heads=HEADS,
            cross_attention_head_dim=WIDTH // HEADS,
            cross_attention_dim=WIDTH,
            caption_channels=128,
            mlp_ratio=2.5,
            sample_size=12,
            patch_size=1,
            interpolation_scale=1,
        )
        transformer = self.transformer
        start_as_identity = [
            transformer.time_embed.linear.weight,
            transformer.time_embed.linear.bias,
            transformer.proj_out.weight,
            transformer.proj_out.bias,
            transformer.scale_shift_table,
            *(block.scale_shift_table for block in transformer.transformer_blocks),
            *(block.attn2.to_out[0].weight for block in transformer.transformer_blocks),
        ]
        for parameter in start_as_identity:
            nn.init.zeros_(parameter)
        self.classes = nn.Linear(WIDTH, len(THINGS) + 1)
        self.names = nn.Linear(WIDTH, len(THINGS))
        transformer.transformer_blocks[LAYERS // 2].register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: Any, hidden: Tensor) -> None:
        self.hidden = hidden

    def forward(self, x: Tensor, time: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, C, H, W], time [B] in [0, 1000], tokens [B, T].

        Returns:
            The velocity like x; logits [B, HW, classes + 1] of what is in each cell; logits
            [B, classes] of what the text names.
        """
        mask = (tokens != 0).long()
        text = self.text(input_ids=tokens, attention_mask=mask)[0]
        velocity = self.transformer(
            x, encoder_hidden_states=text, encoder_attention_mask=mask, timestep=time
        ).sample
        named = self.names(text).masked_fill(mask[:, :, None] == 0, -1e4).amax(1)
        return velocity, self.classes(self.hidden), named


def latents_of(work: Path, data: list[Rendered]) -> tuple[AutoencoderDC, list[Tensor]]:
    """The trained autoencoder and the latents [N, C, H, W] of every set of scenes."""
    vae = AutoencoderDC.from_pretrained(work / "autoencoder" / "vae").eval()
    kept = work / "generator" / "latents.safetensors"
    if not kept.exists():
        parts = [autoencoder.encode(vae, torch.from_numpy(d.images)) for d in data]
        with atomic_path(kept) as path:
            dense = [part.clone(memory_format=torch.contiguous_format) for part in parts]
            save_file({str(i): part for i, part in enumerate(dense)}, path)
    return vae, [part for _, part in sorted(load_file(kept).items())]


def train(
    data: list[Rendered],
    tokenizer: Tokenizer,
    work: Path,
    *,
    minutes: float,
    start: Path | None = None,
    batch: int = 32,
    captioned: float = 0.15,
    seed: int = 0,
) -> None:
    """Train and save the pipeline to ``work/generator/pipeline`` in half precision.

    Args:
        start: folder of a pipeline of this kind to start from.
        captioned: share of the batches from scenes that illustrate given captions.
    """
    torch.manual_seed(seed)
    vae, latents = latents_of(work, data)
    log.info("%d latents", sum(map(len, latents)))
    tokens = [torch.tensor(encode(tokenizer, d.captions, CONTEXT)) for d in data]
    seen = [torch.from_numpy(d.seen) for d in data]
    named = [torch.from_numpy(d.named()).float() for d in data]
    empty = torch.tensor(encode(tokenizer, [""], CONTEXT))
    shares = torch.tensor([1.0 - captioned, captioned][: len(data)])
    # Scenes of few things teach what each looks like; they come more often.
    weights = [torch.tensor([3.0 / (1 + len(names)) for names in d.names]) for d in data]
    model = Denoiser(tokenizer.get_vocab_size())
    if start is not None:
        model.text.load_state_dict(load_file(start / "text_encoder" / "model.safetensors"))
        model.transformer.load_state_dict(
            load_file(start / "transformer" / "diffusion_pytorch_model.safetensors")
        )
    rng = torch.Generator().manual_seed(seed)

    def loss_of(step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        which = int(torch.multinomial(shares, 1, generator=rng))
        index = torch.multinomial(weights[which], batch, generator=rng)
        clean, text = latents[which][index], tokens[which][index]
        dropped = torch.rand(batch, generator=rng) < 0.1
        text = torch.where(dropped[:, None], empty, text)
        text = text[:, : int((text != 0).sum(1).max())]
        noise = torch.randn(clean.shape, generator=rng)
        sigma = torch.sigmoid(torch.randn(batch, generator=rng))
        mixed = torch.lerp(clean, noise, sigma[:, None, None, None])
        velocity, classes, names = model(mixed, 1000 * sigma, text)
        flow = (velocity - (noise - clean)).pow(2).mean()
        share = coverage(seen[which][index], classes.shape[1])
        cells = F.cross_entropy(classes.transpose(1, 2), share.transpose(1, 2))
        wanted = named[which][index].masked_fill(dropped[:, None], 0)
        words = F.binary_cross_entropy_with_logits(names, wanted, reduction="sum") / batch
        parts = {"flow": flow, "cells": cells, "words": words}
        return flow + 0.2 * cells + 0.1 * words, {k: v.item() for k, v in parts.items()}

    average = train_for(
        minutes,
        model,
        loss_of,
        folder=work / "generator",
        rate=1e-3,
        weight_decay=0.01,
        warmup=200 if start is None else 50,
        no_decay=("embed_tokens", "scale_shift_table"),
    )
    model.load_state_dict(average.state)
    pipeline(model, vae, tokenizer).to(torch.float16).save_pretrained(
        work / "generator" / "pipeline"
    )


def pipeline(model: Denoiser, vae: AutoencoderDC, tokenizer: Tokenizer) -> Any:
    """The parts as diffusers' own Sana pipeline, sampled by DPM-Solver++."""
    return SanaPipeline(
        tokenizer=as_fast(tokenizer, CONTEXT),
        text_encoder=model.text,
        vae=vae,
        transformer=model.transformer,
        scheduler=DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=1.0
        ),
    )
