"""What a head is made of. The defaults are T2I-PAL; :mod:`t2ipal.method.methods` has the others.

How it is trained stands in :mod:`t2ipal.method.train_config`.
"""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Literal

from t2ipal.errors import (
    AtMost,
    Count,
    NotNegative,
    Positive,
    Share,
    Temperature,
    UserError,
    settings,
)
from t2ipal.method.train_config import ItemKind

PromptKind = Literal["learned", "fixed", "dual"]
ClassPosition = Literal["end", "middle", "front"]
ClassNames = Literal["readable", "key"]
BankSelection = Literal["fewest-labels", "typical", "random"]
FusionKind = Literal["standardised", "raw"]


@settings
class PromptConfig:
    """How a class becomes a text embedding.

    With as many context vectors as "a photo of a" has tokens, training starts from zero-shot CLIP.
    Random vectors beside a phrase cost the start dearly, and the text tower time.
    """

    kind: PromptKind = "learned"
    """learned: trained context vectors around the class name, one set for the global and one for
    the local branch; fixed: an ensemble of written prompts; dual: learned vectors for a positive
    and a negative prompt"""
    context_tokens: Annotated[Count, AtMost(1000)] = 4
    """M, the number of context vectors"""
    per_class: bool = False
    """learn context vectors per class instead of sharing them"""
    start: Literal["phrase", "random"] = "phrase"
    """start of the context vectors: the embedded phrase "a photo of a" next to the class name,
    further ones random; or all random"""
    start_deviation: Positive = 0.02
    """standard deviation of random context vectors"""
    class_position: ClassPosition = "end"
    """where the class name stands among the context vectors"""
    class_names: ClassNames = "readable"
    """spelling of class names: readable (dining table), or the data set's key (diningtable), as
    in TaI-DPT"""


@settings
class HeatmapConfig:
    """Temperatures t_s of the softmax over positions; TaI-DPT writes them as T = 1 / t_s.

    Without it every position weighs the same: the local score is the mean similarity and the class
    feature is the mean local feature, equal for all classes.
    """

    enabled: bool = True
    """weigh positions by their similarity to the class; else all alike"""
    image_temperature: Temperature = 1 / 40
    """temperature of the softmax over the positions of an image"""
    caption_temperature: Temperature = 1 / 50
    """temperature of the softmax over the tokens of a caption"""

    def temperature(self, kind: ItemKind) -> float:
        """t_s for items of this kind."""
        return self.image_temperature if kind == "image" else self.caption_temperature


@settings
class PrototypeConfig:
    """K learned prototypes per class, in image space."""

    enabled: bool = True
    """score images by their distance to learned prototypes too"""
    per_class: Annotated[
        Count, AtMost(1000), "to leave prototypes out set prototypes.enabled to false"
    ] = 1
    """K, the number of prototypes per class"""
    start: Literal["k-means", "mean", "text"] = "k-means"
    """start of the prototypes: centers of k-means of the class features of training images that
    show the class, their mean, or the text embedding of the class"""
    aggregation: Literal["smooth-max", "max", "mean"] = "smooth-max"
    """how the scores of K prototypes become one"""
    temperature: Temperature = 0.05
    """of smooth-max, in cosine units: towards 0 the maximum, towards infinity the mean"""


@settings
class AdapterConfig:
    """A residual on the prototype branch (``class-cache``) or the global one (the others).

    With balanced values every class's values sum to one, so the score of a class is a mean
    similarity to images that show it, and ``alpha`` means the same for any bank size and label
    count; ``rows`` is the published sum over row-normalised labels.
    """

    kind: Literal["none", "class-cache", "cache", "bottleneck", "projection"] = "class-cache"
    """class-cache (Tip-Adapter on class features, for and against each class), cache (Tip-Adapter
    on global features), bottleneck (CLIP-Adapter), projection onto the bank (DeCap, CoMC), or
    none"""
    alpha: NotNegative = 0.2
    """weight of the score of class-cache or cache"""
    beta: Positive = 20.0
    """sharpness of similarity to the keys, for all but bottleneck"""
    per_class: Annotated[
        Count, AtMost(100_000), "to leave the adapter out set adapter.kind to none"
    ] = 16
    """training images per class in the bank of cache or projection; keys for and keys against each
    class in class-cache"""
    selection: BankSelection = "fewest-labels"
    """which images make the bank: those with the fewest labels, those nearest to the mean feature
    of their class, or random ones"""
    learn_keys: bool = True
    """train the keys"""
    values: Literal["balanced", "rows"] = "balanced"
    """values of the cache: balanced over the classes, or rows of labels as published"""
    ratio: Share = 0.2
    """share of the residual in bottleneck and projection"""
    reduction: Count = 4
    """hidden width of the bottleneck is the feature width divided by N"""


@settings
class FusionConfig:
    """How the branches become one score; a branch of weight 0 is neither fused nor trained."""

    kind: FusionKind = "raw"
    """raw: weighted sum, as in TaI-DPT; standardised: of branches with mean 0 and deviation 1 over
    the classes of an image"""
    global_weight: NotNegative = 1.0
    """weight of the global branch"""
    local_weight: NotNegative = 1.0
    """weight of the local branch"""
    prototype_weight: NotNegative = 1.0
    """weight of the prototypes"""
    min_classes: Count = 5
    """with fewer classes, standardised fusion takes the raw sum"""
    crops: Literal["max", "mean"] = "max"
    """which score of an image's crops counts"""
    crop_weight: Share = 0.5
    """weight of the crops' score against the whole image's"""

    def _check(self) -> None:
        if self.global_weight + self.local_weight + self.prototype_weight == 0:
            raise UserError("every weight of fusion is 0: give at least one branch a weight.")

    @property
    def weights(self) -> dict[str, float]:
        """Weight by branch name, in the order in which branches are summed."""
        return {
            "global": self.global_weight,
            "local": self.local_weight,
            "prototype": self.prototype_weight,
        }


@settings
class HeadConfig:
    """The whole scorer."""

    prompts: PromptConfig = field(default_factory=PromptConfig)
    heatmap: HeatmapConfig = field(default_factory=HeatmapConfig)
    prototypes: PrototypeConfig = field(default_factory=PrototypeConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    logit_scale: Positive = 4.0
    """what the cosines of every branch are multiplied by, as in TaI-DPT"""

    def _check(self) -> None:
        if self.prompts.kind == "dual" and self.needs_images:
            raise UserError(
                "prompts.kind dual scores by its prompts alone: set prototypes.enabled to false "
                "and adapter.kind to none."
            )

    @property
    def needs_images(self) -> bool:
        """Whether a part of it lives in image space and starts from images."""
        return self.prototypes.enabled or self.adapter.kind != "none"
