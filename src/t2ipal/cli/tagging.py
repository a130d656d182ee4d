"""Verbs that use a trained model: measure it, tag images with it."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import os
import sys
from dataclasses import KW_ONLY
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from t2ipal.cli.options import Verb, require_data, require_paths
from t2ipal.cli.speech import complain, csv_cell, plain, say
from t2ipal.clip.clip_settings import InputSettings
from t2ipal.errors import Count, UserError, settings
from t2ipal.files import to_json_line
from t2ipal.files.broken import PictureSettings
from t2ipal.files.folders import LeftOut, common_folder, find_images
from t2ipal.files.names import readable_name
from t2ipal.files.pictures import has_picture_suffix
from t2ipal.runs.config import Crops, EvaluationSettings
from t2ipal.tagger import model_folder

if TYPE_CHECKING:
    import numpy as np

    from t2ipal.tagger.tagger import Tagged, Tagger


_LONGEST_NAME = 200  # bytes: file systems take 255, and a name while it is written is longer
_NEARLY_ALL = 0.6  # of a photo of 3:2 CLIP sees two thirds, which everybody expects


@settings
class _ModelSettings(InputSettings):
    """How a saved model looks at images."""

    crops: Crops | None = None
    """also score images by N x N overlapping crops; the model's own number if omitted"""


@settings
class Eval(_ModelSettings, EvaluationSettings, Verb):
    """Measure a tagger on labelled images."""

    positional = ("model",)
    needed = ("data",)
    examples = """
        t2ipal eval runs/mine/model --data photos/
        t2ipal eval runs/mine/model --data coco2014:COCO --out eval.json
    """
    _: KW_ONLY
    model: Path
    """photo (the tagger of this package), or a model folder such as RUN/model"""
    features: Annotated[Path, "DIR"] | None = None
    """folder of the feature cache; beside the model if omitted"""
    out: Annotated[Path, "FILE"] | None = None
    """JSON file to write the figures to"""

    def run(self) -> int:
        assert self.data is not None, "it is needed"
        model_folder(self.model, typed=True)  # before PyTorch is imported, which takes seconds
        require_paths(self.data_folder)
        require_data(self.data)
        from t2ipal.files import write_text
        from t2ipal.tagger.scoring import evaluate

        evaluation = evaluate(
            self.model,
            self.data,
            images=self.data_folder,
            cache=self.features,
            device=self.device,
            precision=self.precision,
            image_size=self.image_size,
            resize_mode=self.resize_mode,
            crops=self.crops,
            skip_broken=self.skip_broken,
            max_megapixels=self.max_megapixels,
            say=say,
        )
        for line in evaluation.lines():
            say(line)
        if self.out is not None:
            write_text(self.out, json.dumps(evaluation.to_json(), indent=1) + "\n")
        return 0


@settings
class Predict(_ModelSettings, PictureSettings, Verb):
    """Tag images: files, folders and globs."""

    positional = ("model", "images")
    examples = """
        t2ipal predict photo holiday/
        t2ipal predict runs/mine/model photo.jpg
        t2ipal predict runs/mine/model photos/ --top 3 --format csv > tags.csv
        t2ipal predict runs/mine/model 'photos/*.jpg' --heatmaps overlays
    """
    _: KW_ONLY
    model: str
    """photo (the tagger of this package: 80 things in photos), a model folder such as RUN/model, or
    ORG/NAME on the Hugging Face hub"""
    images: tuple[str, ...]
    """image files, folders (searched through) and glob patterns"""
    top: Count | None = None
    """show the N most probable classes; those above their thresholds if omitted"""
    format: Literal["table", "jsonl", "csv"] = "table"
    """how to print"""
    heatmaps: Annotated[Path, "DIR"] | None = None
    """folder for one overlay per shown tag"""
    batch_size: Count = 16
    """images processed together"""

    def run(self) -> int:
        if has_picture_suffix(self.model) and not Path(self.model).is_dir():
            raise UserError(
                f"{self.model} is an image, not a model: the model comes first, as in 't2ipal "
                f"predict {self.images[-1]} {self.model}'."
            )
        if "" in self.images:
            raise UserError("an image is called '', which names nothing; check the paths.")
        left_out = LeftOut()
        files = find_images(self.images, left_out)
        first = next(files, None)
        if first is None:
            why = f" ({left_out})" if str(left_out) else ""
            raise UserError(f"no image among {', '.join(self.images)}{why}; check the paths.")
        model_folder(self.model, typed=True)  # before PyTorch is imported, which takes seconds
        from t2ipal.tagger.tagger import Tagger

        tagger = Tagger.from_pretrained(
            self.model,
            device=self.device,
            precision=self.precision,
            image_size=self.image_size,
            resize_mode=self.resize_mode,
            crops=self.crops,
        )
        start = common_folder(self.images)
        data = self.heatmaps is None  # else there are files to write, whoever reads the lines
        if self.format == "csv":
            say(_csv_line("image", "labels", *tagger.names), data=data)
        failed = done = cut = 0
        for tagged in tagger.stream(
            itertools.chain([first], files),
            batch_size=self.batch_size,
            heatmaps=self.heatmaps is not None,
            max_megapixels=self.max_megapixels,
        ):
            if tagged.error is not None:
                complain(tagged.error)
                failed += 1
                continue
            done += 1
            cut += tagged.seen < _NEARLY_ALL
            shown = _shown_tags(tagged, self.top)
            if self.heatmaps is not None:
                _write_heatmaps(tagged, shown, tagger, self.heatmaps, start)
            names = [tagger.names[i] for i in shown]
            values = [round(float(tagged.probabilities[i]), 4) for i in shown]
            if self.format == "jsonl":
                scores = dict(
                    zip(tagger.names, tagged.probabilities.round(4).tolist(), strict=True)
                )
                row = {"image": str(tagged.image), "tags": names, "scores": scores}
                say(to_json_line(row, sys.stdout.encoding or "utf-8").rstrip("\n"), data=data)
            elif self.format == "csv":
                scores = tagged.probabilities.round(4).tolist()
                name = readable_name(str(tagged.image))
                say(_csv_line(name, "|".join(names), *scores), data=data)
            else:
                pairs = zip(names, values, strict=True)
                tags = ", ".join(f"{name} {value:.2f}" for name, value in pairs)
                say(plain(f"{readable_name(str(tagged.image))}  {tags or '-'}"), data=data)
        if str(left_out):
            complain(f"{left_out}.")
        if cut:
            complain(
                f"{cut} images were seen in part: CLIP looks at the square in their middle "
                "(--resize-mode squash looks at all of an image)."
            )
        if failed:
            complain(f"{failed} of {failed + done} images could not be read.")
        return 1 if failed else 0


def _csv_line(*cells: str | float) -> str:
    stream = io.StringIO()
    safe = [csv_cell(cell) if isinstance(cell, str) else cell for cell in cells]
    csv.writer(stream, lineterminator="").writerow(safe)
    return stream.getvalue()


def _shown_tags(tagged: Tagged, top: int | None) -> list[int]:
    """Class indices to show, most probable first: the top K, or those above their thresholds."""
    order = [int(i) for i in (-tagged.probabilities).argsort(kind="stable")]
    return order[:top] if top is not None else [i for i in order if tagged.chosen[i]]


def _write_heatmaps(
    tagged: Tagged, shown: list[int], tagger: Tagger, folder: Path, start: Path
) -> None:
    """One overlay per shown tag, FOLDER/IMAGE.jpg-CLASS.png; IMAGE is the path below ``start``."""
    from t2ipal.files import atomic_path, sha256_text
    from t2ipal.files.pictures import load_image
    from t2ipal.report.overlay import heat_overlay

    assert tagged.image is not None, "predict streams files"
    image = load_image(tagged.image, max_megapixels=math.inf)  # it has been read before
    inside = Path(os.path.relpath(tagged.image, start))
    for i in shown:
        heat: np.ndarray = tagged.heatmaps[..., i]
        name = tagger.names[i].replace("/", "%2F").replace(" ", "-")
        file = f"{inside.name}-{name}.png"
        if len(os.fsencode(file)) > _LONGEST_NAME:
            begin = os.fsdecode(os.fsencode(inside.name)[:100])
            file = f"{begin}-{sha256_text(file)[:8]}-{name[-60:]}.png"
        with atomic_path(folder / inside.parent / file) as path:
            heat_overlay(image, heat, seen=tagger.seen(image.size)).save(path)
