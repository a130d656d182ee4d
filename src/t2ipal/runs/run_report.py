"""The page of one run: its captions with their drawings, its table, its tagged test images."""

from __future__ import annotations

import json
import shlex
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from t2ipal.captions.labelled import LabelledCaption
from t2ipal.datasets.labelled_images import LabelledImages
from t2ipal.datasets.pictures import load_image
from t2ipal.generation.store import ImageRow
from t2ipal.generation.summary import GenerateSummary
from t2ipal.report.contact import write_contact_sheet
from t2ipal.report.content import (
    ClassCount,
    DrawnCaption,
    Prediction,
    ReportContent,
    TaggedScene,
)
from t2ipal.report.inspected import write_inspected
from t2ipal.report.page import build_report
from t2ipal.runs.compare import Comparison
from t2ipal.runs.config import RunConfig
from t2ipal.tagger.card import photos_used
from t2ipal.tagger.tagger import Tagged, Tagger
from t2ipal.vocabulary import UNKNOWN, Vocabulary

Row = TypeVar("Row")

CAPTIONS_SHOWN = 24
SCENES_SHOWN = 12
HEATMAPS_SHOWN = 3
SHEET_IMAGES = 60


def write_report(
    out: Path,
    *,
    config: RunConfig,
    tagger: Tagger,
    captions: Sequence[LabelledCaption],
    images: Sequence[ImageRow],
    test: LabelledImages | None,
    comparison: Comparison | None,
    drawing: GenerateSummary,
) -> Path:
    """Write ``report.html`` and the contact sheet ``images.png`` into a run folder."""
    vocabulary = tagger.vocabulary
    drawn: dict[str, list[ImageRow]] = defaultdict(list)
    for row in images:
        drawn[row.caption_id].append(row)
    shown = _spread_out([row for row in captions if row.id in drawn], CAPTIONS_SHOWN)
    sheet = _spread_out(images, SHEET_IMAGES)
    write_contact_sheet(
        out / "images.png",
        [(load_image(out / row.file), row.caption) for row in sheet],
        columns=10,
        title=f"{len(images)} images drawn by {config.generator}",
    )
    if config.inspect or drawing.near:
        write_inspected(out)
    named = Counter(name for row in captions for name in row.labels)
    shows = Counter(name for row in images for name in row.seen)
    warnings = [
        f"No caption names {name}: nothing teaches this class but its name."
        for name in vocabulary.names
        if not named[name]
    ]
    warnings += [
        f"{count} {'drawing was' if count == 1 else 'drawings were'} {reason}: thrown away and "
        "drawn again with the next seed."
        for reason, count in drawing.rejected.items()
    ]
    if drawing.failed:
        images_were = "image was" if drawing.failed == 1 else "images were"
        warnings.append(f"{drawing.failed} {images_were} left out: every attempt failed.")
    method = "t2i-pal"
    photos = photos_used(config.real_images is not None)
    content = ReportContent(
        title=f"{vocabulary.title}: a tagger from {len(captions)} captions",
        summary=(
            f"{len(images)} images were drawn from captions by {config.generator}; a few thousand "
            f"parameters were tuned on them around a frozen CLIP ({config.clip}). {photos}"
        ),
        command=f"t2ipal run --config {shlex.quote(str(out / 'config.yaml'))} --out "
        f"{shlex.quote(str(out))}",
        classes=vocabulary.names,
        methods=comparison.rows if comparison else (),
        focus=method if comparison else "",
        tested_on="" if test is None else f"{len(test)} images: {test.source}",
        facts=(
            (str(sum(bool(row.labels) for row in captions)), "captions that name a class"),
            (str(len(images)), "images drawn"),
            (str(len(vocabulary)), "classes"),
        ),
        counts=tuple(ClassCount(name, named[name], shows[name]) for name in vocabulary.names),
        captions=tuple(
            DrawnCaption(
                row.caption,
                row.labels,
                tuple(load_image(out / image.file) for image in drawn[row.id]),
                row.unknown,
                sum(len(image.rejected) for image in drawn[row.id]),
            )
            for row in shown
        ),
        scenes=_scenes(tagger, test),
        gap=comparison.gap if comparison else None,
        warnings=tuple(warnings),
        made=_made(config, tagger),
    )
    path = out / "report.html"
    build_report(path, content)
    return path


def _scenes(tagger: Tagger, test: LabelledImages | None) -> tuple[TaggedScene, ...]:
    if test is None:
        return ()
    rows = _spread_out(range(len(test)), SCENES_SHOWN)
    files = [test.files[i] for i in rows]
    return tuple(
        _scene(tagger.vocabulary, load_image(file), test.targets[i], tagged)
        for i, file, tagged in zip(rows, files, tagger.stream(files, heatmaps=True), strict=True)
    )


def _scene(
    vocabulary: Vocabulary, image: Image.Image, targets: np.ndarray, tagged: Tagged
) -> TaggedScene:
    order = np.argsort(-tagged.probabilities, kind="stable")
    best = [i for i in order if tagged.chosen[i]] or list(order[:1])
    predictions = tuple(
        Prediction(
            vocabulary.names[i],
            float(tagged.probabilities[i]),
            bool(tagged.chosen[i]),
            tagged.heatmaps[..., i] if rank < HEATMAPS_SHOWN else None,
        )
        for rank, i in enumerate(best[:6])
    )
    return TaggedScene(
        image,
        tuple(n for n, t in zip(vocabulary.names, targets, strict=True) if t == 1),
        predictions,
        tuple(n for n, t in zip(vocabulary.names, targets, strict=True) if t == UNKNOWN),
    )


def _made(config: RunConfig, tagger: Tagger) -> tuple[tuple[str, str], ...]:
    plain = config.to_dict()
    settings = {k: v for k, v in plain.items() if k not in ("head", "train") and v is not None}
    rows = [(key, str(value)) for key, value in settings.items()]
    rows.append(("head", json.dumps(plain["head"])))
    rows.append(("train", json.dumps(plain["train"])))
    rows.extend((f"version of {k}", v) for k, v in tagger.about.get("versions", {}).items())
    return tuple(rows)


def _spread_out(rows: Sequence[Row], count: int) -> list[Row]:
    """At most ``count`` of the rows, evenly spaced."""
    if len(rows) <= count:
        return list(rows)
    return [rows[i * len(rows) // count] for i in range(count)]
