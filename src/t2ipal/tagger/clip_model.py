"""A frozen CLIP with a tuned head on it, in PyTorch: what a tagger scores images with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from t2ipal.clip.backbone import Backbone
from t2ipal.clip.clip_settings import ClipSettings
from t2ipal.errors import UserError, read_settings
from t2ipal.files import atomic_path
from t2ipal.method.checkpoint import additions, restore_head, tuned_state
from t2ipal.method.equations import fuse_crops
from t2ipal.method.head import T2IPALHead
from t2ipal.method.head_config import HeadConfig
from t2ipal.tagger.tags import refuse_no_numbers


class ClipModel:
    """A frozen CLIP and a tuned head.

    Attributes:
        backbone: the CLIP.
        head: the head, its class embeddings computed once.
        crops: each image is scored on this many crops per side too; 0 for none.
    """

    def __init__(self, backbone: Backbone, head: T2IPALHead, crops: int = 0) -> None:
        self.backbone = backbone
        self.head = head.bake()
        self.crops = crops
        self.image_size = backbone.image_size
        self.resize_mode = backbone.resize_mode

    def __repr__(self) -> str:
        crops = f", {self.crops} x {self.crops} crops" if self.crops else ""
        return f"CLIP {self.backbone.spec} at {self.image_size} px{crops}, {self.backbone.device}"

    def preprocess(self, image: Image.Image) -> np.ndarray:
        """A PIL image as CLIP wants it: float32 [3, S, S]."""
        return self.backbone.preprocess(image).numpy()

    @torch.no_grad()
    def scores(self, pixels: np.ndarray, heatmaps: bool) -> tuple[np.ndarray, np.ndarray]:
        """Of views [B, 1 + V, 3, S, S], whole images first: scores [B, C], heatmaps [B, h, w, C].

        Heatmaps are those of the whole images; they are empty unless asked for.
        """
        unit = torch.nn.functional.normalize
        seen = []
        for view in torch.from_numpy(pixels).unbind(dim=1):
            features = self.backbone.encode_image(view)
            seen_as = (features.global_, features.local)
            refuse_no_numbers(self, *(part.float().sum().item() for part in seen_as))
            local = unit(features.local, dim=-1)
            seen.append(self.head.scores(unit(features.global_, dim=-1), local))
        crops = [crop.fused for crop in seen[1:]]
        fused = fuse_crops(seen[0].fused, crops, self.head.config.fusion).cpu().numpy()
        maps = np.zeros((len(fused), 0, 0, fused.shape[1]))
        if heatmaps:
            maps = seen[0].heatmap.cpu().numpy().reshape(len(fused), *features.grid, -1)
        return fused, maps

    def to_json(self) -> dict[str, Any]:
        """What :meth:`load` needs beside the tensors: backbone, crops, head and what was added."""
        return {
            "backbone": {
                "spec": self.backbone.spec,
                "digest": self.backbone.digest,
                "image_size": self.backbone.image_size,
                "resize_mode": self.backbone.resize_mode,
                "local_grid": self.backbone.local_grid,
                "pool_positions": self.backbone.pool_positions,
                "preprocessing": self.backbone.preprocess_digest,
            },
            "crops": self.crops,
            "head": asdict(self.head.config),
            "added": additions(self.head),
        }

    def save(self, path: Path, config: Mapping[str, Any]) -> None:
        """Write the tuned tensors; ``config`` stands in the file's metadata."""
        with atomic_path(path) as temporary:
            save_file(tuned_state(self.head), temporary, {"config": json.dumps(config)})

    @classmethod
    def load(
        cls, path: Path, config: Mapping[str, Any], names: Sequence[str], given: ClipSettings
    ) -> ClipModel:
        """The model whose tensors are in ``path``, with its CLIP, which is found by name.

        Args:
            config: as :meth:`to_json` gave it.
            names: the C classes.
            given: where it computes; and size and resize mode, unless they are None.

        Raises:
            UserError: a damaged or missing file, or a CLIP other than the one it was tuned on.
        """
        clip = config["backbone"]
        digest, folder = clip["digest"], path.parent
        head_config = read_settings(
            HeadConfig, config["head"], lambda key: f"{folder}: config.json: head.{key}"
        )
        chosen = replace(
            given,
            clip=clip["spec"],
            image_size=given.image_size or clip["image_size"],
            resize_mode=given.resize_mode or clip.get("resize_mode"),
            local_grid=clip.get("local_grid"),
        )
        if not path.is_file():
            raise UserError(f"{folder}: holds no {path.name}; copy the whole model folder.")
        try:
            with safe_open(path, "pt") as stored:
                state = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise UserError(f"{path}: damaged ({error}); copy or train it again.") from None
        positions = clip.get("pool_positions", True)
        backbone = Backbone.load(chosen, pool_positions=positions, text=False)
        if backbone.digest != digest:
            raise UserError(
                f"{folder}: was tuned on another {chosen.clip!r} than the one found here (weights "
                f"{digest} against {backbone.digest}); install the one it names."
            )
        added = config.get("added", ())
        head = restore_head(head_config, names, state, added).to(backbone.device)
        return cls(backbone, head, config.get("crops", 0))
