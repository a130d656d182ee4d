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

from t2ipal.captions.labelled import (
    LabelledCaption,
    LabelSummary,
    read_labelled,
    write_labelled,
)
from t2ipal.clip.backbone import Backbone
from t2ipal.clip.clip_settings import ClipSettings
from t2ipal.datasets.read import LabelledImages, read_labelled_images
from t2ipal.errors import UserError, settings_of
from t2ipal.files import write_text
from t2ipal.generation.generate import generate
from t2ipal.generation.inspector import ClipInspector
from t2ipal.generation.store import read_manifest
from t2ipal.generation.summary import GenerateSummary
from t2ipal.method.items import ItemSet
from t2ipal.runs.compare import Comparison, compare, method_names
from t2ipal.runs.config import RunConfig
from t2ipal.runs.fitting import Say, methods_of, train_on_real, train_tagger
from t2ipal.runs.labelling import composed_for_missing, labelled_captions
from t2ipal.runs.real_images import SCENES, RealImages, read_real_images
from t2ipal.runs.run_report import write_report
from t2ipal.runs.workbench import Workbench
from t2ipal.tagger.tagger import CONFIG, Tagger
from t2ipal.vocabulary import Vocabulary

log = logging.getLogger(__name__)

# Settings that change no stored result, so that a finished run may be started with others.
_FREE = {
    "batch_size",
    "device",
    "data",
    "data_folder",
    "real_data",
    "real_folder",
    "seeds",
    "ablations",
}


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
        summary=summary,
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
        inspector = ClipInspector(settings_of(ClipSettings, config), vocabulary, config.patience)
    assert config.generator is not None, "with_preset names one"
    summary = generate(
        captions,
        config.generator,
        out,
        images_per_caption=config.images_per_caption,
        seed=config.seed,
        batch_size=config.batch_size,
        settings=config,
        revision=config.revision,
        max_retries=config.max_retries,
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
    backbone = Backbone.load(config, pool_positions=pool_positions)
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


def _labelled(
    config: RunConfig, vocabulary: Vocabulary, out: Path, spec: str, *, seed: int
) -> LabelledImages:
    return read_labelled_images(
        spec, vocabulary, images=config.data_folder, cache=out / SCENES, seed=seed
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
