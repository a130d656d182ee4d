"""A toy CLIP and toy items: noisy features around class directions that a text tower can name."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from t2ipal.method.build import build_head
from t2ipal.method.head import T2IPALHead
from t2ipal.method.head_config import HeadConfig
from t2ipal.method.items import ItemSet
from t2ipal.method.prompts import ClassTokens, _PromptLayout

WIDTH, TEXT_WIDTH, CLASSES = 32, 16, 6
NAMES = ("ant", "bee", "cat", "dog", "elk", "fox")


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def unit(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(shape, generator=generator(seed)), dim=-1)


class ToyTextTower(nn.Module):
    """Causal: a two-layer network on the mean of the embeddings up to EOS. Its weights ask for
    gradients, to show that training gives them none."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        made = generator(seed)
        self.first = nn.Parameter(torch.randn(64, TEXT_WIDTH, generator=made))
        self.second = nn.Parameter(torch.randn(WIDTH, 64, generator=made) / 8)

    def forward(self, embeddings: Tensor, eos: Tensor, shared: int = 0) -> Tensor:
        positions = torch.arange(embeddings.shape[-2])
        real = (positions <= eos[:, None]).float()[..., None]
        mean = (embeddings * real).sum(dim=-2) / real.sum(dim=-2)
        return torch.tanh(mean @ self.first.T) @ self.second.T


@dataclass
class World:
    """Everything a test needs; ``truth`` [C, D] are the directions that images show."""

    tower: ToyTextTower
    tokens: ClassTokens
    truth: Tensor
    zero_shot: Tensor

    def head(self, config: HeadConfig, seed: int = 0) -> T2IPALHead:
        return build_head(
            config,
            NAMES,
            tokens=self.tokens,
            text_encoder=self.tower,
            class_embeddings=self.zero_shot,
            seed=seed,
        )

    def images(self, count: int, seed: int, noise: float = 0.6) -> ItemSet:
        return self._items(count, seed, noise, 9, self.truth, "image")

    def captions(self, count: int, seed: int, noise: float = 0.4) -> ItemSet:
        """Captions see the same directions under another offset, and have padding."""
        offset = 0.5 * unit(WIDTH, seed=99)
        return self._items(count, seed, noise, 7, self.truth + offset, "caption")

    def _items(
        self, count: int, seed: int, noise: float, positions: int, directions: Tensor, kind: str
    ) -> ItemSet:
        made = generator(seed)
        targets = torch.zeros(count, CLASSES, dtype=torch.int8)
        scale = noise / WIDTH**0.5
        local = torch.randn(count, positions, WIDTH, generator=made) * 2 * scale
        for row in range(count):
            shown = torch.randperm(CLASSES, generator=made)[: 1 + row % 3]
            targets[row, shown] = 1
            for place, label in enumerate(shown.tolist()):
                local[row, place] += directions[label]
        global_ = local.mean(dim=1) * 2 + torch.randn(count, WIDTH, generator=made) * scale
        mask = None
        if kind == "caption":
            lengths = torch.randint(4, positions + 1, (count, 1), generator=made)
            mask = torch.arange(positions) < lengths
        return ItemSet(
            F.normalize(global_, dim=-1), F.normalize(local, dim=-1), mask, targets, kind
        )


def make_world(seed: int = 0) -> World:
    """Images show the directions of prompts with a context nobody is told; zero-shot prompts have
    another one."""
    made = generator(seed)
    names = [torch.randn(2 + index % 2, TEXT_WIDTH, generator=made) for index in range(CLASSES)]
    tokens = ClassTokens(
        sos=torch.randn(TEXT_WIDTH, generator=made),
        names=names,
        eos_embedding=torch.randn(TEXT_WIDTH, generator=made),
        init=torch.randn(2, TEXT_WIDTH, generator=made),
    )
    tower = ToyTextTower(seed)
    layout = _PromptLayout.of(tokens, 4, "end")
    with torch.no_grad():
        hidden, told = (
            F.normalize(tower(layout.fill(context), layout.eos), dim=-1)
            for context in torch.randn(2, 4, TEXT_WIDTH, generator=made)
        )
    return World(tower, tokens, F.normalize(hidden + 0.4 * unit(CLASSES, WIDTH), dim=-1), told)
