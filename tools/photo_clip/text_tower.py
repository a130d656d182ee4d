"""Second training: the text tower, distilled from MiniLM's sentences in the joint space.

A word in any template has one target, the word's own vector of the first training, so the tower
learns to hear the word and not the phrase around it. Captions and common English nouns have the
mapped sentence embedding. The feature at a single-piece word's own token is pulled to the word's
vector as well: TaI-DPT reads captions token by token.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from open_clip import OPENAI_IMAGENET_TEMPLATES
from open_clip.model import CLIP
from tokenizers import Tokenizer
from tools.photo_clip import tokens
from torch import Tensor
from torch.nn import functional as F

from t2ipal.clip.class_prompts import TEMPLATES
from t2ipal.clip.text import TextTower

log = logging.getLogger(__name__)
_MANY_TEMPLATES = tuple(form("{}") for form in OPENAI_IMAGENET_TEMPLATES)
_PAIRS = (
    "a {} and a {}.",
    "a photo of a {} and a {}.",
    "a {} next to a {}",
    "{}, {}",
    "a {} with a {} in the scene.",
)


@dataclass(frozen=True)
class Texts:
    """Texts with their targets [.., D], unit vectors of the joint space.

    Attributes:
        words, word_targets: the concepts.
        often: positions of words that are sampled more often: the benchmarks' classes.
        nouns, noun_targets: common English nouns without a picture.
        captions, caption_targets: human captions.
    """

    words: Sequence[str]
    word_targets: Tensor
    often: Sequence[int]
    nouns: Sequence[str]
    noun_targets: Tensor
    captions: Sequence[str]
    caption_targets: Tensor


def start(
    model: CLIP, tokenizer: Tokenizer, texts: Texts, pieces: Tensor, origin: Sequence[int]
) -> None:
    """Begin as a mean of word vectors, which training would take a long time to find.

    A piece that is a word has the word's target as its embedding, reduced to the principal
    directions of all targets, which the text projection undoes; other pieces have what ridge
    regression from MiniLM's word embeddings ``pieces`` [30522, 384] says. The first block averages
    what stands before, all others hand on.
    """
    targets = torch.cat([texts.word_targets, texts.noun_targets])
    width = model.token_embedding.weight.shape[1]
    directions = torch.linalg.svd(targets, full_matrices=False).Vh[:width]  # [Wt, D]
    numbers = torch.tensor(origin)
    known = numbers >= 0
    described = pieces[numbers.clamp(min=0)]
    described = described - described[known].mean(0)
    own = _single_piece_words([*texts.words, *texts.nouns], tokenizer)
    have = own >= 0
    x, y = described[have], targets[own[have]]
    ridge = torch.linalg.solve(x.T @ x + 5 * torch.eye(x.shape[1]), x.T @ y)
    vectors = torch.where(have[:, None], targets[own], 0.7 * described @ ridge) @ directions.T
    vectors[~known] = 0
    with torch.no_grad():
        model.token_embedding.weight.copy_(vectors + 0.002 * torch.randn_like(vectors))
        model.positional_embedding.normal_(0, 0.005)
        model.text_projection.copy_(directions)
        for number, block in enumerate(model.transformer.resblocks):
            block.attn.in_proj_weight.normal_(0, 0.5 * width**-0.5)
            block.mlp.c_proj.weight.mul_(0.1)
            block.attn.out_proj.weight.mul_(0.1)
            for bias in (block.attn.in_proj_bias, block.attn.out_proj.bias, block.mlp.c_proj.bias):
                bias.zero_()
            if number == 0:  # query, key and value stand one behind the other
                block.attn.in_proj_weight[2 * width :].copy_(torch.eye(width))
                block.attn.out_proj.weight.copy_(0.3 * torch.eye(width))


class Sampler:
    """Samples texts with targets, in batches of like length."""

    def __init__(self, texts: Texts, tokenizer: Tokenizer, seed: int) -> None:
        self.texts = texts
        self.tokenizer = tokenizer
        self.random = random.Random(seed)
        self.captions = tokens.encode(tokenizer, texts.captions)

    def batches(self, size: int, ahead: int = 8) -> Iterator[tuple[Tensor, Tensor]]:
        """Endless (token ids [B, T], targets [B, D])."""
        while True:
            rows = sorted((self._one() for _ in range(size * ahead)), key=lambda row: len(row[0]))
            parts = [rows[i : i + size] for i in range(0, len(rows), size)]
            self.random.shuffle(parts)
            for part in parts:
                longest = max(len(ids) for ids, _ in part)
                padded = [ids + [0] * (longest - len(ids)) for ids, _ in part]
                yield torch.tensor(padded), torch.stack([target for _, target in part])

    def _one(self) -> tuple[list[int], Tensor]:
        texts, chance = self.texts, self.random.random()
        if chance < 0.5:
            number = self._word()
            return self._ids(self._template().format(texts.words[number])), texts.word_targets[
                number
            ]
        if chance < 0.58:
            one, two = self._word(), self.random.choice(texts.often)
            if self.random.random() < 0.5:
                one, two = two, one
            text = self.random.choice(_PAIRS).format(texts.words[one], texts.words[two])
            return self._ids(text), F.normalize(texts.word_targets[[one, two]].sum(0), dim=0)
        if chance < 0.7:
            number = self.random.randrange(len(texts.nouns))
            form = "{}" if self.random.random() < 0.3 else self.random.choice(TEMPLATES)
            return self._ids(form.format(texts.nouns[number])), texts.noun_targets[number]
        number = self.random.randrange(len(self.captions))
        return self.captions[number], texts.caption_targets[number]

    def _word(self) -> int:
        if self.random.random() < 0.3:
            return self.random.choice(self.texts.often)
        return self.random.randrange(len(self.texts.words))

    def _template(self) -> str:
        chance = self.random.random()
        if chance < 0.25:
            return "{}" if chance < 0.15 else "{}."
        return self.random.choice(TEMPLATES if chance < 0.7 else _MANY_TEMPLATES)

    def _ids(self, text: str) -> list[int]:
        return tokens.encode(self.tokenizer, [text])[0]


def train(
    model: CLIP, tokenizer: Tokenizer, texts: Texts, *, steps: int, batch: int = 256,
    rate: float = 1e-3, seed: int = 0,
) -> None:  # fmt: skip
    """Distil for so many steps; the vision tower is not touched."""
    torch.manual_seed(seed)
    tower = TextTower(model)
    for parameter in model.visual.parameters():
        parameter.requires_grad_(False)
    trained = [p for n, p in model.named_parameters() if p.requires_grad and n != "logit_scale"]
    optimiser = torch.optim.AdamW(
        [
            {"params": [p for p in trained if p.ndim >= 2], "weight_decay": 0.02},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=rate,
        betas=(0.9, 0.98),
    )
    own = _single_piece_words(texts.words, tokenizer)
    started, total = time.monotonic(), 0.0
    batches = Sampler(texts, tokenizer, seed).batches(batch)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 50) * (1 - step / steps) ** 0.7
        ids, target = next(batches)
        with torch.autocast("cpu", torch.bfloat16):
            features = tower.encode(tower.embed(ids), ids.argmax(1), 0)
        text = F.normalize(features.global_.float(), dim=-1)
        loss = 1 - (text * target).sum(1).mean()
        # neighbours in the batch keep their distances
        near = (20 * target @ target.T).softmax(1)
        loss = loss + 0.2 * F.kl_div(
            (20 * text @ target.T).log_softmax(1), near, reduction="batchmean"
        )
        word = own[ids]
        if (word >= 0).any():
            token = F.normalize(features.local[word >= 0].float(), dim=-1)
            wanted = texts.word_targets[word[word >= 0]]
            loss = loss + 0.15 * (1 - (token * wanted).sum(1).mean())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        total += loss.item()
        if (step + 1) % 200 == 0:
            seconds = time.monotonic() - started
            log.info("step %d, %.0f s: loss %.3f", step + 1, seconds, total / 200)
            total = 0.0


def _single_piece_words(words: Sequence[str], tokenizer: Tokenizer) -> Tensor:
    """[vocabulary]: the word that a piece alone is, or -1."""
    own = torch.full((tokenizer.get_vocab_size(),), -1, dtype=torch.long)
    for number, ids in enumerate(tokens.encode(tokenizer, words)):
        if len(ids) == 3:  # start, the piece, end
            own[ids[1]] = number
    return own


@torch.no_grad()
def embed(model: CLIP, tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """Texts -> unit vectors [N, D] of the trained tower."""
    tower = TextTower(model)
    rows = tokens.encode(tokenizer, texts)
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    return F.normalize(tower.encode(tower.embed(ids), ids.argmax(1), 0).global_, dim=-1)
