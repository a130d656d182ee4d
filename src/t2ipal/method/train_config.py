"""How a head is trained."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Literal

from t2ipal.errors import (
    AtMost,
    Batch,
    BelowOne,
    Count,
    NotNegative,
    Share,
    UserError,
    Whole,
    settings,
)

ItemKind = Literal["image", "caption"]
TrainOn = Literal["captions", "images", "both"]


@settings
class LossConfig:
    """The loss of every branch. See :mod:`t2ipal.method.losses`."""

    kind: Literal["hinge", "pair-hinge", "log-sum-exp", "asymmetric", "bce"] = "hinge"
    """loss of every branch"""
    margin: NotNegative = 1.0
    """margin of the ranking losses hinge, pair-hinge and log-sum-exp"""
    positive_focus: NotNegative = 1.0
    """focusing exponent of present labels in the asymmetric loss"""
    negative_focus: NotNegative = 4.0
    """focusing exponent of absent labels in the asymmetric loss"""
    probability_shift: Share = 0.05
    """how far probabilities of absent labels are shifted down in the asymmetric loss"""

    @property
    def pointwise(self) -> bool:
        """Whether each logit enters alone, so that the logits need an origin."""
        return self.kind in ("asymmetric", "bce")


@settings
class VerifyConfig:
    """What becomes of labels that the frozen CLIP does not find in a generated image.

    See :mod:`t2ipal.method.verification`.
    """

    kind: Literal["none", "unknown", "drop", "soft"] = "none"
    """labels that CLIP does not find: none keeps them; unknown makes them unknown, and classes
    that it finds unasked too; drop also leaves out images that lack a label; soft weighs each
    label, from 1 where no absent class outscores it to a half where PATIENCE do"""
    patience: Whole = 3
    """a label is found unless more than this many absent classes outscore it"""

    def _check(self) -> None:
        if self.kind == "soft" and self.patience == 0:
            raise UserError("verify.patience must be at least 1 for verify.kind soft.")


@settings
class TrainConfig:
    """How the tuned tensors are found. An epoch is one pass over the larger kind of items."""

    train_on: TrainOn = "both"
    """kinds of items to train on"""
    caption_weight: Share = 0.5
    """share of the captions in the loss when training on both kinds"""
    loss: LossConfig = field(default_factory=LossConfig)
    verify: VerifyConfig = field(default_factory=VerifyConfig)
    optimiser: Literal["sgd", "adamw"] = "adamw"
    """optimiser of the tuned tensors"""
    lr_prompts: NotNegative = 1e-3
    """learning rate of the prompts"""
    lr_prototypes: NotNegative = 1e-3
    """learning rate of the prototypes"""
    lr_adapter: NotNegative = 1e-3
    """learning rate of the adapter"""
    momentum: BelowOne = 0.9
    """momentum of SGD"""
    weight_decay: NotNegative = 5e-4
    """weight decay of the optimiser"""
    epochs: Annotated[Count, AtMost(100_000)] = 20
    """epochs to train"""
    batch_size: Batch = 64
    """items of each kind per training step"""
    classes_per_step: Count | None = None
    """classes per training step: all that its items show, others sampled and weighed so that the
    loss keeps its mean; if omitted all, or 256 of 300 and more"""
    schedule: Literal["steps", "epochs"] = "steps"
    """when learning rates change along the cosine: with steps it ends with the training; with
    epochs, as in Dassl (which TaI-DPT builds on), it is as long as the whole training, starts
    after the warm-up and so does not come to its end"""
    warmup: BelowOne = 0.05
    """share of the training in which learning rates rise linearly"""
    warmup_lr: NotNegative | None = None
    """constant learning rate during the warm-up; a linear rise if omitted"""
    ema: BelowOne | None = None
    """decay of an exponential moving average of the tuned tensors; none if omitted"""
    select: Literal["best", "last"] = "last"
    """epoch to keep: the best by mAP on the held-out items, or the last"""
    evaluate_every: Count = 1
    """epochs between evaluations on the held-out items, beside those at the start and the end"""

    @property
    def kinds(self) -> tuple[ItemKind, ...]:
        """The kinds of items it trains on, images first."""
        if self.train_on == "both":
            return ("image", "caption")
        return ("image",) if self.train_on == "images" else ("caption",)
