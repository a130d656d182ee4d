"""What a tagger says of one image: a mapping from class to probability, and its tags."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from t2ipal.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

_PLOTTED = 4  # heatmaps side by side in a plot

Box = tuple[int, int, int, int]
"""Left, top, right and bottom edge in pixels."""


@dataclass(frozen=True, eq=False, repr=False)
class Tags(Mapping[str, float]):
    """What a tagger says of one image; as a mapping, class name -> probability.

    Attributes:
        names: the C classes that were asked for.
        probabilities: [C], calibrated on held-out generated images; empty after an error.
        thresholds: [C], the probability from which a class is a tag; empty after an error.
        image: the file, or None for an image in memory.
        error: why it could not be read, or None.
        heatmaps: [h, w, C] weight of each place for each class; empty if not asked for.
        size: width and height of the image.
        box: the part that CLIP saw, which heatmaps are about; it may reach beyond the image.
        picture: the image itself, kept with heatmaps only.
        uncalibrated: the classes whose probability and threshold are those of the others.
    """

    names: tuple[str, ...]
    probabilities: np.ndarray = field(default_factory=lambda: np.zeros(0))
    thresholds: np.ndarray = field(default_factory=lambda: np.zeros(0))
    image: Path | None = None
    error: str | None = None
    heatmaps: np.ndarray = field(default_factory=lambda: np.zeros(0))
    size: tuple[int, int] = (0, 0)
    box: Box = (0, 0, 0, 0)
    picture: Image.Image | None = None
    uncalibrated: tuple[str, ...] = ()

    @cached_property
    def _scores(self) -> dict[str, float]:
        return dict(zip(self.names, self.probabilities.tolist(), strict=False))

    def __getitem__(self, name: str) -> float:
        return self._scores[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._scores)

    def __len__(self) -> int:
        return len(self.probabilities)

    def __repr__(self) -> str:
        what = "image" if self.image is None else str(self.image)
        if self.error is not None:
            return f"Tags({what}: {self.error})"
        marks = dict.fromkeys(self.uncalibrated, " (not calibrated)")
        tags = ", ".join(f"{name} {self[name]:.2f}{marks.get(name, '')}" for name in self.tags)
        return f"Tags({what}: {tags or 'no tag'})"

    @property
    def tags(self) -> list[str]:
        """The classes that reach their thresholds, most probable first."""
        return self._ordered(self.probabilities >= self.thresholds)

    @property
    def seen(self) -> float:
        """Share of the image that CLIP saw; the rest was cut off."""
        width, height = self.size
        left, top, right, bottom = self.box
        inside = (min(right, width) - max(left, 0)) * (min(bottom, height) - max(top, 0))
        return inside / (width * height) if inside else 0.0

    def above(self, threshold: float) -> list[str]:
        """The classes of at least this probability, most probable first."""
        return self._ordered(self.probabilities >= threshold)

    def top(self, count: int) -> list[str]:
        """The ``count`` most probable classes, the best first."""
        return self._ordered(np.ones(len(self), bool))[:count]

    def heatmap(self, name: str) -> np.ndarray:
        """Where a class was looked for: [h, w], which sums to one over the part that CLIP saw.

        Raises:
            UserError: heatmaps were not asked for.
        """
        if not self.heatmaps.size:
            raise UserError(
                "these tags have no heatmaps; ask for them: predict(..., heatmaps=True)."
            )
        return np.asarray(self.heatmaps[..., self.names.index(name)])

    def to_json(self) -> dict[str, Any]:
        """A JSON object: ``image``, ``tags`` and, by class, ``scores`` with 4 digits."""
        if self.error is not None:
            return {"image": str(self.image), "error": self.error}
        scores = {name: round(value, 4) for name, value in self.items()}
        return {"image": str(self.image or ""), "tags": self.tags, "scores": scores}

    def to_pandas(self) -> pd.DataFrame:
        """A row per class, the most probable first: class, probability, threshold, tag.

        Raises:
            UserError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise UserError("a table needs pandas: pip install pandas.") from None
        columns = {
            "class": self.names[: len(self)],
            "probability": self.probabilities,
            "threshold": self.thresholds,
            "tag": self.probabilities >= self.thresholds,
        }
        table = pd.DataFrame(columns)
        return table.sort_values("probability", ascending=False, kind="stable", ignore_index=True)

    def plot(self, classes: Sequence[str] | None = None) -> Image.Image:
        """The image beside its heatmaps, with the name and probability of each class.

        Args:
            classes: which; the best four tags if omitted, or the best class if there is no tag.

        Raises:
            UserError: heatmaps were not asked for.
        """
        from PIL import Image, ImageDraw, ImageFont

        from t2ipal.report.overlay import heat_overlay

        shown = list(classes or self.tags[:_PLOTTED] or self.top(1))
        heats = [self.heatmap(name) for name in shown]
        assert self.picture is not None, "it is kept with heatmaps"
        picture, scale = self.picture, 320 / self.size[1]
        panels = [picture] + [heat_overlay(picture, heat, seen=self.box) for heat in heats]
        width, height, line = max(1, round(scale * self.size[0])), 320, 24
        plot = Image.new("RGB", (len(panels) * width, height + line), "white")
        draw, font = ImageDraw.Draw(plot), ImageFont.load_default(16)
        texts = ["", *(f"{name} {self[name]:.2f}" for name in shown)]
        for column, (panel, text) in enumerate(zip(panels, texts, strict=True)):
            plot.paste(panel.resize((width, height)), (column * width, 0))
            draw.text((column * width + 4, height + 2), text, "black", font)
        return plot

    def save(self, path: str | Path) -> Path:
        """Write :meth:`to_json` to a file ending in .json, or else :meth:`plot` as a picture.

        Raises:
            UserError: heatmaps were not asked for, or no picture has this suffix.
        """
        from t2ipal.files import atomic_path, write_text
        from t2ipal.files.pictures import has_picture_suffix

        path = Path(path)
        if path.suffix.lower() == ".json":
            write_text(path, json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n")
        elif not has_picture_suffix(path.name):
            raise UserError(f"{path}: tags are saved as .json, or as a picture such as .png.")
        else:
            plot = self.plot()
            with atomic_path(path) as temporary:
                plot.save(temporary)
        return path

    def _ordered(self, chosen: np.ndarray) -> list[str]:
        order = np.argsort(-self.probabilities, kind="stable")
        return [self.names[i] for i in order if chosen[i]]


def refuse_no_numbers(model: object, *found: Any) -> None:
    """Refuse numbers or arrays that are not finite, which would be compared and sorted as if.

    Raises:
        UserError: they are not.
    """
    if not all(np.isfinite(values).all() for values in found):
        raise UserError(
            f"{model}: its scores are no finite numbers; fetch or train the model again, and if it "
            "computes in fp16, try --precision fp32."
        )
