"""The stages of a run, one after the other in one folder; each resumes and each can run alone.

RUN/ config.yaml vocabulary.yaml captions.jsonl images/ images.jsonl features/ model/
     metrics.jsonl judged.jsonl compare.json report.html images.png log.txt
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from t2ipal.benchmarks.labelled import LabelledImages, read_labelled_images
from t2ipal.benchmarks.metrics import Evaluation, mean_average_precision
from t2ipal.benchmarks.metrics import evaluate as judge
from t2ipal.benchmarks.uncertainty import bootstrap_map, calibration_error, eleven_point
from t2ipal.captions.compose import compose
from t2ipal.captions.labelled import (
    LabelledCaption,
    LabelSummary,
    label_captions,
    read_labelled,
    write_labelled,
)
from t2ipal.captions.quotas import choose_per_class
from t2ipal.captions.sources import Caption, read_captions
from t2ipal.clip.features import FeatureCache
from t2ipal.comparison import Comparison, compare, method_names
from t2ipal.config import RunConfig
from t2ipal.errors import UserError
from t2ipal.files import write_text
from t2ipal.fitting import Say, backbone_of, methods_of, train_on_real, train_tagger
from t2ipal.inspection import ClipInspector
from t2ipal.real_images import SCENES, RealImages, read_real_images
from t2ipal.recognizer.items import ItemSet
from t2ipal.report.run_report import write_report
from t2ipal.synthesis.generator import generate
from t2ipal.synthesis.store import read_manifest
from t2ipal.synthesis.summary import GenerateSummary
from t2ipal.tagger import CONFIG, Tagger
from t2ipal.vocabulary import Vocabulary
from t2ipal.workbench import Workbench, image_items

log = logging.getLogger(__name__)

# Settings that change no stored result, so that a finished run may be started with others.
_FREE = {"batch_size", "device", "data", "images", "real_data", "real_folder", "seeds", "ablations"}


@dataclass(frozen=True)
class RunResult:
    """What a run left behind."""

    model: Path
    report: Path
    comparison: Comparison | None


def run(
    config: RunConfig, out: str | Path, *, say: Say = log.info, progress: bool = True
) -> RunResult:
    """Label, generate, embed, train and compare in one folder; a second start goes on.

    Raises:
        UserError: bad input, or ``out`` holds a run with other settings.
    """
    config = config.with_preset()
    config.require()
    out = Path(out)
    vocabulary = Vocabulary.load(config.classes)
    _refuse_another(out, config)
    # Before the folder belongs to these settings: a mistake among them can then be corrected.
    real = read_real_images(config, vocabulary, out / SCENES)
    config.write(out / "config.yaml")
    say = noted(say, out / "log.txt")
    write_text(out / "vocabulary.yaml", vocabulary.to_yaml())
    captions = label_stage(config, vocabulary, out, say)
    summary = generate_stage(config, vocabulary, captions, out, say, progress)
    bench = embed_stage(config, vocabulary, captions, out, say, progress)
    test = None
    if config.data is not None:
        test = _labelled(config, vocabulary, out, config.data, seed=0)
    judged = None if test is None else bench.labelled(test, judged=True)
    if real is not None:
        train_on_real(bench, real, judged, say)
    tagger = train_stage(config, bench, out, say, real)
    comparison = None
    if judged is not None:
        comparison = compare_stage(config, bench, judged, out, say)
    report = write_report(
        out,
        config=config,
        tagger=tagger,
        captions=captions,
        images=read_manifest(out),
        test=test,
        comparison=comparison,
        drawing=summary,
    )
    say(f"model   {out / 'model'}")
    say(f"report  {report}")
    return RunResult(out / "model", report, comparison)


def noted(say: Say, path: Path) -> Say:
    """``say`` that also writes each line, with the time, at the end of a file."""

    def say_and_write(line: str) -> None:
        with path.open("a", encoding="utf-8") as stream:
            stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")
        say(line)

    return say_and_write


def label_stage(
    config: RunConfig, vocabulary: Vocabulary, out: Path, say: Say
) -> list[LabelledCaption]:
    """captions.jsonl: the labels of every caption."""
    path = out / "captions.jsonl"
    if path.exists():
        rows = read_labelled(path)
        say(f"label: {len(rows)} captions, done before")
        return rows
    rows = labelled_captions(config, vocabulary)
    summary = LabelSummary.of(rows, vocabulary)
    for line in summary.lines():
        say(line)
    if not any(row.labels for row in rows):
        raise UserError(
            f"{config.captions or 'the composed captions'}: no caption names any of the "
            f"{len(vocabulary)} classes; check --classes, or add synonyms to its YAML file."
        )
    rows += composed_for_missing(rows, vocabulary, config, say)
    write_labelled(path, rows)
    return rows


def composed_for_missing(
    rows: Sequence[LabelledCaption], vocabulary: Vocabulary, config: RunConfig, say: Say
) -> list[LabelledCaption]:
    """Composed captions for the classes that no caption names, so that these are drawn too."""
    named = {name for row in rows for name in row.labels}
    missing = tuple(entry for entry in vocabulary.classes if entry.name not in named)
    if not missing or not config.complete:
        return []
    count = config.complete * len(missing)
    composed = compose(Vocabulary(vocabulary.title, missing), count, seed=config.seed)
    say(
        f"composed {count} captions for the {len(missing)} classes that no caption names "
        "(--complete 0 composes none)"
    )
    return label_captions([Caption(f"composed-{c.id}", c.text) for c in composed], vocabulary)


def generate_stage(
    config: RunConfig,
    vocabulary: Vocabulary,
    captions: Sequence[LabelledCaption],
    out: Path,
    say: Say,
    progress: bool,
) -> GenerateSummary:
    """images/ and images.jsonl: the drawings."""
    started = time.monotonic()
    inspector = None
    if config.inspect:
        inspector = ClipInspector(
            config.clip,
            vocabulary,
            config.train.verify.patience,
            image_size=config.image_size,
            resize_mode=config.resize_mode,
            device=config.device,
            precision=config.precision,
        )
    summary = generate(
        captions,
        config.generator,
        out,
        images_per_caption=config.images_per_caption,
        seed=config.seed,
        batch_size=config.batch_size,
        settings=config.drawing(),
        revision=config.revision,
        max_redraws=config.max_redraws,
        inspector=inspector,
        progress=progress,
    )
    for line in summary.lines():
        say(line)
    log.info("generate took %.1f s", time.monotonic() - started)
    return summary


def embed_stage(
    config: RunConfig,
    vocabulary: Vocabulary,
    captions: Sequence[LabelledCaption],
    out: Path,
    say: Say,
    progress: bool,
    *,
    drawn: bool = True,
    pool_positions: bool = True,
) -> Workbench:
    """features/: captions and images (if any were ``drawn``) through the frozen CLIP."""
    backbone = backbone_of(config, config.clip, pool_positions=pool_positions)
    bench = Workbench(
        vocabulary,
        backbone,
        out / "features",
        captions,
        read_manifest(out) if drawn else (),
        out,
        crops=config.crops,
        progress=progress,
    )
    images = 0 if bench.train_images is None else len(bench.train_images)
    say(
        f"embed: {images} drawn images and {len(bench.train_captions)} captions to train on, "
        f"{len(bench.valid)} {'drawn images' if drawn else 'captions'} held out"
    )
    return bench


def train_stage(
    config: RunConfig, bench: Workbench, out: Path, say: Say, real: RealImages | None = None
) -> Tagger:
    """model/: the tuned head with thresholds."""
    folder = out / "model"
    if (folder / CONFIG).exists():
        say("train: model, done before")
        return Tagger.from_pretrained(folder, device=config.device, precision=config.precision)
    tagger = train_tagger(bench, methods_of(config)("t2i-pal"), config.seed, out / "metrics.jsonl")
    tagger.about.update(
        captions=Path(config.captions).name if config.captions else f"{config.compose} composed",
        generator=config.generator,
        drawn_images=0 if bench.train_images is None else len(bench.train_images),
        real_images=0 if real is None else real.summary,
    )
    tagger.save_pretrained(folder)
    valid = tagger.about["held_out_map"]
    say(f"train: t2i-pal, mAP {valid} on held-out drawn images, kept epoch {tagger.about['epoch']}")
    return tagger


def compare_stage(
    config: RunConfig, bench: Workbench, test: ItemSet, out: Path, say: Say
) -> Comparison:
    """judged.jsonl and compare.json: the table of methods on the test images."""
    real = None
    if config.real_data is not None:
        # Another seed than the test images', so that the miniature draws other scenes.
        real = bench.labelled(_labelled(config, bench.vocabulary, out, config.real_data, seed=1))
    names = method_names(ablations=config.ablations, real_images=bench.real is not None)
    say(f"compare: {len(names)} methods, seeds {', '.join(map(str, config.seeds))}")
    comparison = compare(
        bench,
        test,
        out,
        seeds=config.seeds,
        real=real,
        configure=methods_of(config),
        methods=names,
        say=say,
    )
    if not comparison.computed:
        say("compare: every method was judged before")
    for line in (*comparison.lines(), "", *comparison.gap.lines()):
        say(line)
    return comparison


@dataclass(frozen=True, eq=False)
class Scored:
    """A tagger's scores and probabilities of labelled images, [N, C] each."""

    names: tuple[str, ...]
    thresholds: np.ndarray
    scores: np.ndarray
    probabilities: np.ndarray
    targets: np.ndarray

    def evaluate(self) -> Evaluation:
        """mAP, F1 at the tagger's thresholds and at top-3."""
        return judge(self.scores, self.targets, self.names, thresholds=self.thresholds)

    def more(self) -> dict[str, float]:
        """Further figures in [0, 1]: mAP by eleven points, the calibration error, and the ends of
        mAP's 95 % interval by the bootstrap."""
        low, high = bootstrap_map(self.scores, self.targets)
        return {
            "mAP, eleven points": mean_average_precision(eleven_point(self.scores, self.targets)),
            "calibration error": calibration_error(self.probabilities, self.targets),
            "mAP, low": low,
            "mAP, high": high,
        }


def evaluate(
    model: Tagger | str | Path,
    data: str | Path,
    *,
    images: str | Path | None = None,
    cache: str | Path | None = None,
    device: str = "auto",
    image_size: int | None = None,
    crops: int | None = None,
    progress: bool = True,
) -> Evaluation:
    """Measure a tagger on labelled images; the arguments are those of :func:`score`."""
    return score(
        model,
        data,
        images=images,
        cache=cache,
        device=device,
        image_size=image_size,
        crops=crops,
        progress=progress,
    ).evaluate()


def score(
    model: Tagger | str | Path,
    data: str | Path,
    *,
    images: str | Path | None = None,
    cache: str | Path | None = None,
    device: str = "auto",
    image_size: int | None = None,
    crops: int | None = None,
    progress: bool = True,
) -> Scored:
    """Score labelled images with a tagger.

    Args:
        model: a tagger or its folder.
        data: labelled images: a folder with ``labels.csv``, a COCO-format JSON, a benchmark in its
            authors' layout, or ``miniature``
            (:func:`t2ipal.benchmarks.labelled.read_labelled_images`).
        images: folder of the images of a COCO JSON, where it cannot be guessed.
        cache: folder of the feature cache; beside the model where not given.
        image_size, crops: as :meth:`Tagger.from_pretrained` takes them, for a model's folder.

    Raises:
        UserError: bad labels, a missing image, no model.
    """
    tagger = model
    if not isinstance(tagger, Tagger):
        tagger = Tagger.from_pretrained(tagger, device=device, image_size=image_size, crops=crops)
    if cache is None:
        beside = Path(model).parent if isinstance(model, (str, Path)) else Path(".")
        cache = beside / "features"
    labelled = read_labelled_images(data, tagger.vocabulary, images=images, cache=cache)
    if not (labelled.targets == 0).any():
        raise UserError(
            f"{data}: no class is known to be absent from any image, so every ranking would be "
            "right; give images with labels 0 too."
        )
    features = FeatureCache(cache, tagger.backbone)
    items = image_items(
        features, labelled.files, labelled.targets, crops=tagger.crops, progress=progress
    )
    scores = tagger.head.score_items(items).cpu().numpy()
    return Scored(
        tagger.names,
        np.array(tagger.thresholds.thresholds),
        scores,
        tagger.thresholds.probabilities(scores),
        labelled.targets,
    )


def labelled_captions(config: RunConfig, vocabulary: Vocabulary) -> list[LabelledCaption]:
    """Captions read or composed, labelled, and chosen by ``config.per_class``."""
    rows = label_captions(read_or_compose(config, vocabulary), vocabulary)
    if config.per_class is None:
        return rows
    return choose_per_class(rows, config.per_class, spread=config.spread, seed=config.seed)


def read_or_compose(config: RunConfig, vocabulary: Vocabulary) -> list[Caption]:
    """The captions file's captions, or composed ones."""
    if config.captions is not None:
        return read_captions(config.captions, limit=config.limit)
    if config.compose is None:
        raise UserError("no captions: give a captions file, or a number of captions to compose.")
    return compose(vocabulary, config.compose, seed=config.seed)


def _labelled(
    config: RunConfig, vocabulary: Vocabulary, out: Path, spec: str, *, seed: int
) -> LabelledImages:
    return read_labelled_images(
        spec, vocabulary, images=config.images, cache=out / SCENES, seed=seed
    )


def _refuse_another(out: Path, config: RunConfig) -> None:
    """Raise a UserError if the folder holds a run with other settings, or something else."""
    path = out / "config.yaml"
    if path.exists():
        old, new = RunConfig.read(path).to_dict(), config.to_dict()
        for key, value in new.items():
            if key not in _FREE and old[key] != value:
                raise UserError(
                    f"{out}: holds a run with another {key} ({_short(old[key])}, now "
                    f"{_short(value)}); choose another --out, or delete the folder to start anew."
                )
    elif out.exists() and any(entry.name != SCENES for entry in out.iterdir()):
        raise UserError(f"{out}: is not empty and holds no run; choose another --out.")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 60 else "other settings"
