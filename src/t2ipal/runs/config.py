"""The configuration of a whole run: defaults, then a YAML file, then flags.

Imports nothing heavy, so that the command line can show its help at once.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from t2ipal.captions.choose import SPREADS
from t2ipal.clip.crops import windows
from t2ipal.errors import UserError, nearest
from t2ipal.files import read_yaml, write_text
from t2ipal.generation.diffusion.presets import find_preset
from t2ipal.generation.diffusion.settings import Settings, settings_of
from t2ipal.method.head_config import HeadConfig, TrainConfig


@dataclass(frozen=True)
class RunConfig:
    """Everything ``t2ipal run`` does, and enough to do it again.

    Attributes:
        classes: voc2007, coco2014, nuswide, or a YAML file of class names.
        captions: captions file (text, JSONL, CSV, COCO captions JSON, Localized Narratives JSONL).
        compose: make this many captions from the class names where there is no captions file.
        limit: use at most this many captions.
        per_class: keep at most this many captions a class, each filed under its rarest class.
        spread: which captions of a class those are: chance, or co-occurrence (some that name the
            class alone, the rest spread over the sets of classes named together).
        complete: captions to compose for each class that no caption names; 0 composes none, and
            training then stops at such a class.
        clip: open_clip model: NAME:PRETRAINED, hf-hub:ORG/NAME, a folder, or miniature.
        generator: diffusers text-to-image pipeline: a hub id, a folder, or miniature.
        preset: a generator with steps, guidance and size for what is not given: paper (Stable
            Diffusion 1.5), fast (SD-Turbo), sdxl-turbo, sdxl, sd3, pixart, sana, flux.
        images_per_caption: drawings of each caption.
        steps: denoising steps; the pipeline's own number where not given.
        guidance: guidance scale; the pipeline's own where not given.
        negative_prompt: what the drawings should not show.
        height: of the drawings in pixels; the pipeline's own where not given.
        width: of the drawings in pixels; the pipeline's own where not given.
        revision: of the generator on the hub.
        batch_size: drawings made together; does not change them.
        exact: the same drawings whatever the batch size; on a GPU that draws one at a time.
        ancestral: keep a scheduler that adds noise in every step; else its sibling without draws.
        inspect: ask CLIP about each drawing while it is made: labels that it does not see (and
            classes that it sees unasked) become unknown, a drawing without any label is drawn
            again; ``train.verify.patience`` says how readily it sees.
        max_redraws: attempts beyond the first at a drawing that is black, flat, flagged or unseen.
        data: test images: a folder with labels.csv, a COCO-format JSON, a benchmark in its authors'
            layout (voc2007:DIR, coco2014:DIR, nuswide:DIR), or miniature.
        images: folder of the images of a COCO JSON, where it cannot be guessed.
        real_data: labelled real training images for the ceiling row, like data.
        real_images: labelled real images that every trained method trains on too, like data.
        real_folder: folder of the images of a COCO JSON in real_images, where it cannot be guessed.
        shots: take so few real_images that each class has just this many or a few more that show
            it; all of them where not given.
        label_fraction: keep each label of real_images with this probability, make it unknown else.
        mask_seed: of the labels that are kept.
        seed: of the run: drawings, choice of the shots, and the saved model.
        seeds: of the compared methods.
        ablations: compare the ablations too.
        image_size: input size of CLIP; the model's own where not given.
        resize_mode: how an image becomes a square: shortest (resize, cut the centre out), squash
            (no crop) or longest (no crop, borders); the model's own where not given.
        local_grid: average CLIP's local features on so many cells a side, where they are finer.
        crops: windows a side through which held-out and test images are seen too; 0 for none.
        device: auto, cpu, cuda, mps.
        precision: auto, fp32, bf16, fp16.
        head: what the recognizer is made of.
        train: how it is tuned.
    """

    classes: str = ""
    captions: str | None = None
    compose: int | None = None
    limit: int | None = None
    per_class: int | None = None
    spread: str = "chance"
    complete: int = 4
    clip: str = "miniature"
    generator: str = "miniature"
    preset: str | None = None
    images_per_caption: int = 1
    steps: int | None = None
    guidance: float | None = None
    negative_prompt: str | None = None
    height: int | None = None
    width: int | None = None
    revision: str | None = None
    batch_size: int = 8
    exact: bool = True
    ancestral: bool = False
    inspect: bool = False
    max_redraws: int = 3
    data: str | None = None
    images: str | None = None
    real_data: str | None = None
    real_images: str | None = None
    real_folder: str | None = None
    shots: int | None = None
    label_fraction: float | None = None
    mask_seed: int = 0
    seed: int = 0
    seeds: tuple[int, ...] = (0, 1, 2)
    ablations: bool = True
    image_size: int | None = None
    resize_mode: str | None = None
    local_grid: int | None = None
    crops: int = 0
    device: str = "auto"
    precision: str = "auto"
    head: HeadConfig = field(default_factory=HeadConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        counts = (
            "limit",
            "per_class",
            "compose",
            "steps",
            "height",
            "width",
            "local_grid",
            "shots",
        )
        for name in counts:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} must be at least 1, not {value}.")
        for name in ("images_per_caption", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}.")
        windows(self.crops)  # a bad number is refused before hours of drawing
        for name in ("complete", "max_redraws"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} must be at least 0, not {getattr(self, name)}.")
        if self.spread not in SPREADS:
            raise UserError(
                f"unknown spread {self.spread!r}{nearest(self.spread, SPREADS)}; "
                f"choose {' or '.join(SPREADS)}."
            )
        if self.label_fraction is not None and not 0 < self.label_fraction <= 1:
            raise UserError(
                f"label_fraction must be above 0 and at most 1, not {self.label_fraction}."
            )
        for name in ("shots", "label_fraction"):
            if self.real_images is None and getattr(self, name) is not None:
                raise UserError(
                    f"{name} is about labelled real images and there are none: give --real-images."
                )
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise UserError(f"seeds must be different numbers, at least one, not {self.seeds}.")

    def with_preset(self) -> RunConfig:
        """The configuration with what its preset gives filled in.

        Raises:
            UserError: there is no such preset.
        """
        if self.preset is None:
            return self
        preset = find_preset(self.preset)
        sized = self.height is not None or self.width is not None
        return replace(
            self,
            generator=preset.generator if self.generator == "miniature" else self.generator,
            steps=preset.steps if self.steps is None else self.steps,
            guidance=preset.guidance if self.guidance is None else self.guidance,
            height=self.height if sized else preset.side,
            width=self.width if sized else preset.side,
        )

    def drawing(self) -> Settings:
        """How it draws."""
        return Settings(**settings_of(self))

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

    def to_dict(self) -> dict[str, Any]:
        """Plain nested mapping for YAML."""
        plain = dataclasses.asdict(self)
        plain["seeds"] = list(self.seeds)
        return plain

    @classmethod
    def from_dict(cls, mapping: dict[str, Any], source: str = "configuration") -> RunConfig:
        """The inverse of :meth:`to_dict`; missing keys keep their defaults.

        Raises:
            UserError: an unknown key or a value of the wrong kind.
        """
        fields = {f.name: f for f in dataclasses.fields(cls)}
        for key in mapping:
            if key not in fields:
                raise UserError(f"{source}: unknown key {key!r}{nearest(str(key), fields)}.")
        values = dict(mapping)
        for key, value in values.items():
            if key not in ("head", "train", "seeds"):
                _check_kind(source, key, value, str(fields[key].type))
        if "seeds" in values:
            seeds = values["seeds"]
            if not isinstance(seeds, list) or not all(type(seed) is int for seed in seeds):
                raise UserError(f"{source}: seeds must be a list of whole numbers, not {seeds!r}.")
            values["seeds"] = tuple(seeds)
        if "head" in values:
            values["head"] = HeadConfig.from_dict(values["head"])
        if "train" in values:
            values["train"] = TrainConfig.from_dict(values["train"])
        return cls(**values)

    @classmethod
    def read(cls, path: str | Path) -> RunConfig:
        """Read YAML that :meth:`write` wrote, or a hand-written file with some of its keys."""
        return cls.from_dict(read_yaml(path), str(path))

    def write(self, path: str | Path) -> None:
        """Write YAML that :meth:`read` reads back equal."""
        write_text(path, yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True))


def _check_kind(source: str, key: str, value: Any, kind: str) -> None:
    """Raise a UserError unless ``value`` is of the annotated kind, such as ``int | None``."""
    kinds: dict[str, Any] = {
        "str": str,
        "int": int,
        "float": (int, float),
        "bool": bool,
        "None": type(None),
    }
    options = [option.strip() for option in kind.split("|")]
    right = any(
        isinstance(value, kinds[option]) and (option == "bool" or not isinstance(value, bool))
        for option in options
    )
    if not right:
        raise UserError(f"{source}: {key} must be {kind.replace('|', 'or')}, not {value!r}.")
