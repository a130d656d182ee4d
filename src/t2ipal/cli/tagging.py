"""Verbs that use a trained model: measure it, tag images with it."""

from __future__ import annotations

import csv
import itertools
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from t2ipal.cli.speech import complain, say
from t2ipal.datasets.image_files import find_images
from t2ipal.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from t2ipal.tagger.tagger import Tagged, Tagger


@dataclass(frozen=True)
class Eval:
    """Measure a tagger on labelled images."""

    model: Positional[Path]
    """model folder, such as RUN/model"""
    data: str
    """a folder with labels.csv or of folders named by class, a COCO-format JSON, voc2007:DIR,
    coco2014:DIR or nuswide:DIR (each perhaps with ?split=NAME), or
    miniature[:test|hard|known][:N]"""
    images: Path | None = None
    """folder of the images of a COCO JSON, where it cannot be guessed"""
    cache: Path | None = None
    """folder of the feature cache; beside the model where not given"""
    out: Path | None = None
    """JSON file to write the figures to"""
    image_size: int | None = None
    """input size of CLIP, where another than the model was tuned with"""
    crops: int | None = None
    """see each image through so many windows a side too; the model's own number if left out"""
    device: str = "auto"
    """auto, cpu, cuda, mps"""

    def run(self) -> int:
        from t2ipal.files import write_text
        from t2ipal.tagger.scoring import evaluate

        evaluation = evaluate(
            self.model,
            self.data,
            images=self.images,
            cache=self.cache,
            device=self.device,
            image_size=self.image_size,
            crops=self.crops,
        )
        for line in evaluation.lines():
            say(line)
        if self.out is not None:
            write_text(self.out, json.dumps(evaluation.to_json(), indent=1) + "\n")
        return 0


@dataclass(frozen=True)
class Predict:
    """Tag images: files, folders and globs."""

    model: Positional[str]
    """model folder, such as RUN/model, or ORG/NAME on the Hugging Face hub"""
    paths: Positional[tuple[str, ...]]
    """image files, folders (searched through) and glob patterns"""
    top: int | None = None
    """show the K most probable classes; those above their thresholds where not given"""
    format: Literal["table", "jsonl", "csv"] = "table"
    """how to print"""
    heatmaps: Path | None = None
    """folder for one overlay a shown tag"""
    batch_size: int = 16
    """images that go through CLIP together"""
    image_size: int | None = None
    """input size of CLIP, where another than the model was tuned with"""
    crops: int | None = None
    """see each image through so many windows a side too; the model's own number if left out"""
    device: str = "auto"
    """auto, cpu, cuda, mps"""

    def run(self) -> int:
        from t2ipal.tagger.tagger import Tagger

        if self.top is not None and self.top < 1:
            raise UserError(f"--top must be at least 1, not {self.top}.")
        files = find_images(self.paths)
        first = next(files, None)
        if first is None:
            raise UserError(f"no image among {', '.join(self.paths)}; check the paths.")
        tagger = Tagger.from_pretrained(
            self.model, device=self.device, image_size=self.image_size, crops=self.crops
        )
        writer = csv.writer(sys.stdout, lineterminator="\n")
        if self.format == "csv":
            writer.writerow(("image", "labels", *tagger.names))
        failed = done = 0
        for tagged in tagger.stream(
            itertools.chain([first], files),
            batch_size=self.batch_size,
            heatmaps=self.heatmaps is not None,
        ):
            if tagged.error is not None:
                complain(tagged.error)
                failed += 1
                continue
            done += 1
            shown = shown_tags(tagged, self.top)
            if self.heatmaps is not None:
                write_heatmaps(tagged, shown, tagger, self.heatmaps)
            names = [tagger.names[i] for i in shown]
            values = [round(float(tagged.probabilities[i]), 4) for i in shown]
            if self.format == "jsonl":
                scores = dict(
                    zip(tagger.names, tagged.probabilities.round(4).tolist(), strict=True)
                )
                row = {"image": str(tagged.image), "tags": names, "scores": scores}
                print(json.dumps(row, ensure_ascii=False), flush=True)
            elif self.format == "csv":
                scores = tagged.probabilities.round(4).tolist()
                writer.writerow((str(tagged.image), "|".join(names), *scores))
            else:
                pairs = zip(names, values, strict=True)
                tags = ", ".join(f"{name} {value:.2f}" for name, value in pairs)
                print(f"{tagged.image}  {tags or '-'}", flush=True)
        if failed:
            complain(f"{failed} of {failed + done} images could not be read.")
        return 1 if failed else 0


def shown_tags(tagged: Tagged, top: int | None) -> list[int]:
    """Class indices to show, most probable first: the top K, or those above their thresholds."""
    order = [int(i) for i in (-tagged.probabilities).argsort(kind="stable")]
    return order[:top] if top is not None else [i for i in order if tagged.chosen[i]]


def write_heatmaps(tagged: Tagged, shown: list[int], tagger: Tagger, folder: Path) -> None:
    """One overlay a shown tag: FOLDER/IMAGE-CLASS.png."""
    from t2ipal.datasets.pictures import load_image
    from t2ipal.files import atomic_path
    from t2ipal.report.overlay import heat_overlay

    assert tagged.image is not None, "predict streams files"
    image = load_image(tagged.image)
    for i in shown:
        heat: np.ndarray = tagged.heatmaps[..., i]
        name = tagger.names[i].replace("/", "-").replace(" ", "-")
        with atomic_path(folder / f"{tagged.image.stem}-{name}.png") as path:
            heat_overlay(image, heat).save(path)
