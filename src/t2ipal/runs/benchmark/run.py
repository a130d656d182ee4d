"""A whole benchmark in one folder: label, generate, embed, then train and measure at every point.

OUT/ benchmark.yaml vocabulary.yaml captions.jsonl images/ images.jsonl features/ models/
     measurements.jsonl timings.json record.json table.md log.txt
"""

from __future__ import annotations

import json
import logging
import os
import platform
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml

from t2ipal.datasets.labelled_images import LabelledImages
from t2ipal.datasets.read import parse_layout, read_labelled_images
from t2ipal.errors import UserError
from t2ipal.files import sha256_file, sha256_text, write_text
from t2ipal.files.lock import locking
from t2ipal.generation.store import read_manifest
from t2ipal.method.methods import MethodConfig
from t2ipal.metrics.uncertainty import REPLICATES
from t2ipal.runs.benchmark.caption_files import Overlap, find_captions
from t2ipal.runs.benchmark.points import Point
from t2ipal.runs.benchmark.record import figures, table
from t2ipal.runs.benchmark.setting import BenchmarkConfig
from t2ipal.runs.benchmark.timing import Timings
from t2ipal.runs.benchmark.transfer import require_transferable, transferred
from t2ipal.runs.fitting import RealItems, Say, methods_of, versions
from t2ipal.runs.folder import logged, refuse_foreign
from t2ipal.runs.measure import Experiment, Measurement
from t2ipal.runs.pipeline import embed_stage, generate_stage, label_stage
from t2ipal.runs.real_images import SCENES, read_real_images
from t2ipal.runs.workbench import Workbench
from t2ipal.vocabulary import Vocabulary

log = logging.getLogger(__name__)

IDENTITY, RECORD, TABLE = "benchmark.yaml", "record.json", "table.md"
REHEARSED_DATA = "data"
"""Folder beside a rehearsal's images that its data are made in."""

_FREE = {"batch_size", "device"}


@dataclass(frozen=True)
class BenchmarkResult:
    """What a benchmark left; ``computed`` counts what was trained and evaluated now."""

    record: Path
    table: Path
    computed: int


@locking
def benchmark(
    config: BenchmarkConfig,
    data: str | Path,
    out: str | Path,
    *,
    captions: str | Path | None = None,
    rehearsal: bool = False,
    say: Say = log.info,
    progress: bool = True,
) -> BenchmarkResult:
    """Run a configuration on a benchmark in its authors' layout; resumes.

    Args:
        data: the folder, perhaps with options of the reader behind it (``DIR?images=labelled``).
        out: folder of the run.
        captions: captions file, if it does not lie with the data.
        rehearsal: the data were made by :mod:`t2ipal.miniature.official_layouts`: their number
            is not the official one, and the record says so.

    Raises:
        UserError: bad data, other than the official number of test images, no captions, or ``out``
            holds something else.
    """
    out = Path(out)
    parsed = parse_layout(f"{config.setting.test}:{data}")
    assert parsed is not None, "a setting names a layout"
    layout, folder, options = parsed
    if "split" in options:
        raise UserError(f"{data}: the protocol chooses the split; leave 'split' out.")
    config = config.with_options(options)
    config = replace(config, run=config.run.with_preset())
    transfers = config.setting.protocol == "cross-dataset"
    if transfers:
        require_transferable(config.method)
    file = find_captions(config.setting, folder, None if captions is None else Path(captions))
    identity = {
        "configuration": config.name,
        "rehearsal": rehearsal,
        "data folder": str(folder.resolve()),
        "captions file": None if file is None else sha256_file(file),
        **config.to_dict(),
    }
    refuse_foreign(out, IDENTITY, "benchmark", identity, free=_FREE, beside={REHEARSED_DATA})
    if (out / RECORD).is_file():
        say(f"benchmark: {config.name}, done before; see {out / TABLE}")
        return BenchmarkResult(out / RECORD, out / TABLE, 0)
    vocabulary = Vocabulary.load(config.run.classes)
    tested = Vocabulary.load(config.setting.test) if transfers else vocabulary
    # Before images are generated for days: are the test images there, and all of them?
    test = read_labelled_images(config.setting.spec(folder), tested)
    if not rehearsal:
        _require_official(config, test, layout.official[layout.split], folder)
    write_text(out / IDENTITY, yaml.safe_dump(identity, sort_keys=False, allow_unicode=True))
    write_text(out / "vocabulary.yaml", vocabulary.to_yaml())
    say, timings = logged(say, out / "log.txt"), Timings(out / "timings.json")

    run = replace(config.run, captions=None if file is None else str(file))
    config, method = replace(config, run=run), _method(config, rehearsal)
    with timings.stage("label"):
        labelled = label_stage(run, vocabulary, out, say)
    shared = Overlap.of(config.setting, labelled, test)
    if shared is not None:
        say(str(shared))
    if config.needs_images:
        with timings.stage("generate"):
            generate_stage(run, vocabulary, labelled, out, say, progress)
    with timings.stage("embed"):
        bench = embed_stage(
            run, vocabulary, labelled, out, say, progress,
            generated=config.needs_images, pool_positions=method.pool_positions,
        )  # fmt: skip
        say(f"embed: {test.source}, {len(test):,} images")
        transfer = None
        if transfers:
            transfer = partial(
                transferred, method=method, backbone=bench.backbone, vocabulary=tested
            )
        experiment = Experiment(
            bench, test, out,
            say=say, replicates=REPLICATES, transfer=transfer, timed=timings.stage,
        )  # fmt: skip
    seeds = run.seeds if method.train is not None else run.seeds[:1]
    found: dict[str, list[Measurement]] = {}
    for point in Point.all(config.setting):
        for seed in seeds:
            with timings.stage("embed"):
                photos = read_real_images(point.run(config, seed, folder), vocabulary, out / SCENES)
                real = RealItems.of(bench, photos, experiment.test, say)
            model = out / "models" / f"{point.slug}-seed{seed}"
            one = experiment.measure(method, seed, point=point.name, real=real, model=model)
            found.setdefault(point.name, []).append(one)

    record = {
        "configuration": config.name,
        "rehearsal": rehearsal,
        "method": config.setting.method,
        "clip": run.clip,
        "notes": _notes(config, shared),
        "setting": config.to_dict(),
        "test": {
            "source": test.source,
            "images": len(test),
            **({"list": config.setting.test_list} if config.setting.test_list else {}),
        },
        "captions": {
            "labelled": sum(bool(row.labels) for row in labelled),
            **({} if shared is None else {"images": shared.images, "tested": shared.tested}),
        },
        "versions": versions(),
        "hardware": _hardware(),
        "hashes": {"captions file": identity["captions file"], **_hashes(out, bench, test)},
        "seeds": list(seeds),
        "mask_seeds": list(config.setting.mask_seeds),
        "seconds": timings.seconds,
        **figures(config, found),
    }
    write_text(out / TABLE, table(record))
    write_text(out / RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    for line in table(record).splitlines():
        say(line)
    say(f"record  {out / RECORD}")
    return BenchmarkResult(out / RECORD, out / TABLE, experiment.computed)


def _require_official(
    config: BenchmarkConfig, test: LabelledImages, official: int, folder: Path
) -> None:
    """Raise a UserError unless the split has its official number of images."""
    if config.setting.options.get("images", "all") == "all" and len(test) != official:
        raise UserError(
            f"{folder}: {test.source} has {len(test):,} images, officially {official:,}, so its "
            "figures could be compared with nothing; 't2ipal doctor --data "
            f"{config.setting.test}:{folder}' tells more, '--rehearse' makes a small set."
        )


def _method(config: BenchmarkConfig, rehearsal: bool) -> MethodConfig:
    """The method with the run's settings of training, as ``t2ipal run`` has it.

    In a rehearsal a method's own budget gives way to the run's few epochs too.
    """
    method = methods_of(config.run)(config.setting.method)
    if rehearsal and method.train is not None:
        return replace(method, train=replace(method.train, epochs=config.run.train.epochs))
    return method


def _notes(config: BenchmarkConfig, shared: Overlap | None) -> list[str]:
    """What a reader of the figures must know."""
    found = [f"{shared}."] if shared is not None and shared.tested else []
    if config.method.best_on_test:
        found.append("The epoch was chosen on the test images: the figures are too high.")
    if config.setting.protocol == "cross-dataset":
        found.append(
            f"Tuned on the classes of {config.run.classes}; no threshold was fitted for those of "
            f"{config.setting.test}."
        )
    elif not config.needs_images:
        found.append(
            "Thresholds were fitted on captions, not on images: figures at the threshold and the "
            "calibration error suffer from that."
        )
    return found


def _hashes(out: Path, bench: Workbench, test: LabelledImages) -> dict[str, Any]:
    """Of everything that decides the figures."""
    rows = read_manifest(out) if bench.train_images is not None else []
    return {
        "clip": bench.backbone.digest,
        "preprocessing": bench.backbone.preprocess_digest,
        "generator": sorted({row.revision for row in rows}),
        "captions": sha256_file(out / "captions.jsonl"),
        "generated images": sha256_text(*(row.sha256 for row in rows)) if rows else None,
        "test images": sha256_text(*test.names),
        "test labels": sha256_text(test.targets.tobytes().hex()),
        "vocabulary": bench.vocabulary.digest,
    }


def _hardware() -> dict[str, Any]:
    """What it ran on."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.system(),
        "gpus": gpus,
    }
