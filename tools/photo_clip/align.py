"""First training: a projection of the trunk's features and a map of MiniLM's sentences, joined.

The trunk is frozen and its feature maps are cached, so a step touches small matrices alone. Words
and photos meet in four losses:

- ``shown``: every word against every photo of the batch, globally and through the class-wise
  heatmap, with labels from the photo's five captions (unknown pairs are left out): cross-entropy,
  and a contrast of each word's photos with the others, which is what average precision measures;
- ``captions``: CLIP's own contrast of photos and captions;
- ``imagenet``: ImageNet's classifier as a teacher on photos, crops and single positions: the
  distribution over the thousand class names, and for general words the sum over their classes;
- ``anchors``: made features of each ImageNet class (a photo's features, moved along the direction
  that raises the class's logit most for the scatter of features), against all names and groups.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tools.photo_clip import development, teacher, trunk
from tools.photo_clip.concepts import Concepts
from torch import Tensor, nn
from torch.nn import functional as F

log = logging.getLogger(__name__)
HEATMAP = 1 / 40  # the temperature that clip-dpt and TaI-DPT read photos with


@dataclass(frozen=True)
class AlignConfig:
    """Sizes and weights of the losses.

    Attributes:
        steps, batch, rate, decay: of AdamW, with a cosine schedule.
        positions: random positions of a photo that its local loss sees in a step.
        words: random words of the local loss in a step, those shown in the batch more often.
        scale: what cosines are multiplied with at the start.
        shown, rank, captions, imagenet, groups, anchors: weights of the losses.
        mixed: how often two photos are put into one, half of the positions each.
    """

    steps: int = 300
    batch: int = 128
    rate: float = 1e-3
    decay: float = 0.05
    positions: int = 16
    words: int = 400
    scale: float = 20.0
    shown: float = 1.0
    rank: float = 0.5
    captions: float = 1.0
    imagenet: float = 1.0
    groups: float = 1.0
    anchors: float = 1.0
    mixed: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Materials:
    """What both trainings read.

    Attributes:
        maps: view -> [N, P, 1280] float16, cached feature maps.
        means: view -> [N, 1280] float32, their means.
        concepts: words and labels.
        words: [K, T, 384] MiniLM's embeddings of each word in T templates.
        captions: [N, 5, 384] MiniLM's embeddings of the captions.
        train: positions of the photos to train on.
        dev: the development photos, or None where all are trained on.
    """

    maps: dict[str, Tensor]
    means: dict[str, Tensor]
    concepts: Concepts
    words: Tensor
    captions: Tensor
    train: np.ndarray
    dev: development.Development | None


class Joint(nn.Module):
    """Projection of images, map of sentences, and one correction per word."""

    def __init__(self, mean: Tensor, deviation: Tensor, words: int, scale: float) -> None:
        super().__init__()
        width = teacher.WIDTH
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        self.projection = nn.Linear(trunk.WIDTH, width)
        self.sentences = nn.Linear(width, width, bias=False)
        nn.init.eye_(self.sentences.weight)
        nn.init.zeros_(self.projection.bias)
        self.corrections = nn.Parameter(torch.zeros(words, width))
        self.scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.caption_scale = nn.Parameter(torch.tensor(math.log(20.0)))
        self.teacher_scale = nn.Parameter(torch.tensor(math.log(20.0)))
        self.bias = nn.Parameter(torch.full((words,), -4.0))
        self.local_bias = nn.Parameter(torch.full((words,), -6.0))
        self.group_bias = nn.Parameter(torch.full((words,), -4.0))

    def images(self, features: Tensor) -> Tensor:
        """Features [..., 1280] of the trunk -> unit vectors [..., D]."""
        standard = (features - self.mean) / self.deviation
        return F.normalize(self.projection(standard).float(), dim=-1)

    def texts(self, sentences: Tensor, correction: Tensor | None = None) -> Tensor:
        """MiniLM's embeddings [..., 384] -> unit vectors [..., D]."""
        mapped = self.sentences(sentences)
        if correction is not None:
            mapped = mapped + correction
        return F.normalize(mapped.float(), dim=-1)

    def word_vectors(self, words: Tensor) -> Tensor:
        """Embeddings in templates [K, T, 384] -> the mean vector of every word, [K, D]."""
        return F.normalize(self.texts(words, self.corrections[:, None]).mean(1), dim=-1)


def train(materials: Materials, config: AlignConfig, target: Path) -> Joint:
    """Train and write ``target``; development figures are logged where photos were kept."""
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    concepts, words = materials.concepts, materials.words
    labels = torch.from_numpy(concepts.photos)
    classes = torch.from_numpy(concepts.imagenet)
    lemmas = torch.tensor(concepts.lemmas)
    network = trunk.imagenet_trunk()
    weight, bias = network.classifier.weight.detach(), network.classifier.bias.detach()
    photos = torch.from_numpy(materials.train)
    seen = torch.cat([means[photos] for means in materials.means.values()])
    mean, deviation = seen.mean(0), seen.std(0) + 0.05
    model = Joint(mean, deviation, len(words), config.scale)
    _start(model, words, lemmas, weight, labels)
    known = (classes >= 0).any(0).nonzero().squeeze(1)
    groups = (classes[:, known] == 1).float()  # [1000, K']
    directions = _directions(weight, torch.cov((seen - mean).T))
    optimiser, schedule = _optimiser(model, config)
    views = list(materials.maps)
    wholes = [view for view in views if view != "small"]
    everything = torch.arange(len(words))
    started = time.monotonic()
    for step in range(config.steps):
        with torch.autocast("cpu", torch.bfloat16):  # some times faster where AMX is there
            index = torch.from_numpy(rng.choice(materials.train, config.batch, replace=False))
            view = wholes[rng.integers(len(wholes))]
            maps, means, shown = (
                materials.maps[view][index],
                materials.means[view][index],
                labels[index],
            )
            mixed = rng.random() < config.mixed
            if mixed:
                maps, means, shown = _mix(maps, means, shown)
            maps = maps[:, torch.randperm(maps.shape[1])[: config.positions]].float()
            template = torch.from_numpy(rng.integers(words.shape[1], size=len(words)))
            texts = model.texts(words[everything, template], model.corrections)
            image = model.images(means)
            loss = _shown(model, config, image, model.images(maps), texts, shown)
            if not mixed:
                one = torch.from_numpy(rng.integers(5, size=config.batch))
                caption = model.texts(materials.captions[index, one])
                loss = loss + config.captions * _contrast(
                    model.caption_scale.exp() * image @ caption.T
                )
            view = views[rng.integers(len(views))]
            index = torch.from_numpy(rng.choice(materials.train, config.batch, replace=False))
            count = materials.maps[view].shape[1]
            spot = torch.from_numpy(rng.integers(count, size=config.batch))
            features = torch.cat(
                [materials.means[view][index], materials.maps[view][index, spot].float()]
            )
            loss = loss + _taught(
                model, config, features, texts, lemmas, known, groups, weight, bias
            )
            kinds = torch.from_numpy(rng.integers(1000, size=config.batch))
            photo = torch.from_numpy(rng.choice(materials.train, config.batch))
            made = 0.5 * (materials.means[views[-1]][photo] + mean)
            made = made + directions[kinds] * (8 + 8 * torch.rand(config.batch, 1))
            logits = model.scale.exp() * model.images(made) @ texts[known].T
            loss = loss + config.anchors * _sum_of_entropies(
                logits + model.group_bias[known], groups[kinds]
            )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if (step + 1) % 100 == 0 or step + 1 == config.steps:
            seconds = time.monotonic() - started
            log.info("step %d, %.0f s: %s", step + 1, seconds, figures(model, materials))
    torch.save({"model": model.state_dict(), "config": vars(config)}, target)
    return model


def _start(model: Joint, words: Tensor, lemmas: Tensor, weight: Tensor, labels: Tensor) -> None:
    """Ridge regression from class names to ImageNet's classifier; biases from frequencies."""
    with torch.no_grad():
        goal = F.normalize((weight - weight.mean(0)) * model.deviation, dim=1)
        names = F.normalize(words[lemmas].mean(1), dim=1) - words.mean((0, 1))
        ridge = names.T @ names + 2.0 * torch.eye(names.shape[1])
        solved = torch.linalg.solve(ridge, names.T @ goal)
        model.projection.weight.copy_(solved / solved.norm() * 20)
        shown, known = (labels == 1).float().sum(0), (labels >= 0).float().sum(0)
        prior = ((shown + 0.5) / (known + 5)).clamp(1e-4, 0.9).logit()
        model.bias.copy_(prior - 3)
        model.local_bias.copy_(prior - 6)


def _directions(weight: Tensor, scatter: Tensor) -> Tensor:
    """For each class the step in feature space that raises its logit by one: [1000, 1280].

    For classes of equal scatter S a linear classifier has the weights w = S^-1 (mean of the class -
    mean), so S w points from the mean to the class.
    """
    centred = weight - weight.mean(0)
    step = centred @ scatter
    return step / (step * centred).sum(1, keepdim=True)


def _optimiser(model: Joint, config: AlignConfig) -> tuple[Any, Any]:
    matrices = [model.projection.weight, model.sentences.weight]
    rest = [p for p in model.parameters() if p.ndim < 2]
    optimiser = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": config.decay},
            {"params": [model.corrections], "weight_decay": 10 * config.decay},
            {"params": rest, "weight_decay": 0.0, "lr": 5 * config.rate},
        ],
        lr=config.rate,
        betas=(0.9, 0.98),
    )

    def factor(step: int) -> float:
        return min(1.0, (step + 1) / 30) * (0.5 + 0.5 * math.cos(math.pi * step / config.steps))

    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, factor)


def _mix(maps: Tensor, means: Tensor, shown: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Two photos in one: half of the positions each; it shows what either shows."""
    other = torch.randperm(len(maps))
    count = maps.shape[1]
    taken = torch.randperm(count)[: count // 2]
    maps = maps.clone()
    maps[:, taken] = maps[other][:, taken]
    share = len(taken) / count
    return maps, (1 - share) * means + share * means[other], torch.maximum(shown, shown[other])


def _sum_of_entropies(logits: Tensor, goal: Tensor, known: Tensor | None = None) -> Tensor:
    """Binary cross-entropies summed over the words, a twentieth of their mean over the rows."""
    entropies = F.binary_cross_entropy_with_logits(logits.float(), goal, reduction="none")
    if known is not None:
        entropies = entropies * known
    return entropies.sum() / len(logits) / 20


def _contrast(logits: Tensor) -> Tensor:
    goal = torch.arange(len(logits))
    return (F.cross_entropy(logits, goal) + F.cross_entropy(logits.T, goal)) / 2


def _of_each_word(logits: Tensor, labels: Tensor) -> Tensor:
    """Each word's photos against the others of the batch: mean over the words that have some."""
    positive = (labels == 1).float()
    probability = logits.float().masked_fill(labels < 0, -1e4).log_softmax(0)
    count = positive.sum(0)
    return -((probability * positive).sum(0) / count.clamp(min=1))[count > 0].mean()


def _shown(
    model: Joint, config: AlignConfig, image: Tensor, local: Tensor, texts: Tensor, labels: Tensor
) -> Tensor:
    scale = model.scale.exp()
    cosines = image @ texts.T
    known = (labels >= 0).float()
    loss = config.shown * _sum_of_entropies(
        scale * cosines + model.bias, (labels == 1).float(), known
    )
    loss = loss + config.rank * _of_each_word(scale * cosines, labels)
    often = (labels == 1).any(0).float() * 3 + 0.2
    some = torch.multinomial(often, min(config.words, len(often)))
    similarity = local @ texts[some].T  # [B, P, k]
    pooled = ((similarity / HEATMAP).softmax(1) * similarity).sum(1)
    loss = loss + config.shown * _sum_of_entropies(
        scale * pooled + model.local_bias[some], (labels[:, some] == 1).float(), known[:, some]
    )
    return loss + config.rank * _of_each_word(scale * pooled, labels[:, some])


def _taught(
    model: Joint, config: AlignConfig, features: Tensor, texts: Tensor, lemmas: Tensor,
    known: Tensor, groups: Tensor, weight: Tensor, bias: Tensor,
) -> Tensor:  # fmt: skip
    """ImageNet's classifier on the same features says what its names and their groups should."""
    told = (features @ weight.T + bias).float().softmax(1)
    image = model.images(features)
    named = (model.teacher_scale.exp() * image @ texts[lemmas].T).float().log_softmax(1)
    loss = config.imagenet * F.kl_div(named, told, reduction="batchmean")
    logits = model.scale.exp() * image @ texts[known].T + model.group_bias[known]
    return loss + config.groups * _sum_of_entropies(logits, (told @ groups).float().clamp(0, 1))


@torch.no_grad()
def figures(model: Joint, materials: Materials) -> str:
    """Zero-shot mAP on the development photos: global, local, both, both standardised."""
    if materials.dev is None:
        return "no photo was kept"
    from t2ipal.vocabulary import Vocabulary

    position = {text: index for index, text in enumerate(materials.concepts.texts)}
    photos = torch.from_numpy(materials.dev.photos)
    vectors = model.word_vectors(materials.words)
    parts = []
    for name, truth in (("voc2007", materials.dev.voc), ("coco2014", materials.dev.coco)):
        chosen = vectors[[position[word] for word in Vocabulary.load(name).readable]]
        whole = (model.images(materials.means["whole"][photos]) @ chosen.T).numpy()
        rows = []
        for part in photos.split(128):
            similarity = model.images(materials.maps["whole"][part].float()) @ chosen.T
            rows.append(((similarity / HEATMAP).softmax(1) * similarity).sum(1))
        local = torch.cat(rows).numpy()
        both = development.standardised(whole) + development.standardised(local)
        values = [development.mean_ap(s, truth) for s in (whole, local, whole + local, both)]
        parts.append(f"{name} " + " ".join(f"{value:.1f}" for value in values))
    return ", ".join(parts)
