"""Tuning a head on cached features: a few thousand parameters, the frozen CLIP never touched.

A step embeds all prompts under both contexts in one pass through the text tower (of many classes a
sample: :mod:`t2ipal.method.class_sample`), scores a batch of images and a batch of captions with
them, and takes the loss on every branch. The state to keep is chosen on held-out synthetic images.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from t2ipal.errors import UserError, listed
from t2ipal.method.class_sample import ClassSample, of_classes, sample_classes, weighed
from t2ipal.method.head import Scores, T2IPALHead
from t2ipal.method.items import ItemSet
from t2ipal.method.losses import Loss, loss_function
from t2ipal.method.optimiser import Optimiser
from t2ipal.method.prompts import ClassEmbeddings
from t2ipal.method.train_config import ItemKind, TrainConfig
from t2ipal.metrics.ranking import average_precision, mean_average_precision

logger = logging.getLogger(__name__)

Pools = Mapping[ItemKind, ItemSet]
"""The items of each kind to train on, images first."""


@dataclass(frozen=True)
class EpochRecord:
    """One epoch: its mean loss (None before training) and the held-out mAP where it was judged."""

    epoch: int
    loss: float | None
    valid_map: float | None


@dataclass(frozen=True)
class FitResult:
    """What came of training; ``best_epoch`` is the kept one, 0 the start."""

    best_epoch: int
    history: tuple[EpochRecord, ...]

    @property
    def valid_map(self) -> float | None:
        """Held-out mAP of the kept epoch."""
        return next(row.valid_map for row in self.history if row.epoch == self.best_epoch)


def fit(
    head: T2IPALHead,
    train: Sequence[ItemSet],
    valid: ItemSet,
    config: TrainConfig,
    *,
    seed: int = 0,
    log: Callable[[dict[str, Any]], None] | None = None,
) -> FitResult:
    """Tune ``head`` in place and leave it baked in its best state.

    Prototypes and adapter are started from the images in ``train`` if the head has them and they
    were not started, also where ``config.train_on`` is captions. Captions train the prompts alone.

    Args:
        head: a head with its text tower (:func:`t2ipal.method.build.build_head`).
        train: sets of images and captions; those of a kind are pooled, and a kind that
            ``config.train_on`` does not name is not trained on.
        valid: held-out synthetic images; never test images.
        config: how to train. The result depends on it, the seed and the data alone.
        seed: of the start, of the order of the items and of the sampled classes.
        log: called with each :class:`EpochRecord` as a dict.

    Raises:
        UserError: items of a wanted kind are missing, a class has no image to start from, nothing
            is left to train, the held-out items show no class, or the loss diverges.
    """
    for items in (*train, valid):
        _check_classes(head, items)
    pools = _pool(train, config)
    head.thaw()
    _start(head, train, seed)
    _refuse_classes_without_item(head, pools, config)
    size = {kind: min(config.batch_size, len(items)) for kind, items in pools.items()}
    steps = max(math.ceil(len(items) / size[kind]) for kind, items in pools.items())
    optimiser = Optimiser(head, config, config.epochs * steps)
    loss_of = _BranchLoss(config, pools, head)
    generator = torch.Generator().manual_seed(seed)
    sampling = torch.Generator().manual_seed(seed)  # its own, so that the order stays the same

    history: list[EpochRecord] = []
    best_epoch, best_map, best = 0, -math.inf, optimiser.snapshot()
    for epoch in range(config.epochs + 1):
        loss = None
        if epoch > 0:
            orders = {
                kind: _batches(len(items), size[kind], steps, generator)
                for kind, items in pools.items()
            }
            total = torch.zeros((), device=head.device)
            for step in range(steps):
                batches = {kind: items.take(orders[kind][step]) for kind, items in pools.items()}
                labels = [items.targets for items in batches.values()]
                sample = sample_classes(labels, config.classes_per_step, sampling)
                value = _loss(head, batches, loss_of, sample)
                optimiser.step(value)
                total += value.detach()
            loss = float(total) / steps
            _refuse_divergence(loss, epoch, config)
        valid_map = None
        if epoch % config.evaluate_every == 0 or epoch == config.epochs:
            with optimiser.averaged():
                valid_map = _evaluate(head, valid, epoch, config)
                if valid_map > best_map or config.select == "last":
                    best_epoch, best_map, best = epoch, valid_map, optimiser.snapshot()
        history.append(EpochRecord(epoch, loss, valid_map))
        logger.debug("epoch %d: loss %s, held-out mAP %s", epoch, loss, valid_map)
        if log is not None:
            log(dataclasses.asdict(history[-1]))
    optimiser.restore(best)
    head.bake()
    return FitResult(best_epoch, tuple(history))


class _BranchLoss:
    """The loss summed over the branches that count, images and captions weighed."""

    def __init__(self, config: TrainConfig, pools: Pools, head: T2IPALHead) -> None:
        self.loss: Loss = loss_function(config.loss)
        self.joint = head.joint
        self.centred = config.loss.pointwise and not head.joint
        weights = head.config.fusion.weights
        self.branches = [name for name, weight in weights.items() if weight > 0]
        both = len(pools) == 2
        self.shares: dict[ItemKind, float] = {
            "image": 1 - config.caption_weight if both else 1.0,
            "caption": config.caption_weight if both else 1.0,
        }
        self.log_odds = {kind: _log_odds(items.targets) for kind, items in pools.items()}

    def __call__(
        self, scores: Scores, targets: Tensor, kind: ItemKind, weights: Tensor | None
    ) -> Tensor:
        """Scalar loss of a batch of one kind; ``weights`` are those of sampled classes."""
        if self.joint:
            return self.shares[kind] * self.loss(scores.fused, targets, weights)
        total = scores.fused.new_zeros(())
        for name in self.branches:
            if name in scores.branches:
                logits = scores.branches[name]
                if self.centred:
                    logits = _centre(logits, targets, weights, self.log_odds[kind])
                total = total + self.loss(logits, targets, weights)
        return self.shares[kind] * total


def _loss(
    head: T2IPALHead, batches: Pools, loss_of: _BranchLoss, sample: ClassSample | None
) -> Tensor:
    """Loss of one step over a batch of each kind; the text tower runs once for all of them."""
    rows = None if sample is None else sample.classes.to(head.device)
    weights = None if sample is None else sample.weights.to(head.device)
    classes: ClassEmbeddings = head.prompts(rows)
    total = classes.global_.new_zeros(())
    for kind, batch in batches.items():
        scores = head.scores(batch.global_, batch.local, batch.mask, kind, classes)
        targets = of_classes(batch.targets.to(total.device), rows, dim=1)
        total = total + loss_of(scores, targets, kind, weights)
    return total


def _start(head: T2IPALHead, train: Sequence[ItemSet], seed: int) -> None:
    """Start prototypes and adapter, unless they were or the head has none."""
    if head.started:
        return
    images = [items for items in train if items.kind == "image" and len(items)]
    if not images:
        raise UserError(
            "prototypes and adapter start from images but there are none: generate some, or turn "
            "both off to train prompts on captions alone."
        )
    head.start(ItemSet.join(images), seed=seed)


def _pool(train: Sequence[ItemSet], config: TrainConfig) -> Pools:
    pools: dict[ItemKind, ItemSet] = {}
    for kind in config.kinds:
        sets = [items for items in train if items.kind == kind and len(items)]
        if not sets:
            raise UserError(
                f"training on {config.train_on} needs {kind}s, but there are none: add some or "
                "change train_on."
            )
        pools[kind] = ItemSet.join(sets)
    return pools


def _refuse_classes_without_item(head: T2IPALHead, pools: Pools, config: TrainConfig) -> None:
    """Training would only teach that such a class is absent from everything."""
    shown = torch.stack([(items.targets > 0).any(dim=0) for items in pools.values()]).any(dim=0)
    missing = [name for name, found in zip(head.names, shown.tolist(), strict=True) if not found]
    if missing:
        raise UserError(
            f"training on {config.train_on}: none shows {listed(missing)}; add "
            "captions that name the class (label --compose writes some) or labelled images of it, "
            "or take it out of the vocabulary."
        )


def _check_classes(head: T2IPALHead, items: ItemSet) -> None:
    if items.targets.shape[1] != len(head.names):
        raise ValueError(
            f"{items.kind} targets have {items.targets.shape[1]} classes but the head has "
            f"{len(head.names)}"
        )


def _batches(count: int, size: int, steps: int, generator: torch.Generator) -> Tensor:
    """Rows of ``steps`` batches [steps, size]: shuffled passes over the items, end to end."""
    passes = math.ceil(steps * size / count)
    order = torch.cat([torch.randperm(count, generator=generator) for _ in range(passes)])
    return order[: steps * size].view(steps, size)


def _log_odds(targets: Tensor) -> float:
    """Log-odds that a known label is present, kept finite."""
    known = int((targets >= 0).sum())
    present = float(targets.clamp_min(0).sum())
    return math.log((present + 0.5) / (known - present + 0.5))


def _centre(logits: Tensor, targets: Tensor, weights: Tensor | None, log_odds: float) -> Tensor:
    """Give cosines an origin: their mean over the batch's known labels becomes ``log_odds``.

    Pointwise losses read 0 as even odds, but the zero of a cosine says nothing. A shift that all
    classes and items share changes no ranking, so none is learned and none is fought.
    """
    known = targets >= 0
    total = weighed(logits, weights).masked_fill(~known, 0).sum()
    mean = total / weighed(known, weights).sum().clamp_min(1)
    return logits - mean + log_odds


def _evaluate(head: T2IPALHead, valid: ItemSet, epoch: int, config: TrainConfig) -> float:
    """mAP on the held-out items."""
    scores = head.score_items(valid).cpu().numpy()
    _refuse_divergence(float(scores.sum()), epoch, config)
    value = mean_average_precision(average_precision(scores, valid.targets.cpu().numpy()))
    if math.isnan(value):
        raise UserError(
            "the held-out items show no class, so no epoch can be chosen by them: hold more out."
        )
    return value


def _refuse_divergence(value: float, epoch: int, config: TrainConfig) -> None:
    """Raise a UserError unless the loss, or the sum of scores, is a number."""
    if not math.isfinite(value):
        raise UserError(
            f"training diverged in epoch {epoch}: lower the learning rates (prompts "
            f"{config.lr_prompts}, prototypes {config.lr_prototypes}, adapter {config.lr_adapter})."
        )
