"""The recognizer put together: features of an item in, scores of all classes out.

The forward pass of T2I-PAL (Feng et al., TPAMI 2025) on a frozen CLIP's features: global score
s_g = g G^T plus adapter, local score through the class-wise heatmap, prototype score of the class
features, fused. Images go through every part; captions through the prompts alone, because
prototypes and adapter live in image space.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from t2ipal.errors import UserError
from t2ipal.method.adapter import Adapted, Adapter, restore_adapter, start_adapter
from t2ipal.method.checkpoint import check_state, pair_names, tuned_shapes
from t2ipal.method.fusion import fuse, fuse_crops
from t2ipal.method.head_config import HeadConfig, ItemKind
from t2ipal.method.heatmap import (
    attention,
    class_features,
    local_score,
    similarity_map,
    uniform_attention,
)
from t2ipal.method.items import ItemSet, check_features
from t2ipal.method.prompts import ClassEmbeddings, FixedPrompts, LearnedPrompts
from t2ipal.method.prototypes import Prototypes, start_prototypes


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of a batch; branch scores are cosines times the logit scale.

    Attributes:
        fused: [B, C] what ranks the items.
        global_: [B, C] global branch, adapter included.
        local: [B, C] local branch.
        prototype: [B, C], or None without prototypes and for captions.
        adapter: [B, C] what the cache adapter added to ``global_``, or None.
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
            raise UserError("there is no class: a recognizer needs at least one.")
        self.config = config
        self.names = tuple(names)
        self.prompts = prompts
        self.prototypes: Prototypes | None = None
        self.adapter: Adapter | None = None
        self._baked: FixedPrompts | None = None

    def class_embeddings(self) -> ClassEmbeddings:
        """G and Lc [C, D]: the baked ones, else embedded now (with gradient to the contexts)."""
        return self._baked() if self._baked is not None else self.prompts()

    @torch.no_grad()
    def bake(self) -> T2IPALHead:
        """Embed the prompts once and keep the result, so that scoring needs no text tower."""
        if self._baked is None:
            self._baked = FixedPrompts(self.prompts())
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

    @torch.no_grad()
    def start(self, images: ItemSet, *, seed: int = 0, batch_size: int = 256) -> T2IPALHead:
        """Start prototypes and adapter from training images, with ``seed`` for what is drawn.

        Raises:
            UserError: no image shows some class.
        """
        if images.kind != "image":
            raise ValueError("prototypes and adapter start from images, not from captions")
        self._check_classes(images.targets)
        if self.config.prototypes.enabled:
            classes = self.class_embeddings()
            features, labels = [], []
            for rows in torch.arange(len(images)).split(batch_size):
                batch = images.take(rows)
                _, local, weights = self._look(batch.local, batch.mask, "image", classes)
                item, label = (batch.targets.to(local.device) > 0).nonzero(as_tuple=True)
                features.append(class_features(weights, local)[item, label])  # [q, D]
                labels.append(label)
            config, shown = self.config.prototypes, (torch.cat(features), torch.cat(labels))
            vectors = start_prototypes(config, *shown, classes.local, self.names, seed)
            self.prototypes = Prototypes(config, vectors)
        global_ = images.global_.to(self.device).float()
        targets = images.targets.to(self.device)
        self.adapter = start_adapter(self.config.adapter, global_, targets, self.names, seed)
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
                step that scores images and captions computes once for both.

        Raises:
            ValueError: shapes disagree or features are not normalised.
            RuntimeError: image-space parts were never started.
        """
        if kind == "image" and not self.started:
            raise RuntimeError("prototypes or adapter were never started: call start or fit first")
        classes = self.class_embeddings() if classes is None else classes
        check_fit(global_, local, mask, classes)
        scale = self.config.logit_scale
        global_ = global_.to(classes.global_)
        adapted = Adapted(global_, None)
        if self.adapter is not None and kind == "image":
            adapted = self.adapter(global_)
        cosines = adapted.global_ @ classes.global_.T  # [B, C]
        bonus = None if adapted.bonus is None else scale * adapted.bonus
        similarity, local, weights = self._look(local, mask, kind, classes)
        prototype = None
        if self.prototypes is not None and kind == "image":
            prototype = scale * self.prototypes(class_features(weights, local))
        scored_global = scale * cosines if bonus is None else scale * cosines + bonus
        scored_local = scale * local_score(weights, similarity)
        branches = {"global": scored_global, "local": scored_local}
        if prototype is not None:
            branches["prototype"] = prototype
        fused = fuse(branches, self.config.fusion)
        return Scores(fused, scored_global, scored_local, prototype, bonus, weights)

    @torch.no_grad()
    def score_items(self, items: ItemSet, batch_size: int = 256) -> Tensor:
        """Fused scores [N, C] of a whole set and its crops, classes embedded once."""
        classes = self.class_embeddings()

        def fused(batch: ItemSet) -> Tensor:
            return self.scores(batch.global_, batch.local, batch.mask, batch.kind, classes).fused

        scored = [
            fuse_crops(fused(batch), [fused(crop) for crop in batch.crops], self.config.fusion)
            for batch in map(items.take, torch.arange(len(items)).split(batch_size))
        ]
        return torch.cat(scored) if scored else torch.zeros(0, len(self.names))

    @property
    def device(self) -> torch.device:
        """Where the tuned tensors live, and features are scored."""
        return next(iter([*self.parameters(), *self.buffers()])).device

    def _look(
        self, local: Tensor, mask: Tensor | None, kind: ItemKind, classes: ClassEmbeddings
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Similarity map [B, P, C], local features in working precision, heatmap [B, P, C]."""
        local = local.to(classes.local)
        mask = None if mask is None else mask.to(local.device)
        similarity = similarity_map(local, classes.local)
        if not self.config.heatmap.enabled:
            return similarity, local, uniform_attention(similarity, mask)
        temperature = self.config.heatmap.temperature(kind)
        return similarity, local, attention(similarity, temperature, mask)

    def _check_classes(self, targets: Tensor) -> None:
        if targets.shape[1] != len(self.names):
            raise ValueError(
                f"targets have {targets.shape[1]} classes but the head has {len(self.names)}"
            )

    def tuned_parameters(self) -> dict[str, list[nn.Parameter]]:
        """Parameters that training may change, in the groups that have their own learning rate."""
        parts = {"prompts": self.prompts, "prototypes": self.prototypes, "adapter": self.adapter}
        return {
            name: [p for p in ([] if part is None else part.parameters()) if p.requires_grad]
            for name, part in parts.items()
        }

    @torch.no_grad()
    def tuned_state(self) -> dict[str, Tensor]:
        """All that scoring needs beside the frozen CLIP, as CPU copies by name.

        Contexts, class embeddings (so that a loaded model scores the same bytes, with no text tower
        at hand), prototypes, adapter. CLIP's own weights are not among them.
        """
        if not self.started:
            raise RuntimeError("prototypes or adapter were never started: call start or fit first")
        classes = self.class_embeddings()
        first, second = pair_names(self.config.prompts.kind)
        state = {
            f"class_embeddings.{first}": classes.global_,
            f"class_embeddings.{second}": classes.local,
        }
        if isinstance(self.prompts, LearnedPrompts):
            state[f"prompts.{first}_context"] = self.prompts.global_context
            state[f"prompts.{second}_context"] = self.prompts.local_context
        if self.prototypes is not None:
            state["prototypes.vectors"] = self.prototypes.vectors
        if self.adapter is not None:
            for name, tensor in self.adapter.state_dict().items():
                state[f"adapter.{name}"] = tensor
        return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}

    @torch.no_grad()
    def load_tuned(self, state: Mapping[str, Tensor]) -> T2IPALHead:
        """Take over tensors of :meth:`tuned_state`, saved under the same configuration; bakes.

        Raises:
            UserError: a tensor is missing, unexpected or of another shape; nothing is changed then.
        """
        check_state(state, tuned_shapes(self.config, len(self.names)))
        first, second = pair_names(self.config.prompts.kind)
        if isinstance(self.prompts, LearnedPrompts):
            width = self.prompts.global_context.shape[-1]
            found = state[f"prompts.{first}_context"].shape[-1]
            if found != width:
                raise UserError(
                    f"the saved contexts are {found} wide but this text tower's token embeddings "
                    f"{width}: load them with the backbone they were tuned on."
                )
        device = self.device
        state = {name: tensor.to(device) for name, tensor in state.items()}
        if isinstance(self.prompts, LearnedPrompts):
            self.prompts.global_context.copy_(state[f"prompts.{first}_context"])
            self.prompts.local_context.copy_(state[f"prompts.{second}_context"])
        if self.config.prototypes.enabled:
            self.prototypes = Prototypes(self.config.prototypes, state["prototypes.vectors"])
        self.adapter = restore_adapter(self.config.adapter, state)
        embeddings = state[f"class_embeddings.{first}"], state[f"class_embeddings.{second}"]
        self._baked = FixedPrompts(ClassEmbeddings(*embeddings))
        return self


def check_fit(
    global_: Tensor, local: Tensor, mask: Tensor | None, classes: ClassEmbeddings
) -> None:
    """Raise a ValueError unless these are features as wide as the class embeddings."""
    check_features(global_, local, mask)
    if global_.shape[1] != classes.global_.shape[1]:
        raise ValueError(
            f"features are {global_.shape[1]} wide but class embeddings "
            f"{classes.global_.shape[1]}: they come from different models"
        )
