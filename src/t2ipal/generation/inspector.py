"""The frozen CLIP looks at every image while it is generated: are its labels in it?

What it does not find becomes unknown, what it finds unasked too, and an image without any label
left is rejected and retried with the next seed (:mod:`t2ipal.generation.generate`). The evidence is
that of :mod:`t2ipal.method.verification`, which can also be asked later, about images on disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from t2ipal.clip.clip_settings import ClipSettings
from t2ipal.errors import UserError
from t2ipal.generation.screening import Finding
from t2ipal.method.head_config import HeatmapConfig
from t2ipal.vocabulary import Vocabulary

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from t2ipal.captions.labelled import LabelledCaption
    from t2ipal.clip.backbone import Backbone

_BATCH = 8  # always full, so that an image's evidence does not depend on those beside it


@dataclass(frozen=True)
class ClipInspector:
    """An :class:`t2ipal.generation.screening.Inspector` that loads its CLIP when it first looks.

    Attributes:
        clip: which CLIP, and how it sees an image.
        vocabulary: the C classes whose labels are checked.
        patience: a label is found unless more than this many absent classes outscore it, or half
            of them if they are few.

    Raises:
        UserError: there is one class only, so nothing to compare it with.
    """

    clip: ClipSettings
    vocabulary: Vocabulary
    patience: int = 3

    def __post_init__(self) -> None:
        if len(self.vocabulary) < 2:
            raise UserError(
                "--inspect compares a class with others in the same image, and there is one class "
                "only: leave --inspect out, or add classes."
            )

    @property
    def asked(self) -> dict[str, Any]:
        """What decides its findings, ready for JSON."""
        return {
            "clip": self.clip.clip,
            "classes": self.vocabulary.digest,
            "patience": self.patience,
            "image_size": self.clip.image_size,
            "resize_mode": self.clip.resize_mode,
        }

    def inspect(
        self, images: Sequence[Image.Image], captions: Sequence[LabelledCaption]
    ) -> list[Finding]:
        """What CLIP finds of each image's labels."""
        found: list[Finding] = []
        for start in range(0, len(images), _BATCH):
            rows = slice(start, start + _BATCH)
            found += self._inspect(images[rows], captions[rows])
        return found

    def _inspect(
        self, images: Sequence[Image.Image], captions: Sequence[LabelledCaption]
    ) -> list[Finding]:
        import torch
        from torch.nn.functional import normalize

        from t2ipal.method.items import ItemSet
        from t2ipal.method.verification import doubtful, evidence

        count = len(images)
        pixels = torch.stack([self._backbone.preprocess(image) for image in images])
        padding = pixels.new_zeros(_BATCH - count, *pixels.shape[1:])
        features = self._backbone.encode_image(torch.cat([pixels, padding]))
        targets = np.stack([self.vocabulary.targets(row.labels, row.unknown) for row in captions])
        items = ItemSet(
            normalize(features.global_[:count], dim=-1),
            normalize(features.local[:count], dim=-1),
            None,
            torch.from_numpy(targets),
            "image",
        )
        scores = evidence(items, self._classes, HeatmapConfig().image_temperature).cpu()
        missing, added = doubtful(items.targets, scores, self.patience)
        names = self.vocabulary.names
        return [
            Finding(*(tuple(names[i] for i in row.nonzero()[:, 0].tolist()) for row in pair))
            for pair in zip(missing, added, strict=True)
        ]

    @cached_property
    def _backbone(self) -> Backbone:
        from t2ipal.clip.backbone import Backbone

        return Backbone.load(replace(self.clip, local_grid=None))

    @cached_property
    def _classes(self) -> Tensor:
        from t2ipal.clip.class_prompts import class_ensemble

        return class_ensemble(self._backbone, self.vocabulary)
