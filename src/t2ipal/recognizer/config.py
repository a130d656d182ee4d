"""What a recognizer is made of and how it is trained, as frozen dataclasses checked when made.

The defaults are the method ``t2i-pal``; :mod:`t2ipal.recognizer.baselines` names the others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from t2ipal.errors import UserError
from t2ipal.recognizer import checks

PromptKind = Literal["learned", "fixed"]
ContextStart = Literal["phrase", "random"]
ClassPosition = Literal["end", "middle", "front"]
Aggregation = Literal["smooth-max", "max", "mean"]
AdapterKind = Literal["none", "cache", "bottleneck"]
CacheValues = Literal["balanced", "rows"]
FusionKind = Literal["standardised", "raw"]
LossKind = Literal["hinge", "pair-hinge", "log-sum-exp", "asymmetric", "bce"]
TrainOn = Literal["captions", "images", "both"]
OptimiserKind = Literal["sgd", "adamw"]
Selection = Literal["best", "last"]
ItemKind = Literal["image", "caption"]


@dataclass(frozen=True)
class PromptConfig:
    """How a class becomes a text embedding.

    ``fixed`` takes embeddings made elsewhere (a prompt ensemble); ``learned`` puts M trained
    context vectors around the class name, one set for the global and one for the local branch.
    ``start="phrase"`` sets the context vectors next to the class name to the embedded phrase that
    comes with the class tokens and draws the rest; without a phrase all of them are drawn.
    M is ``context_tokens``: as many as "a photo of a" has, so that training starts from zero-shot
    CLIP. Random vectors beside a phrase cost the start dearly, and the text tower time.
    """

    kind: PromptKind = "learned"
    context_tokens: int = 4
    per_class: bool = False
    start: ContextStart = "phrase"
    start_deviation: float = 0.02
    class_position: ClassPosition = "end"

    def __post_init__(self) -> None:
        checks.choice("prompts.kind", self.kind, get_args(PromptKind))
        checks.count("prompts.context_tokens", self.context_tokens)
        checks.flag("prompts.per_class", self.per_class)
        checks.choice("prompts.start", self.start, get_args(ContextStart))
        checks.positive("prompts.start_deviation", self.start_deviation)
        checks.choice("prompts.class_position", self.class_position, get_args(ClassPosition))


@dataclass(frozen=True)
class HeatmapConfig:
    """Temperatures t_s of the softmax over positions; TaI-DPT writes them as T = 1 / t_s.

    Switched off, every position weighs the same: the local score is the mean similarity and the
    class feature is the mean local feature, equal for all classes.
    """

    enabled: bool = True
    image_temperature: float = 1 / 40
    caption_temperature: float = 1 / 50

    def __post_init__(self) -> None:
        checks.flag("heatmap.enabled", self.enabled)
        checks.positive("heatmap.image_temperature", self.image_temperature)
        checks.positive("heatmap.caption_temperature", self.caption_temperature)

    def temperature(self, kind: ItemKind) -> float:
        """t_s for items of this kind."""
        return self.image_temperature if kind == "image" else self.caption_temperature


@dataclass(frozen=True)
class PrototypeConfig:
    """K learned prototypes a class, in image space.

    ``temperature`` (cosine units) belongs to ``smooth-max``: towards 0 it is the maximum over the
    K prototypes, towards infinity their mean.
    """

    enabled: bool = True
    per_class: int = 1
    aggregation: Aggregation = "smooth-max"
    temperature: float = 0.05

    def __post_init__(self) -> None:
        checks.flag("prototypes.enabled", self.enabled)
        checks.count(
            "prototypes.per_class",
            self.per_class,
            hint="; to leave prototypes out set prototypes.enabled to false",
        )
        checks.choice("prototypes.aggregation", self.aggregation, get_args(Aggregation))
        checks.positive("prototypes.temperature", self.temperature)


@dataclass(frozen=True)
class AdapterConfig:
    """A residual on the global branch.

    ``cache`` (Tip-Adapter): ``alpha`` weighs its score, ``beta`` sharpens its similarity,
    ``per_class`` training images a class make its bank, ``learn_keys`` trains them. With
    ``values="balanced"`` every class's values sum to one, so the score of a class is a mean
    similarity to images that show it and ``alpha`` means the same for any bank size and label
    count; ``rows`` is the published sum over row-normalised labels.
    ``bottleneck`` (CLIP-Adapter): ``ratio`` of the residual, hidden width D / ``reduction``.
    """

    kind: AdapterKind = "cache"
    alpha: float = 1.0
    beta: float = 5.5
    per_class: int = 16
    learn_keys: bool = True
    values: CacheValues = "balanced"
    ratio: float = 0.2
    reduction: int = 4

    def __post_init__(self) -> None:
        checks.choice("adapter.kind", self.kind, get_args(AdapterKind))
        checks.not_negative("adapter.alpha", self.alpha)
        checks.positive("adapter.beta", self.beta)
        checks.count(
            "adapter.per_class",
            self.per_class,
            hint="; to leave the adapter out set adapter.kind to none",
        )
        checks.flag("adapter.learn_keys", self.learn_keys)
        checks.choice("adapter.values", self.values, get_args(CacheValues))
        checks.fraction("adapter.ratio", self.ratio)
        checks.count("adapter.reduction", self.reduction)


@dataclass(frozen=True)
class FusionConfig:
    """How the branches become one score; a branch of weight 0 is neither fused nor trained.

    ``raw`` is the weighted sum, as in TaI-DPT.
    ``standardised`` subtracts from each branch the image's mean over the classes and divides by
    its deviation. Over fewer than ``min_classes`` classes these say too little (two classes would
    always score -1 and 1), and the raw weighted sum is taken.
    """

    kind: FusionKind = "raw"
    global_weight: float = 1.0
    local_weight: float = 1.0
    prototype_weight: float = 1.0
    min_classes: int = 5

    def __post_init__(self) -> None:
        checks.choice("fusion.kind", self.kind, get_args(FusionKind))
        checks.not_negative("fusion.global_weight", self.global_weight)
        checks.not_negative("fusion.local_weight", self.local_weight)
        checks.not_negative("fusion.prototype_weight", self.prototype_weight)
        if self.global_weight + self.local_weight + self.prototype_weight == 0:
            raise UserError("every weight of fusion is 0: give at least one branch a weight.")
        checks.count("fusion.min_classes", self.min_classes)

    @property
    def weights(self) -> dict[str, float]:
        """Weight by branch name, in the order in which branches are summed."""
        return {
            "global": self.global_weight,
            "local": self.local_weight,
            "prototype": self.prototype_weight,
        }


@dataclass(frozen=True)
class HeadConfig:
    """The whole scorer. ``logit_scale`` multiplies the cosines of every branch (TaI-DPT: 4)."""

    prompts: PromptConfig = field(default_factory=PromptConfig)
    heatmap: HeatmapConfig = field(default_factory=HeatmapConfig)
    prototypes: PrototypeConfig = field(default_factory=PrototypeConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    logit_scale: float = 4.0

    def __post_init__(self) -> None:
        checks.positive("logit_scale", self.logit_scale)

    @property
    def needs_images(self) -> bool:
        """Whether a part of it lives in image space and starts from images."""
        return self.prototypes.enabled or self.adapter.kind != "none"

    def to_dict(self) -> dict[str, Any]:
        """Plain nested mapping for JSON or YAML; :meth:`from_dict` reads it back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> HeadConfig:
        """The configuration in ``mapping``; an unknown key or a bad value is a UserError."""
        return checks.from_mapping(cls, mapping, "head")


@dataclass(frozen=True)
class LossConfig:
    """Which loss every branch is trained with; see :mod:`t2ipal.recognizer.losses`.

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
class TrainConfig:
    """How the tuned tensors are found.

    ``caption_weight`` is the share of the captions in the loss when training on both kinds. An
    epoch is one pass over the larger kind. ``warmup`` is the share of all steps during which the
    learning rates rise linearly; then they fall along a cosine. ``ema`` averages the tuned tensors
    with this decay. ``select`` keeps the epoch with the best mAP on the held-out items, or the
    last; a model is judged every ``judge_every`` epochs, at the start and at the end.
    """

    train_on: TrainOn = "both"
    caption_weight: float = 0.5
    loss: LossConfig = field(default_factory=LossConfig)
    optimiser: OptimiserKind = "adamw"
    lr_prompts: float = 1e-3
    lr_prototypes: float = 1e-3
    lr_adapter: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 5e-4
    epochs: int = 20
    batch_size: int = 64
    warmup: float = 0.05
    ema: float | None = None
    select: Selection = "best"
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
        checks.fraction("warmup", self.warmup, below_one=True)
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
