"""How a recognizer is trained, as frozen dataclasses checked when made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from t2ipal.errors import UserError
from t2ipal.method import checks

LossKind = Literal["hinge", "pair-hinge", "log-sum-exp", "asymmetric", "bce"]
TrainOn = Literal["captions", "images", "both"]
OptimiserKind = Literal["sgd", "adamw"]
Schedule = Literal["steps", "epochs"]
Selection = Literal["best", "last"]
ItemKind = Literal["image", "caption"]
VerifyKind = Literal["none", "unknown", "drop", "soft"]


@dataclass(frozen=True)
class LossConfig:
    """Which loss every branch is trained with; see :mod:`t2ipal.method.losses`.

    ``margin`` is for the ranking losses; the last three are for the asymmetric loss.
    """

    kind: LossKind = "hinge"
    margin: float = 1.0
    positive_focus: float = 1.0
    negative_focus: float = 4.0
    probability_shift: float = 0.05

    def __post_init__(self) -> None:
        checks.choice("loss.kind", self.kind, get_args(LossKind))
        checks.not_negative("loss.margin", self.margin)
        checks.not_negative("loss.positive_focus", self.positive_focus)
        checks.not_negative("loss.negative_focus", self.negative_focus)
        checks.fraction("loss.probability_shift", self.probability_shift)

    @property
    def pointwise(self) -> bool:
        """Whether it judges each logit alone, so that the logits need an origin."""
        return self.kind in ("asymmetric", "bce")


@dataclass(frozen=True)
class VerifyConfig:
    """What becomes of labels that the frozen CLIP does not find in a drawing.

    ``unknown`` makes them unknown, and so the classes that it finds and nobody asked for; ``drop``
    does that and leaves out the images that lack a label. A label is found unless more than
    ``patience`` absent classes outscore it (:mod:`t2ipal.method.verification`). ``soft`` keeps
    all labels and weighs each: by 1 where none outscores it, by a half where ``patience`` do.
    """

    kind: VerifyKind = "none"
    patience: int = 3

    def __post_init__(self) -> None:
        checks.choice("verify.kind", self.kind, get_args(VerifyKind))
        if not isinstance(self.patience, int) or self.patience < 0:
            raise UserError(
                f"verify.patience must be a whole number of at least 0, not {self.patience!r}."
            )
        if self.kind == "soft" and self.patience == 0:
            raise UserError("verify.patience must be at least 1 for verify.kind soft.")


@dataclass(frozen=True)
class TrainConfig:
    """How the tuned tensors are found.

    ``caption_weight`` is the share of the captions in the loss when training on both kinds. An
    epoch is one pass over the larger kind. ``ema`` averages the tuned tensors with this decay.
    ``select`` keeps the epoch with the best mAP on the held-out items, or the last; a model is
    judged every ``judge_every`` epochs, at the start and at the end.

    ``warmup`` is the share of the training during which the learning rates rise linearly, or stand
    at ``warmup_lr`` where that is given; then they fall along a cosine. With ``schedule="epochs"``
    they change between epochs alone, and the cosine is as long as the whole training, as in Dassl
    (which TaI-DPT builds on): it starts after the warm-up and so does not come to its end.
    """

    train_on: TrainOn = "both"
    caption_weight: float = 0.5
    loss: LossConfig = field(default_factory=LossConfig)
    verify: VerifyConfig = field(default_factory=VerifyConfig)
    optimiser: OptimiserKind = "adamw"
    lr_prompts: float = 1e-3
    lr_prototypes: float = 1e-3
    lr_adapter: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 5e-4
    epochs: int = 20
    batch_size: int = 64
    schedule: Schedule = "steps"
    warmup: float = 0.05
    warmup_lr: float | None = None
    ema: float | None = None
    select: Selection = "last"
    judge_every: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        checks.choice("train_on", self.train_on, get_args(TrainOn))
        checks.fraction("caption_weight", self.caption_weight)
        checks.choice("optimiser", self.optimiser, get_args(OptimiserKind))
        for name in ("lr_prompts", "lr_prototypes", "lr_adapter", "weight_decay"):
            checks.not_negative(name, getattr(self, name))
        checks.fraction("momentum", self.momentum, below_one=True)
        checks.count("epochs", self.epochs)
        checks.count("batch_size", self.batch_size)
        checks.choice("schedule", self.schedule, get_args(Schedule))
        checks.fraction("warmup", self.warmup, below_one=True)
        if self.warmup_lr is not None:
            checks.not_negative("warmup_lr", self.warmup_lr)
        if self.ema is not None:
            checks.fraction("ema", self.ema, below_one=True)
        checks.choice("select", self.select, get_args(Selection))
        checks.count("judge_every", self.judge_every)
        if not isinstance(self.seed, int) or isinstance(self.seed, bool) or self.seed < 0:
            raise UserError(f"seed must be a whole number of at least 0, not {self.seed!r}.")

    @property
    def kinds(self) -> tuple[ItemKind, ...]:
        """The kinds of items it trains on, images first."""
        kinds: dict[TrainOn, tuple[ItemKind, ...]] = {
            "images": ("image",),
            "captions": ("caption",),
            "both": ("image", "caption"),
        }
        return kinds[self.train_on]

    def to_dict(self) -> dict[str, Any]:
        """Plain nested mapping for JSON or YAML; :meth:`from_dict` reads it back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> TrainConfig:
        """The configuration in ``mapping``; an unknown key or a bad value is a UserError."""
        return checks.from_mapping(cls, mapping, "train")
