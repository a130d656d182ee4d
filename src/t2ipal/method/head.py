"""The head: features of an item in, scores of all classes out.

T2I-PAL (Feng et al., TPAMI 2025) on a frozen CLIP's features: the equations of
:mod:`t2ipal.method.equations`, put together with the tensors that training tunes. Images go
through every part; captions through the prompts alone, because prototypes and adapter live in
image space.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from t2ipal.errors import UserError, listed
from t2ipal.method.adapter import AGAINST, Adapter, some_of_each
from t2ipal.method.equations import (
    class_feature,
    fuse,
    fuse_crops,
    heatmap,
    local_score,
    similarity,
)
from t2ipal.method.head_config import HeadConfig
from t2ipal.method.items import ItemSet, check_features
from t2ipal.method.prompts import ClassEmbeddings, FixedPrompts, LearnedPrompts
from t2ipal.method.prototypes import Prototypes
from t2ipal.method.train_config import ItemKind

_START_IMAGES = 4096
_MOST_CELLS = 256 * 300
"""Most pairs of an item and a class that are looked at together without gradients."""


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of a batch; branch scores are cosines times the logit scale.

    Attributes:
        fused: [B, C] what ranks the items.
        global_: [B, C] global branch, with an adapter of global features.
        local: [B, C] local branch.
        prototype: [B, C] what class features say, to prototypes and an adapter of them, or None
            without either and for captions.
        adapter: [B, C] what a cache added to its branch, or None.
        heatmap: [B, P, C] weight of each position for each class, summing to one over P.
    """

    fused: Tensor
    global_: Tensor
    local: Tensor
    prototype: Tensor | None
    adapter: Tensor | None
    heatmap: Tensor

    @property
    def branches(self) -> dict[str, Tensor]:
        """The branches this item has, by the names of ``FusionConfig.weights``."""
        found = {"global": self.global_, "local": self.local}
        return found if self.prototype is None else {**found, "prototype": self.prototype}


class T2IPALHead(nn.Module):
    """Scores of classes from features of a frozen CLIP.

    Made by :mod:`t2ipal.method.build`. Prototypes and adapter start from training
    images (:meth:`start`); learned prompts are embedded anew for each call until :meth:`bake` keeps
    their embeddings.

    Attributes:
        config: the configuration.
        names: the C class names.
        prompts: learned or fixed class embeddings.
        prototypes, adapter: image-space parts, None until started or where not configured.
        joint: whether the branches mean something together alone, so that the loss is taken on the
            fused score, whose zero is even odds, and not on each branch.
    """

    joint: ClassVar[bool] = False

    def __init__(
        self, config: HeadConfig, names: Sequence[str], prompts: LearnedPrompts | FixedPrompts
    ) -> None:
        super().__init__()
        if not names:
            raise UserError("there is no class: a head needs at least one.")
        self.config = config
        self.names = tuple(names)
        self.prompts = prompts
        self.prototypes: Prototypes | None = None
        self.adapter: Adapter | None = None
        self._baked: FixedPrompts | None = None

    def class_embeddings(self) -> ClassEmbeddings:
        """G and Lc [C, D]: the baked ones, else embedded now (with gradient to the contexts)."""
        embeddings: ClassEmbeddings = (self._baked or self.prompts)()
        return embeddings

    @torch.no_grad()
    def bake(self, embeddings: ClassEmbeddings | None = None) -> T2IPALHead:
        """Keep the class embeddings, so that scoring needs no text tower.

        They are embedded now if omitted, unless some are kept already.
        """
        if embeddings is not None or self._baked is None:
            self._baked = FixedPrompts(embeddings or self.prompts())
        return self

    def thaw(self) -> T2IPALHead:
        """Forget what :meth:`bake` kept; the prompts are embedded anew from now on."""
        self._baked = None
        return self

    @property
    def started(self) -> bool:
        """Whether every image-space part of the configuration is there."""
        return (self.prototypes is not None or not self.config.prototypes.enabled) and (
            self.adapter is not None or self.config.adapter.kind == "none"
        )

    def require_started(self) -> None:
        """Raise a RuntimeError unless :attr:`started`."""
        if not self.started:
            raise RuntimeError("prototypes or adapter were never started: call start or fit first")

    @torch.no_grad()
    def start(self, images: ItemSet, *, seed: int = 0, batch_size: int = 256) -> T2IPALHead:
        """Start prototypes and adapter from training images; ``seed`` is that of what is random.

        Class features are taken of at most 4,096 images that show a class, chosen by ``seed``, so
        that memory does not grow with the images.

        Raises:
            UserError: no image shows some class.
        """
        if images.kind != "image":
            raise ValueError("prototypes and adapter start from images, not from captions")
        self._check_targets(images.targets)
        targets, adapter = images.targets.to(self.device), self.config.adapter
        by_class = adapter.kind == "class-cache"
        if self.config.prototypes.enabled or by_class:
            classes = self.class_embeddings()
            wanted = some_of_each(targets > 0, _START_IMAGES, seed)  # [N, C]
            if by_class:
                wanted |= some_of_each(targets == 0, AGAINST * adapter.per_class, seed)
            parts = []
            size = self._batch(batch_size)
            for batch, rows in zip(images.batches(size), torch.split(wanted, size), strict=True):
                if not bool(rows.any()):
                    continue
                local, _, weights = self._look(batch.local, batch.mask, "image", classes)
                parts.append(class_feature(weights, local)[rows])  # [q, D]
            features, labels, shown = torch.cat(parts), wanted.nonzero()[:, 1], targets[wanted] > 0
            if self.config.prototypes.enabled:
                self.prototypes = Prototypes.start(
                    self.config.prototypes, features[shown], labels[shown], classes.local, seed
                )
        if by_class:
            self.adapter = Adapter.start_with_classes(
                adapter, features, labels, shown, len(self.names)
            )
        else:
            global_ = images.global_.to(self.device).float()
            self.adapter = Adapter.start(adapter, global_, targets, seed)
        return self

    def scores(
        self,
        global_: Tensor,
        local: Tensor,
        mask: Tensor | None = None,
        kind: ItemKind = "image",
        classes: ClassEmbeddings | None = None,
    ) -> Scores:
        """Score unit features [B, D] and [B, P, D] of any float type and on any device.

        Each item's scores depend on it alone.

        Args:
            mask: [B, P] True on real positions, or None if all are.
            kind: "image" or "caption": decides the heatmap's temperature and whether prototypes
                and adapter take part.
            classes: class embeddings to use instead of :meth:`class_embeddings`, which a training
                step that scores images and captions computes once for both; if they are of some
                classes alone, so are the scores.

        Raises:
            ValueError: shapes disagree or features are not normalised.
            RuntimeError: image-space parts were never started.
        """
        if kind == "image":
            self.require_started()
        classes = self.class_embeddings() if classes is None else classes
        check_features(global_, local, mask, classes.global_.shape[1])
        scale = self.config.logit_scale
        adapter = self.adapter if kind == "image" else None
        prototypes = self.prototypes if kind == "image" else None
        by_class = adapter is not None and adapter.config.kind == "class-cache"
        g, s_a = global_.to(classes.global_), None  # [B, D]
        if adapter is not None and not by_class:
            g, s_a = adapter(g, classes.classes)  # [B, D], [B, C]
        s_g = scale * similarity(g, classes.global_)  # [B, C]
        if s_a is not None:
            s_a = scale * s_a
            s_g = s_g + s_a
        L, h, A = self._look(local, mask, kind, classes)  # [B, P, D], [B, P, C], [B, P, C]
        branches = {"global": s_g, "local": scale * local_score(A, h)}  # [B, C] each
        if prototypes is not None or by_class:
            z, s_p = class_feature(A, L), torch.zeros_like(s_g)  # [B, C, D], [B, C]
            if prototypes is not None:
                s_p = scale * prototypes(z, classes.classes)
            if adapter is not None and by_class:
                s_a = scale * adapter.of_features(z, classes.classes)  # [B, C]
                s_p = s_p + s_a
            branches["prototype"] = s_p
        fused = fuse(branches, self.config.fusion)
        return Scores(fused, s_g, branches["local"], branches.get("prototype"), s_a, A)

    @torch.no_grad()
    def score_items(self, items: ItemSet, batch_size: int = 256) -> Tensor:
        """Fused scores [N, C] of a whole set and its crops, classes embedded once."""
        classes = self.class_embeddings()

        def fused(batch: ItemSet) -> Tensor:
            return self.scores(batch.global_, batch.local, batch.mask, batch.kind, classes).fused

        scored = [
            fuse_crops(fused(batch), [fused(crop) for crop in batch.crops], self.config.fusion)
            for batch in items.batches(self._batch(batch_size))
        ]
        return torch.cat(scored) if scored else torch.zeros(0, len(self.names))

    def _batch(self, size: int) -> int:
        """Items to look at together: ``size``, or fewer where class features [B, C, D] are many."""
        return max(1, min(size, _MOST_CELLS // len(self.names)))

    @property
    def device(self) -> torch.device:
        """Where the tuned tensors live, and features are scored."""
        return next(iter([*self.parameters(), *self.buffers()])).device

    def _look(
        self, local: Tensor, mask: Tensor | None, kind: ItemKind, classes: ClassEmbeddings
    ) -> tuple[Tensor, Tensor, Tensor]:
        """L [B, P, D] in working precision, its similarities h [B, P, C], heatmap A [B, P, C]."""
        local = local.to(classes.local)
        mask = None if mask is None else mask.to(local.device)
        h = similarity(local, classes.local)
        config = self.config.heatmap
        return local, h, heatmap(h, config.temperature(kind) if config.enabled else math.inf, mask)

    def _check_targets(self, targets: Tensor) -> None:
        """Every class must have an image to start from, where a part starts from images."""
        if targets.shape[1] != len(self.names):
            raise ValueError(
                f"targets have {targets.shape[1]} classes but the head has {len(self.names)}"
            )
        shown = (targets > 0).any(dim=0).tolist()
        missing = [name for name, found in zip(self.names, shown, strict=True) if not found]
        banked = self.config.adapter.kind in ("class-cache", "cache", "projection")
        if missing and (self.config.prototypes.enabled or banked):
            raise UserError(
                f"no training image shows {listed(missing)}, and prototypes and adapter start from "
                "images: add captions that name the class (label --compose writes some) and "
                "generate images of them, take the class out of the vocabulary, or train with "
                "captions alone."
            )

    def tuned_parameters(self) -> dict[str, list[nn.Parameter]]:
        """Parameters that training may change, in the groups that have their own learning rate."""
        parts = {"prompts": self.prompts, "prototypes": self.prototypes, "adapter": self.adapter}
        return {
            name: [p for p in ([] if part is None else part.parameters()) if p.requires_grad]
            for name, part in parts.items()
        }
