"""A trained model as its user holds it: load it, tag images, see where each tag was found."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from t2ipal.clip.backbone import Backbone
from t2ipal.clip.clip_settings import ClipSettings, Precision, ResizeMode
from t2ipal.clip.crops import crop_boxes, cut
from t2ipal.errors import UserError, read_settings
from t2ipal.files import atomic_path, write_text
from t2ipal.files.broken import MAX_MEGAPIXELS
from t2ipal.files.pictures import load_image, to_rgb
from t2ipal.method.checkpoint import restore_head, tuned_state
from t2ipal.method.equations import fuse_crops
from t2ipal.method.head import T2IPALHead
from t2ipal.method.head_config import HeadConfig
from t2ipal.tagger import model_folder
from t2ipal.tagger.thresholds import Thresholds
from t2ipal.vocabulary import Vocabulary

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
FORMAT = 2

ImageLike = str | Path | Image.Image | np.ndarray


@dataclass(frozen=True, eq=False)
class Tagged:
    """What a tagger says of one image.

    Attributes:
        names: the C classes.
        image: the file, or None for an image in memory.
        error: why it could not be read, or None.
        probabilities: [C], calibrated on held-out generated images; empty after an error.
        chosen: [C] bool, whether each class reaches its threshold; empty after an error.
        heatmaps: [h, w, C] weight of each place for each class; empty if not asked for.
        seen: share of the image that CLIP saw; the rest was cut off.
    """

    names: tuple[str, ...]
    image: Path | None
    error: str | None
    probabilities: np.ndarray
    chosen: np.ndarray
    heatmaps: np.ndarray
    seen: float = 1.0

    @property
    def tags(self) -> list[str]:
        """The classes that reach their thresholds, most probable first."""
        order = np.argsort(-self.probabilities, kind="stable")
        return [self.names[i] for i in order if self.chosen[i]]

    def __repr__(self) -> str:
        what = "image" if self.image is None else str(self.image)
        if self.error is not None:
            return f"Tagged({what}: {self.error})"
        found = dict(zip(self.names, self.probabilities.tolist(), strict=True))
        tags = ", ".join(f"{name} {found[name]:.2f}" for name in self.tags)
        return f"Tagged({what}: {tags or 'no tag'})"


class Tagger:
    """A frozen CLIP, a tuned head, and the thresholds that turn scores into tags.

    Attributes:
        vocabulary: the C classes.
        about: how it was made: method, captions, generator, seed, versions, and the scores that
            were measured (:func:`t2ipal.tagger.card.model_card`).
        crops: each image is scored on this many crops per side too; 0 for none.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: T2IPALHead,
        vocabulary: Vocabulary,
        thresholds: Thresholds,
        about: dict[str, Any] | None = None,
        crops: int = 0,
    ) -> None:
        self.backbone = backbone
        self.head = head.bake()
        self.vocabulary = vocabulary
        self.thresholds = thresholds
        self.about = about or {}
        self.crops = crops
        self._crops = crop_boxes(crops)

    def __repr__(self) -> str:
        method = self.about.get("method", "tuned")
        crops = f", {self.crops} x {self.crops} crops" if self.crops else ""
        return (
            f"Tagger({method}, {len(self.names)} classes, CLIP {self.backbone.spec} at "
            f"{self.backbone.image_size} px{crops}, {self.backbone.device})"
        )

    # --- on disk ---------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        device: str = "auto",
        precision: Precision = "auto",
        image_size: int | None = None,
        resize_mode: ResizeMode | None = None,
        crops: int | None = None,
    ) -> Tagger:
        """Load a model folder, ``photo``, or ``org/name`` from the Hugging Face hub.

        Its CLIP is found by name.

        Args:
            path: the folder, the name of a tagger of this package, or a name on the hub.
            device: auto, cpu, cuda or mps.
            precision: auto, fp32, bf16 or fp16.
            image_size: input size of CLIP in pixels; if omitted, the one the model was tuned with.
            resize_mode: how an image becomes a square; if omitted, as the model was tuned.
            crops: crops per side; if omitted, the number its thresholds were fitted with.

        Raises:
            UserError: no such model, a damaged file, or a CLIP other than the one it was tuned on.
        """
        folder = model_folder(path) or _from_hub(str(path))
        config = _read_config(folder)
        try:
            vocabulary = Vocabulary.from_dict(config["vocabulary"], str(folder / CONFIG))
            head_config = read_settings(
                HeadConfig, config["head"], lambda key: f"{folder / CONFIG}: head.{key}"
            )
            thresholds = Thresholds.from_json(config["thresholds"])
            clip = config["backbone"]
            spec, digest = clip["spec"], clip["digest"]
            image_size = clip["image_size"] if image_size is None else image_size
            crops = config.get("crops", 0) if crops is None else crops
            pool_positions = clip.get("pool_positions", True)
            resize_mode = clip.get("resize_mode") if resize_mode is None else resize_mode
            local_grid = clip.get("local_grid")
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{folder / CONFIG}: entry {error} is missing or malformed; save the model again."
            ) from None
        weights = folder / WEIGHTS
        if not weights.is_file():
            raise UserError(f"{folder}: holds no {WEIGHTS}; copy the whole model folder.")
        try:
            with safe_open(weights, "pt") as stored:
                state = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise UserError(f"{weights}: damaged ({error}); copy or train it again.") from None
        backbone = Backbone.load(
            ClipSettings(
                clip=spec,
                device=device,
                precision=precision,
                image_size=image_size,
                resize_mode=resize_mode,
                local_grid=local_grid,
            ),
            pool_positions=pool_positions,
        )
        if backbone.digest != digest:
            raise UserError(
                f"{folder}: was tuned on another {spec!r} than the one found here (weights "
                f"{digest} against {backbone.digest}); install the one it names."
            )
        head = restore_head(head_config, vocabulary.names, state).to(backbone.device)
        return cls(backbone, head, vocabulary, thresholds, config.get("about", {}), crops)

    def save_pretrained(self, path: str | Path) -> Path:
        """Write ``config.json``, ``model.safetensors`` (tuned tensors only) and a model card.

        The configuration stands in the safetensors metadata too, so the file describes itself.
        """
        from t2ipal.tagger.card import model_card  # loads huggingface_hub and Jinja

        folder = Path(path)
        config = {
            "format": FORMAT,
            "vocabulary": self.vocabulary.as_dict(),
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
            "thresholds": self.thresholds.to_json(),
            "about": self.about,
        }
        text = json.dumps(config, indent=1, ensure_ascii=False) + "\n"
        with atomic_path(folder / WEIGHTS) as temporary:
            save_file(tuned_state(self.head), temporary, {"config": json.dumps(config)})
        write_text(folder / CARD, model_card(self))
        write_text(folder / CONFIG, text)  # last: a folder with it is complete
        return folder

    # --- use -------------------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """The class names, in the order of every array."""
        return self.vocabulary.names

    @overload
    def predict(self, images: ImageLike) -> dict[str, float]: ...

    @overload
    def predict(self, images: list[Any] | tuple[Any, ...]) -> list[dict[str, float]]: ...

    def predict(
        self, images: ImageLike | list[Any] | tuple[Any, ...]
    ) -> dict[str, float] | list[dict[str, float]]:
        """Probability of every class for one image, or a list of them for a list.

        Args:
            images: a file, PIL image or uint8 array [H, W, 3], or a list of them.

        Raises:
            UserError: an image cannot be read.
        """
        if not isinstance(images, (list, tuple)):
            return self.predict([images])[0]
        found = []
        for tagged in self.stream(images):
            if tagged.error is not None:
                raise UserError(tagged.error)
            found.append(dict(zip(self.names, tagged.probabilities.tolist(), strict=True)))
        return found

    def tags(self, image: ImageLike) -> list[str]:
        """The classes that reach their thresholds, most probable first.

        Raises:
            UserError: the image cannot be read.
        """
        (tagged,) = self.stream([image])
        if tagged.error is not None:
            raise UserError(tagged.error)
        return tagged.tags

    def heatmaps(self, image: ImageLike) -> dict[str, np.ndarray]:
        """Class name to its heatmap [h, w], which sums to one over the image.

        Raises:
            UserError: the image cannot be read.
        """
        (tagged,) = self.stream([image], heatmaps=True)
        if tagged.error is not None:
            raise UserError(tagged.error)
        return {name: tagged.heatmaps[..., i] for i, name in enumerate(self.names)}

    def seen(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of what CLIP sees of an image of ``size`` (width, height).

        By its preprocessing that is the square in the middle (``shortest``), all of the image
        (``squash``), or a square around it (``longest``). Heatmaps are about this part.
        """
        width, height = size
        if self.backbone.resize_mode == "squash":
            return 0, 0, width, height
        whole = self.backbone.resize_mode == "longest"
        side = max(size) if whole else min(size)
        left, top = (width - side) // 2, (height - side) // 2
        return left, top, left + side, top + side

    def stream(
        self,
        images: Iterable[ImageLike],
        *,
        batch_size: int = 16,
        heatmaps: bool = False,
        max_megapixels: float = MAX_MEGAPIXELS,
    ) -> Iterator[Tagged]:
        """Tag any number of images in constant memory.

        Args:
            images: files, PIL images or uint8 arrays [H, W, 3].
            batch_size: images that go through CLIP together.
            heatmaps: give the heatmaps too.
            max_megapixels: larger pictures cannot be read, unless they are JPEG.

        Yields:
            One result per image, in order; an unreadable image yields a result with an error.
        """
        none = np.zeros(0)
        source = iter(images)
        while batch := list(itertools.islice(source, batch_size)):
            pixels, readable, failed, sizes = [], [], {}, {}
            for i, image in enumerate(batch):
                try:
                    opened = _open(image, max_megapixels)
                    views = [opened, *(cut(opened, crop) for crop in self._crops)]
                    pixels.append(torch.stack([self.backbone.preprocess(view) for view in views]))
                    readable.append(i)
                    sizes[i] = opened.size
                except UserError as error:
                    failed[i] = str(error)
            if pixels:
                probabilities, chosen, maps = self._score(torch.stack(pixels), heatmaps)
            place = {i: row for row, i in enumerate(readable)}
            for i, image in enumerate(batch):
                file = Path(image) if isinstance(image, (str, Path)) else None
                if i in failed:
                    yield Tagged(self.names, file, failed[i], none, none.astype(bool), none)
                    continue
                row = place[i]
                shown = maps[row] if heatmaps else none
                yield Tagged(
                    self.names, file, None, probabilities[row], chosen[row], shown,
                    seen=self._share_seen(sizes[i]),
                )  # fmt: skip

    def _share_seen(self, size: tuple[int, int]) -> float:
        if self.backbone.resize_mode != "shortest":
            return 1.0
        return min(size) / max(size)

    @torch.no_grad()
    def _score(
        self, pixels: torch.Tensor, heatmaps: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of views [B, 1 + V, 3, S, S], whole images first; heatmaps are those of the whole."""
        unit = torch.nn.functional.normalize
        seen = []
        for view in pixels.unbind(dim=1):
            features = self.backbone.encode_image(view)
            local = unit(features.local, dim=-1)
            seen.append(self.head.scores(unit(features.global_, dim=-1), local))
        scores = seen[0]
        crops = [crop.fused for crop in seen[1:]]
        fused = fuse_crops(scores.fused, crops, self.head.config.fusion).cpu().numpy()
        maps = np.zeros((len(fused), 0, 0, len(self.names)))
        if heatmaps:
            maps = scores.heatmap.cpu().numpy().reshape(len(fused), *features.grid, -1)
        return self.thresholds.probabilities(fused), self.thresholds.decide(fused), maps


def _open(image: ImageLike, max_megapixels: float) -> Image.Image:
    if isinstance(image, Image.Image):
        return to_rgb(image)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise UserError(
                f"an array of {image.dtype} {image.shape} is no image; give uint8 [H, W, 3]."
            )
        return Image.fromarray(image)
    return load_image(image, max_megapixels=max_megapixels)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{folder}: holds no {CONFIG}, so it is no saved tagger; name a folder that "
            "'t2ipal train' or 't2ipal run' wrote, such as RUN/model."
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is not JSON ({error}); copy or train the model again.") from None
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise UserError(f"{path}: is no tagger of format {FORMAT}; update t2ipal or train again.")
    return config


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=[CONFIG, WEIGHTS, CARD]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        first = str(error).strip().split("\n")[0]
        raise UserError(
            f"{name}: neither a folder here nor a model on the hub that can be reached ({first})."
        ) from None
