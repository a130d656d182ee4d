"""Classes added to a finished head, without training and without touching those that it has.

Every group of classes, the head's own and those of each addition, is scored by itself, with the
very tensors and shapes it was made with: so the scores of earlier classes stay the same to the last
bit, whatever is added. An added class differs in two ways.

- Standardised fusion takes mean and deviation over the classes of the first group: s <- (s - mean)
  / deviation, with those of the item's scores of the classes that were there first.
- A part that starts from images (prototypes, the cache of the adapter) is missing where no images
  of the class were given; a cache of class features is always missing, as it needs images that do
  not show the class too. Its score is then put where the class stands in the branches that it has:
  mean + z deviation over the first group's scores of that part, where z is the mean of the class's
  standardised global (by its text alone) and local score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from t2ipal.method.equations import fuse, moments, standardise
from t2ipal.method.head import Scores, T2IPALHead
from t2ipal.method.head_config import AdapterConfig, FusionConfig, HeadConfig
from t2ipal.method.prompts import ClassEmbeddings, LearnedPrompts
from t2ipal.method.train_config import ItemKind


def added_config(config: HeadConfig, *, images: bool) -> HeadConfig:
    """The configuration of a head of added classes; ``images`` of them are given or not.

    Adapters that change the feature (bottleneck, projection) are those of the first group.
    """
    cached = images and config.adapter.kind == "cache"
    prototypes = replace(config.prototypes, enabled=images and config.prototypes.enabled)
    return replace(
        config,
        prompts=replace(config.prompts, per_class=False),
        prototypes=prototypes,
        adapter=config.adapter if cached else AdapterConfig(kind="none"),
        fusion=FusionConfig(),  # the first group's counts
    )


class GrownHead(T2IPALHead):
    """A head and the heads of classes that were added to it, each of which scores its own."""

    def __init__(self, first: T2IPALHead, added: Sequence[T2IPALHead]) -> None:
        names = [name for head in (first, *added) for name in head.names]
        super().__init__(first.config, names, first.prompts)
        self._heads = nn.ModuleList([first, *added])
        self.bake()

    @property
    def groups(self) -> tuple[T2IPALHead, ...]:
        """The first head, then one per addition, in their order."""
        return tuple(cast(T2IPALHead, head) for head in self._heads)

    @classmethod
    @torch.no_grad()
    def of(cls, head: T2IPALHead, added: T2IPALHead) -> GrownHead:
        """``head`` and a head at its start, whose prompts take the tuned contexts.

        Contexts that are tuned per class become their mean.
        """
        groups = head.groups if isinstance(head, GrownHead) else (head,)
        tuned, own = groups[0].prompts, added.prompts
        if isinstance(tuned, LearnedPrompts) and isinstance(own, LearnedPrompts):
            own.global_context.copy_(_shared(tuned.global_context))
            own.local_context.copy_(_shared(tuned.local_context))
        return cls(groups[0], (*groups[1:], added))

    @property
    def started(self) -> bool:
        """Whether every group is."""
        return all(group.started for group in self.groups)

    def class_embeddings(self) -> ClassEmbeddings:
        """G and Lc [C, D] of all groups."""
        found = [group.class_embeddings() for group in self.groups]
        return ClassEmbeddings(
            torch.cat([one.global_ for one in found]), torch.cat([one.local for one in found])
        )

    def bake(self, embeddings: ClassEmbeddings | None = None) -> GrownHead:
        """Keep the class embeddings of every group, as :meth:`T2IPALHead.bake`."""
        for group, part in zip(self.groups, self._split(embeddings), strict=True):
            group.bake(part)
        return self

    def scores(
        self,
        global_: Tensor,
        local: Tensor,
        mask: Tensor | None = None,
        kind: ItemKind = "image",
        classes: ClassEmbeddings | None = None,
    ) -> Scores:
        """Scores of all groups side by side; as :meth:`T2IPALHead.scores`.

        Where an added class lacks a part, ``prototype`` and ``adapter`` hold what stands for it.
        """
        first, *added = self.groups
        own, *others = self._split(classes)
        found = [first.scores(global_, local, mask, kind, own)]
        adapter = first.adapter if kind == "image" else None
        if adapter is not None and first.config.adapter.kind in ("bottleneck", "projection"):
            global_ = adapter(global_.to(found[0].global_))[0]
        for group, part in zip(added, others, strict=True):
            scores = group.scores(global_, local, mask, kind, part)
            found.append(scores if first.joint else self._beside(found[0], scores))

        def joined(name: str) -> Any:
            values = [getattr(one, name) for one in found]
            return None if values[0] is None else torch.cat(values, dim=-1)

        return Scores(**{field.name: joined(field.name) for field in fields(Scores)})

    def _beside(self, first: Scores, added: Scores) -> Scores:
        """Scores of added classes, with what they lack, fused as those of the first group are."""
        by_class = self.config.adapter.kind == "class-cache"
        text, own_text = (
            one.global_ if by_class or one.adapter is None else one.global_ - one.adapter
            for one in (added, first)
        )
        z = (standardise(text, own_text) + standardise(added.local, first.local)) / 2  # [B, C]

        def placed(among: Tensor) -> Tensor:
            mean, deviation = moments(among)
            return mean + z * deviation

        found = added
        if first.adapter is not None and added.adapter is None:
            s_a = placed(first.adapter)
            found = replace(found, adapter=s_a)
            if not by_class:
                found = replace(found, global_=text + s_a)
            elif added.prototype is not None:
                found = replace(found, prototype=added.prototype + s_a)
        if first.prototype is not None and found.prototype is None:
            found = replace(found, prototype=placed(first.prototype))
        return replace(found, fused=fuse(found.branches, self.config.fusion, first.branches))

    def _split(self, classes: ClassEmbeddings | None) -> list[ClassEmbeddings | None]:
        """The embeddings of each group; None for its own."""
        if classes is None:
            return [None] * len(self.groups)
        sizes = [len(group.names) for group in self.groups]
        pairs = zip(
            torch.split(classes.global_, sizes), torch.split(classes.local, sizes), strict=True
        )
        return [ClassEmbeddings(*pair) for pair in pairs]


def _shared(context: Tensor) -> Tensor:
    return context if context.ndim == 2 else context.mean(dim=0)
