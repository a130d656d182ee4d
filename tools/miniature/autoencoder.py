"""The image autoencoder of the generator: 96 x 96 pixels to 12 x 12 latents, diffusers' format.

A deep-compression autoencoder (DC-AE, arXiv 2410.10733): its pixel-shuffle shortcuts make it learn
several times faster than Stable Diffusion's autoencoder of the same cost. As there, pixels alone
give blurred pictures, so a frozen network has to see the same in both (LPIPS, arXiv 1801.03924);
here it is the small CLIP's image tower.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderDC
from tools.miniature.data import Rendered
from tools.miniature.loop import pixels, train_for
from torch import Tensor, nn
from torch.nn import functional as F

log = logging.getLogger(__name__)
LATENT_CHANNELS = 16


def build() -> AutoencoderDC:
    """A DC-AE of 1.9 million parameters without a stage at full resolution."""
    return AutoencoderDC(
        latent_channels=LATENT_CHANNELS,
        encoder_block_out_channels=(16, 32, 64, 128),
        decoder_block_out_channels=(16, 48, 96, 128),
        encoder_layers_per_block=(0, 1, 1, 1),
        decoder_layers_per_block=(0, 1, 1, 2),
        encoder_qkv_multiscales=((), (), (), ()),
        decoder_qkv_multiscales=((), (), (), ()),
        encoder_out_shortcut=False,
        decoder_in_shortcut=False,
    )


class Perception(nn.Module):
    """How differently a ModifiedResNet sees two batches of pictures [B, 3, H, W] in [-1, 1]."""

    def __init__(self, visual: Any, image_size: int) -> None:
        super().__init__()
        self.visual = visual
        self.image_size = image_size
        self.requires_grad_(False).eval().to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The mean absolute difference of each stage's features, as shares of x's, summed."""
        with torch.no_grad():
            wanted = self.features(x)
        pairs = zip(wanted, self.features(y), strict=True)
        return torch.stack([F.l1_loss(b, a) / a.abs().mean() for a, b in pairs]).sum()

    def features(self, x: Tensor) -> list[Tensor]:
        """The outputs of the stages, at the size the tower was trained at."""
        x = F.interpolate(x, size=(self.image_size, self.image_size), mode="bilinear")
        x = 2 * x  # pixels in [-1, 1] have twice the deviation that CLIP's normalisation divides by
        seen = []
        for stage in ("stem", "layer1", "layer2", "layer3"):
            x = getattr(self.visual, stage)(x)
            seen.append(x)
        return seen


def train(
    data: Rendered,
    folder: Path,
    perception: Perception,
    *,
    minutes: float,
    batch: int = 8,
    seed: int = 0,
) -> None:
    """Train and save to ``folder/vae``; every latent channel comes out with a mean square of 1."""
    torch.manual_seed(seed)
    model = build().to(memory_format=torch.channels_last)
    rng = torch.Generator().manual_seed(seed)
    images = torch.from_numpy(data.images)

    def loss_of(step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        index = torch.randint(len(images), (batch,), generator=rng)
        x = pixels(images[index]) * 2 - 1
        x = x.contiguous(memory_format=torch.channels_last)
        z = model.encode(x).latent
        size = z.pow(2).mean((0, 2, 3), keepdim=True).sqrt()
        y = model.decode(z + 0.1 * size * torch.randn(z.shape, generator=rng)).sample
        l1 = F.l1_loss(y, x)
        edges = sum(F.l1_loss(y.diff(dim=d), x.diff(dim=d)) for d in (2, 3))
        perceived = perception(x, y)
        return l1 + 0.5 * edges + 0.1 * perceived, {
            "l1": l1.item(),
            "perceived": perceived.item(),
            "size": size.detach().mean().item(),
        }

    average = train_for(
        minutes, model, loss_of, folder=folder, rate=2e-3, weight_decay=0.0, warmup=50
    )
    model.load_state_dict(average.state)
    unit_latents(model.eval(), images[:2048])
    model.save_pretrained(folder / "vae")


@torch.no_grad()
def encode(model: AutoencoderDC, images: Tensor, batch: int = 64) -> Tensor:
    """[N, H, W, 3] uint8 -> latents [N, 16, H / 8, W / 8]."""
    parts = [
        model.encode(pixels(images[i : i + batch]) * 2 - 1).latent
        for i in range(0, len(images), batch)
    ]
    return torch.cat(parts)


@torch.no_grad()
def unit_latents(model: AutoencoderDC, images: Tensor) -> None:
    """Fold a scale per channel into the convolutions on both sides of the latents."""
    size = encode(model, images).pow(2).mean((0, 2, 3)).sqrt()
    log.info("latent sizes %s", [round(s, 2) for s in size.tolist()])
    last, first = model.encoder.conv_out, model.decoder.conv_in
    last.weight /= size[:, None, None, None]
    last.bias /= size
    first.weight *= size[None, :, None, None]
