"""Training of the small text-to-image diffusion model, and its pipeline in diffusers' format.

A Sana transformer (arXiv 2410.10629: linear attention and depthwise convolutions) over 64 patches
of 8 x 8 pixels, conditioned by cross attention on a small causal text encoder that is trained with
it. There is no compression before it: what an autoencoder this small loses are the very marks by
which icons are told apart. The pipeline wants one, so it gets one that passes pixels through.

A patch has more numbers than the transformer is wide, and most of them are noise; so the network
predicts the clean picture, which is simple, and never the noise, and its loss is that of the
velocity which follows (JiT, arXiv 2511.13720). So little training needs more help, by two linear
maps that are not part of the pipeline: from the hidden states half-way, which class is where, as
the renderer knows it (REPA, arXiv 2410.06940, with the truth in the place of a vision model's
features); from the text's states, which classes it names.
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
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Gemma2Config, Gemma2Model

from t2ipal.miniature.pretrain.data import Rendered, coverage
from t2ipal.miniature.pretrain.loop import pixels, train_for
from t2ipal.miniature.pretrain.tokens import as_fast, encode
from t2ipal.miniature.scenes import SIZE
from t2ipal.miniature.world import THINGS

log = logging.getLogger(__name__)
CONTEXT = 40
WIDTH, HEADS, LAYERS, PATCH = 128, 4, 5, 8
TEXT_WIDTH = 128
SCALE = 2.0
"""From pixels in [-1, 1] to numbers with a deviation of about 1, as the noise has."""
LEAST_NOISE = 0.25
"""Below this share of noise the loss does not ask for ever finer details."""


class Denoiser(nn.Module):
    """Text encoder and transformer, trained together, and the two maps to classes."""

    def __init__(self, vocabulary_size: int) -> None:
        super().__init__()
        self.text = Gemma2Model(
            Gemma2Config(
                vocab_size=vocabulary_size,
                hidden_size=TEXT_WIDTH,
                intermediate_size=3 * TEXT_WIDTH,
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
            in_channels=3,
            out_channels=3,
            num_attention_heads=HEADS,
            attention_head_dim=WIDTH // HEADS,
            num_layers=LAYERS,
            num_cross_attention_heads=HEADS,
            cross_attention_head_dim=WIDTH // HEADS,
            cross_attention_dim=WIDTH,
            caption_channels=TEXT_WIDTH,
            mlp_ratio=2.5,
            sample_size=SIZE,
            patch_size=PATCH,
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
        self.names = nn.Linear(TEXT_WIDTH, len(THINGS))
        transformer.transformer_blocks[LAYERS // 2].register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: Any, hidden: Tensor) -> None:
        self.hidden = hidden

    def forward(self, x: Tensor, time: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, 3, 64, 64], time [B] in [0, 1000], tokens [B, T].

        Returns:
            The clean picture like x; logits [B, 64, classes + 1] of what is in each cell; logits
            [B, classes] of what the text names.
        """
        mask = (tokens != 0).long()
        text = self.text(input_ids=tokens, attention_mask=mask)[0]
        clean = self.transformer(
            x, encoder_hidden_states=text, encoder_attention_mask=mask, timestep=time
        ).sample
        named = self.names(text).masked_fill(mask[:, :, None] == 0, -1e4).amax(1)
        return clean, self.classes(self.hidden), named


def velocity_loss(predicted: Tensor, clean: Tensor, sigma: Tensor) -> Tensor:
    """Mean square error of the velocity that follows from a predicted picture.

    A picture x mixed with a share sigma of noise has the velocity (x_sigma - x) / sigma.
    """
    error = (predicted - clean).pow(2).mean((1, 2, 3))
    return (error / sigma.clamp_min(LEAST_NOISE).pow(2)).mean()


def train(
    data: list[Rendered],
    tokenizer: Tokenizer,
    work: Path,
    *,
    minutes: float,
    batch: int = 32,
    captioned: float = 0.15,
    seed: int = 0,
) -> None:
    """Train and save the pipeline to ``work/generator/pipeline`` in half precision.

    ``captioned`` is the share of batches from the scenes that illustrate given captions.
    """
    torch.manual_seed(seed)
    images = [torch.from_numpy(d.images) for d in data]
    tokens = [torch.tensor(encode(tokenizer, d.captions, CONTEXT)) for d in data]
    seen = [torch.from_numpy(d.seen) for d in data]
    named = [torch.from_numpy(d.named()).float() for d in data]
    empty = torch.tensor(encode(tokenizer, [""], CONTEXT))
    shares = torch.tensor([1.0 - captioned, captioned][: len(data)])
    # Scenes of few things teach what each looks like; they come more often.
    weights = [torch.tensor([3.0 / (1 + len(names)) for names in d.names]) for d in data]
    model = Denoiser(tokenizer.get_vocab_size())
    rng = torch.Generator().manual_seed(seed)

    def loss_of(step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        which = int(torch.multinomial(shares, 1, generator=rng))
        index = torch.multinomial(weights[which], batch, generator=rng)
        clean, text = SCALE * (pixels(images[which][index]) * 2 - 1), tokens[which][index]
        dropped = torch.rand(batch, generator=rng) < 0.1
        text = torch.where(dropped[:, None], empty, text)
        text = text[:, : int((text != 0).sum(1).max())]
        noise = torch.randn(clean.shape, generator=rng)
        sigma = torch.sigmoid(torch.randn(batch, generator=rng))
        mixed = torch.lerp(clean, noise, sigma[:, None, None, None])
        predicted, classes, names = model(mixed, 1000 * sigma, text)
        flow = velocity_loss(predicted, clean, sigma)
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
        no_decay=("embed_tokens", "scale_shift_table"),
    )
    model.load_state_dict(average.state)
    pipeline(model, tokenizer).to(torch.float16).save_pretrained(work / "generator" / "pipeline")


@torch.no_grad()
def pass_through() -> AutoencoderDC:
    """An autoencoder in the pipeline's format that changes nothing: its latents are the pixels.

    Every convolution copies its centre, every residual block adds nothing. The decoder normalises
    by the root mean square over the channels: a large constant in a fourth channel makes that the
    same everywhere, and the weight behind takes it back. Its ReLU passes what is lifted above 0.
    """
    model = AutoencoderDC(
        latent_channels=3,
        encoder_block_out_channels=(4,),
        decoder_block_out_channels=(4,),
        encoder_layers_per_block=(1,),
        decoder_layers_per_block=(1,),
        encoder_qkv_multiscales=((),),
        decoder_qkv_multiscales=((),),
        encoder_out_shortcut=False,
        decoder_in_shortcut=False,
        scaling_factor=SCALE,
    )
    for parameter in model.parameters():
        parameter.zero_()
    constant, lift = 1024.0, 4.0
    encoder, decoder = model.encoder, model.decoder
    for layer in (encoder.conv_in, encoder.conv_out, decoder.conv_in, decoder.conv_out):
        for channel in range(3):
            layer.weight[channel, channel, 1, 1] = 1.0
    decoder.conv_in.bias[3] = constant
    decoder.norm_out.weight.fill_(constant / 2)  # the root mean square of (x, y, z, constant)
    decoder.norm_out.bias.fill_(lift)
    decoder.conv_out.bias.fill_(-lift)
    return model.eval()


def pipeline(model: Denoiser, tokenizer: Tokenizer) -> Any:
    """The parts as diffusers' own Sana pipeline, sampled by DPM-Solver++."""
    return SanaPipeline(
        tokenizer=as_fast(tokenizer, CONTEXT),
        text_encoder=model.text,
        vae=pass_through(),
        transformer=model.transformer,
        scheduler=DPMSolverMultistepScheduler(
            prediction_type="sample", use_flow_sigmas=True, flow_shift=1.0
        ),
    )
