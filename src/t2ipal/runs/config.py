"""The configuration of a whole run: defaults, then a YAML file, then options of the command line.

A configuration is composed of groups of settings (captions, generation, CLIP, labelled images),
which verbs and functions also take one by one. A field has the same name as a key of the file, as
an option, and in Python. Imports nothing heavy.
"""

from __future__ import annotations

import dataclasses
import reprlib
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from annotated_types import Gt, Le
from pydantic import AfterValidator

from t2ipal.clip.clip_settings import ClipSettings, Crops
from t2ipal.errors import Count, UserError, Whole, read_settings, settings
from t2ipal.files import write_text
from t2ipal.files.broken import ReadingSettings
from t2ipal.files.yaml_files import read_yaml, yaml_key
from t2ipal.generation.diffusion.settings import GenerationSettings
from t2ipal.method.head_config import HeadConfig
from t2ipal.method.train_config import TrainConfig


@settings
class SeedSettings:
    """Where chance begins."""

    seed: Whole = 0
    """seed of the run: of composed and chosen captions, images, shots, and the trained model"""


@settings
class ClassSettings:
    """Which classes to look for."""

    classes: Annotated[str, "CLASSES"] = ""
    """voc2007, coco2014, nuswide, or a YAML file of class names"""


@settings
class CaptionSettings(ClassSettings, SeedSettings):
    """Which captions to take."""

    captions: Annotated[str, "FILE"] | None = None
    """captions: text, JSONL, CSV, COCO captions JSON, or Localized Narratives JSONL"""
    compose: Annotated[Count, Le(10_000_000)] | None = None
    """compose N captions from the class names instead"""
    writer: Annotated[str, "MODEL"] | None = None
    """a language model that writes the composed captions: a causal one of transformers (hub id or
    folder), or an OpenAI-compatible endpoint (http://HOST:PORT/v1#MODEL); templates if omitted"""
    limit: Count | None = None
    """use at most the first N captions"""
    per_class: Count | None = None
    """keep at most N captions per class, each filed under the rarest class it names"""
    spread: Literal["chance", "co-occurrence"] = "chance"
    """which captions of a class to keep: by chance, or by co-occurrence (some that name the class
    alone, the rest spread over the sets of classes named together)"""

    def require(self) -> None:
        """Raise a UserError unless it says which classes and which captions."""
        if not self.classes:
            raise UserError("no classes: give --classes voc2007, coco2014, nuswide or a YAML file.")
        if self.captions is None and self.compose is None:
            raise UserError(
                "no captions: give --captions FILE, or --compose N to make N from the class names."
            )
        if self.captions is not None and self.compose is not None:
            raise UserError("--captions and --compose exclude each other: give one of them.")
        if self.writer is not None and self.compose is None:
            raise UserError("--writer writes composed captions: say how many with --compose N.")


@settings
class EvaluationSettings(ReadingSettings):
    """Labelled images to evaluate on."""

    data: Annotated[str, "DATA"] | None = None
    """labelled test images: a folder with labels.csv or of folders named by class, a COCO-format
    JSON, voc2007:DIR, coco2014:DIR, nuswide:DIR (with ?split=NAME and the like), or
    miniature[:test|dev|style|hard|known][:N]"""
    data_folder: Annotated[str, "DIR"] | None = None
    """folder of the images of a COCO JSON in --data, where it cannot be guessed"""


@settings
class RealImageSettings(SeedSettings):
    """Labelled real images to train on beside the generated ones."""

    real_images: Annotated[str, "DATA"] | None = None
    """labelled real images that trained methods train on too, written as for --data"""
    real_folder: Annotated[str, "DIR"] | None = None
    """folder of the images of a COCO JSON in --real-images, where it cannot be guessed"""
    shots: Count | None = None
    """take only so many real images that each class has N or a few more; all if omitted"""
    label_fraction: Annotated[float, Gt(0), Le(1), "X"] | None = None
    """keep each label of real images with this probability, as in partial-label papers"""
    mask_seed: Whole = 0
    """seed of the labels that are kept"""

    def _check(self) -> None:
        for name in ("shots", "label_fraction"):
            if self.real_images is None and getattr(self, name) is not None:
                raise UserError(
                    f"{name} is about labelled real images and there are none: give --real-images."
                )


@settings
class TrainingSettings(ClipSettings, RealImageSettings, EvaluationSettings):
    """All that decides how one method is trained, beside the items it is trained on."""

    crops: Crops = 0
    """also score held-out and test images by N x N overlapping crops; 0 for none"""
    head: HeadConfig = field(default_factory=HeadConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


def _different(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if not 1 <= len(seeds) <= 1000 or len(set(seeds)) != len(seeds):
        raise UserError(f"must be different numbers, 1 to 1000 of them, not {reprlib.repr(seeds)}.")
    return seeds


Seeds = Annotated[tuple[Whole, ...], AfterValidator(_different)]


@settings
class CompareSettings(EvaluationSettings):
    """What a comparison of methods is made of."""

    real_data: Annotated[str, "DATA"] | None = None
    """labelled real training images for the ceiling row, written as for --data"""
    also: Annotated[tuple[str, ...], "DATA"] = ()
    """further labelled test images, written as for --data; each gets a column of its own"""
    seeds: Seeds = (0, 1, 2)
    """seeds of the compared methods"""
    ablations: bool = True
    """compare the ablations too"""


@settings
class RunConfig(TrainingSettings, CompareSettings, GenerationSettings, CaptionSettings):
    """Everything ``t2ipal run`` does, and enough to do it again."""

    complete: Annotated[Whole, Le(10_000)] = 4
    """captions to compose for each class that no caption names; with 0 training stops at such a
    class"""

    def to_dict(self) -> dict[str, Any]:
        """Plain nested mapping for YAML; :func:`t2ipal.errors.read_settings` reads it back."""
        return {**dataclasses.asdict(self), "seeds": list(self.seeds), "also": list(self.also)}

    @classmethod
    def read(cls, path: str | Path) -> RunConfig:
        """Read YAML that :meth:`write` wrote, or a hand-written file with some of its keys.

        Raises:
            UserError: an unknown key or a bad value; the message names the line.
        """
        return read_settings(cls, read_yaml(path), yaml_key(path))

    def write(self, path: str | Path) -> None:
        """Write YAML that :meth:`read` reads back equal."""
        write_text(path, yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True))
