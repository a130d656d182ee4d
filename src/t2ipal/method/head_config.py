"""What a recognizer is made of, as frozen dataclasses checked when made.

The defaults are the method ``t2i-pal``; :mod:`t2ipal.method.methods` names the others. How it
is trained stands in :mod:`t2ipal.method.train_config`, whose names can be had from here too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from t2ipal.errors import UserError
from t2ipal.method import checks
from t2ipal.method.train_config import (
    ItemKind,
    LossConfig,
    LossKind,
    OptimiserKind,
    Schedule,
    Selection,
    TrainConfig,
    TrainOn,
    VerifyConfig,
    VerifyKind,
)

__all__ = [
    "AdapterConfig",
    "AdapterKind",
    "Aggregation",
    "BankSelection",
    "CacheValues",
    "ClassNames",
    "ClassPosition",
    "ContextStart",
    "CropFusion",
    "FusionConfig",
    "FusionKind",
    "HeadConfig",
    "HeatmapConfig",
    "ItemKind",
    "LossConfig",
    "LossKind",
    "OptimiserKind",
    "PromptConfig",
    "PromptKind",
    "PrototypeConfig",
    "PrototypeStart",
    "Schedule",
    "Selection",
    "TrainConfig",
    "TrainOn",
    "VerifyConfig",
    "VerifyKind",
]

PromptKind = Literal["learned", "fixed", "dual"]
ContextStart = Literal["phrase", "random"]
ClassPosition = Literal["end", "middle", "front"]
ClassNames = Literal["readable", "key"]
PrototypeStart = Literal["k-means", "mean", "text"]
Aggregation = Literal["smooth-max", "max", "mean"]
AdapterKind = Literal["none", "cache", "bottleneck", "projection"]
BankSelection = Literal["fewest-labels", "typical", "random"]
CacheValues = Literal["balanced", "rows"]
FusionKind = Literal["standardised", "raw"]
CropFusion = Literal["max", "mean"]


@dataclass(frozen=True)
class PromptConfig:
    """How a class becomes a text embedding.

    ``fixed`` takes embeddings made elsewhere (a prompt ensemble); ``learned`` puts M trained
    context vectors around the class name, one set for the global and one for the local branch;
    ``dual`` does so for a positive and a negative prompt (:mod:`t2ipal.method.dual`).
    ``start="phrase"`` sets the context vectors next to the class name to the embedded phrase that
    comes with the class tokens and draws the rest; without a phrase all of them are drawn.
    M is ``context_tokens``: as many as "a photo of a" has, so that training starts from zero-shot
    CLIP. Random vectors beside a phrase cost the start dearly, and the text tower time.
    ``class_names="key"`` writes a class as its benchmark does (``diningtable``), as TaI-DPT did.
    """

    kind: PromptKind = "learned"
    context_tokens: int = 4
    per_class: bool = False
    start: ContextStart = "phrase"
    start_deviation: float = 0.02
    class_position: ClassPosition = "end"
    class_names: ClassNames = "readable"

    def __post_init__(self) -> None:
        checks.choice("prompts.kind", self.kind, get_args(PromptKind))
        checks.count("prompts.context_tokens", self.context_tokens)
        checks.flag("prompts.per_class", self.per_class)
        checks.choice("prompts.start", self.start, get_args(ContextStart))
        checks.positive("prompts.start_deviation", self.start_deviation)
        checks.choice("prompts.class_position", self.class_position, get_args(ClassPosition))
        checks.choice("prompts.class_names", self.class_names, get_args(ClassNames))


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

    They ``start`` from the class features of the training images that show the class: the centres
    of their ``k-means``, for K = 1 their mean, or for any K their ``mean``; or from the ``text``
    embedding of the class. ``temperature`` (cosine units) belongs to ``smooth-max``: towards 0 it
    is the maximum over the K prototypes, towards infinity their mean.
    """

    enabled: bool = True
    per_class: int = 1
    start: PrototypeStart = "k-means"
    aggregation: Aggregation = "smooth-max"
    temperature: float = 0.05

    def __post_init__(self) -> None:
        checks.flag("prototypes.enabled", self.enabled)
        checks.count(
            "prototypes.per_class",
            self.per_class,
            hint="; to leave prototypes out set prototypes.enabled to false",
        )
        checks.choice("prototypes.start", self.start, get_args(PrototypeStart))
        checks.choice("prototypes.aggregation", self.aggregation, get_args(Aggregation))
        checks.positive("prototypes.temperature", self.temperature)


@dataclass(frozen=True)
class AdapterConfig:
    """A residual on the global branch.

    ``cache`` (Tip-Adapter): ``alpha`` weighs its score, ``beta`` sharpens its similarity,
    ``per_class`` training images a class make its bank, ``learn_keys`` trains them. Of the images
    that show a class, ``selection`` takes those with the ``fewest-labels``, the ``typical`` ones
    (nearest to their mean feature) or ``random`` ones. With
    ``values="balanced"`` every class's values sum to one, so the score of a class is a mean
    similarity to images that show it and ``alpha`` means the same for any bank size and label
    count; ``rows`` is the published sum over row-normalised labels.
    ``bottleneck`` (CLIP-Adapter): ``ratio`` of the residual, hidden width D / ``reduction``.
    ``projection`` (DeCap, CoMC): ``ratio`` of the projection onto the bank, which ``beta`` sharpens
    and ``per_class``, ``selection`` and ``learn_keys`` make as for the cache.
    """

    kind: AdapterKind = "cache"
    alpha: float = 1.0
    beta: float = 5.5
    per_class: int = 16
    selection: BankSelection = "fewest-labels"
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
        checks.choice("adapter.selection", self.selection, get_args(BankSelection))
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

    Where an image is also seen through windows, ``crops`` says which of their scores counts (the
    ``max`` or the ``mean``), by ``crop_weight`` against the whole image's.
    """

    kind: FusionKind = "raw"
    global_weight: float = 1.0
    local_weight: float = 1.0
    prototype_weight: float = 1.0
    min_classes: int = 5
    crops: CropFusion = "max"
    crop_weight: float = 0.5

    def __post_init__(self) -> None:
        checks.choice("fusion.kind", self.kind, get_args(FusionKind))
        checks.not_negative("fusion.global_weight", self.global_weight)
        checks.not_negative("fusion.local_weight", self.local_weight)
        checks.not_negative("fusion.prototype_weight", self.prototype_weight)
        if self.global_weight + self.local_weight + self.prototype_weight == 0:
            raise UserError("every weight of fusion is 0: give at least one branch a weight.")
        checks.count("fusion.min_classes", self.min_classes)
        checks.choice("fusion.crops", self.crops, get_args(CropFusion))
        checks.fraction("fusion.crop_weight", self.crop_weight)

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
        if self.prompts.kind == "dual" and self.needs_images:
            raise UserError(
                "prompts.kind dual scores by its prompts alone: set prototypes.enabled to false "
                "and adapter.kind to none."
            )

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
