"""A whole benchmark in one folder: label, generate, embed, then train and measure at every point.

OUT/ benchmark.yaml vocabulary.yaml captions.jsonl images/ images.jsonl features/ models/
     measurements.jsonl timings.json record.json table.md log.txt
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

from t2ipal.captions.labelled import LabelledCaption
from t2ipal.clip.backbone import Backbone
from t2ipal.clip.class_prompts import class_tokens
from t2ipal.datasets.labelled_images import LabelledImages
from t2ipal.datasets.official import parse_layout
from t2ipal.datasets.read import read_labelled_images
from t2ipal.errors import UserError
from t2ipal.files import check, sha256_file, sha256_text, write_text
from t2ipal.files.broken import Broken
from t2ipal.files.lock import locking
from t2ipal.files.tables import read_json
from t2ipal.generation.store import read_manifest
from t2ipal.method.build import build_head
from t2ipal.method.head import T2IPALHead
from t2ipal.method.methods import MethodConfig
from t2ipal.method.prompts import LearnedPrompts
from t2ipal.metrics.uncertainty import REPLICATES
from t2ipal.runs.benchmark.record import RECORD, TABLE, write_record
from t2ipal.runs.benchmark.setting import BenchmarkConfig, Setting
from t2ipal.runs.config import RunConfig
from t2ipal.runs.fitting import RealItems, Say, hardware, methods_of, versions
from t2ipal.runs.folder import logged, refuse_foreign
from t2ipal.runs.measure import Experiment, Measurement
from t2ipal.runs.pipeline import embed_stage, generate_stage, label_stage
from t2ipal.runs.real_images import SCENES, read_real_images
from t2ipal.runs.workbench import Workbench
from t2ipal.vocabulary import Vocabulary

log = logging.getLogger(__name__)

IDENTITY = "benchmark.yaml"
REHEARSED_DATA = "data"
"""Folder beside a rehearsal's images that its data are made in."""

_FREE = {"batch_size", "device", "skip_broken", "max_megapixels"}

_TRAIN_SPLITS = {"voc2007": "trainval", "coco2014": "train", "nuswide": "train"}


class _BenchmarkResult(NamedTuple):
    """What a benchmark left; ``computed`` counts what was trained and evaluated now."""

    record: Path
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
) -> _BenchmarkResult:
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
        _require_transferable(config.method)
    file = config.setting.captions_file(folder, None if captions is None else Path(captions))
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
        return _BenchmarkResult(out / RECORD, 0)
    vocabulary = Vocabulary.load(config.run.classes)
    tested = Vocabulary.load(config.setting.test) if transfers else vocabulary
    # Before images are generated for days: are the test images there, and all of them?
    broken = Broken.of(config.run)
    test = read_labelled_images(config.setting.spec(folder), tested, broken=broken)
    test = test.readable(broken)
    count, official = len(test) + test.skipped, layout.official[layout.split]
    every = not rehearsal and config.setting.options.get("images", "all") == "all"
    if every and count != official:
        raise UserError(
            f"{folder}: {test.source} has {count:,} images, officially {official:,}, so its "
            "figures could be compared with nothing; 't2ipal doctor --data "
            f"{config.setting.test}:{folder}' tells more, '--rehearse' makes a small set."
        )
    write_text(out / IDENTITY, yaml.safe_dump(identity, sort_keys=False, allow_unicode=True))
    write_text(out / "vocabulary.yaml", vocabulary.to_yaml())
    say, timings = logged(say, out / "log.txt"), _Timings(out / "timings.json")

    run = replace(config.run, captions=None if file is None else str(file))
    config, method = replace(config, run=run), _method(config, rehearsal)
    with timings.stage("label"):
        labelled = label_stage(run, vocabulary, out, say)
    shared = _overlap(config.setting, labelled, test)
    if shared:
        say(_overlap_line(shared))
    if config.needs_images:
        with timings.stage("generate"):
            generate_stage(run, vocabulary, labelled, out, say, progress)
    with timings.stage("embed"):
        bench = embed_stage(
            run, vocabulary, labelled, out, say, progress,
            generated=config.needs_images, pool_positions=method.pool_positions, broken=broken,
        )  # fmt: skip
        for line in test.lines():
            say(line)
        transfer = None
        if transfers:
            transfer = partial(
                _transferred, method=method, backbone=bench.backbone, vocabulary=tested
            )
        experiment = Experiment(
            bench, test, out,
            say=say, replicates=REPLICATES, transfer=transfer, timed=timings.stage,
        )  # fmt: skip
        test = experiment.images
    seeds = run.seeds if method.train is not None else run.seeds[:1]
    found: dict[str, list[Measurement]] = {}
    for point in _Point.all(config.setting):
        for seed in seeds:
            with timings.stage("embed"):
                asked = point.run(config, seed, folder)
                photos = read_real_images(asked, vocabulary, out / SCENES, broken)
                for line in photos.read if photos is not None and not found else ():
                    say(line)
                real = RealItems.of(bench, photos, experiment.test, say)
            model = out / "models" / f"{point.slug}-seed{seed}"
            one = experiment.measure(method, seed, point=point.name, real=real, model=model)
            found.setdefault(point.name, []).append(one)

    about = {
        "configuration": config.name,
        "rehearsal": rehearsal,
        "method": config.setting.method,
        "clip": run.clip,
        "notes": _notes(config, shared),
        "setting": config.to_dict(),
        "test": {
            "source": test.source,
            "images": len(test),
            "skipped": test.skipped,
            **({"list": config.setting.test_list} if config.setting.test_list else {}),
        },
        "captions": {
            "labelled": sum(bool(row.labels) for row in labelled),
            **shared,
        },
        "versions": versions(),
        "hardware": hardware(),
        "hashes": {"captions file": identity["captions file"], **_hashes(out, bench, test)},
        "seeds": list(seeds),
        "mask_seeds": list(config.setting.mask_seeds),
        "seconds": timings.seconds,
    }
    for line in (*write_record(out, about, config, found), *broken.write(out)):
        say(line)
    say(f"record  {out / RECORD}")
    return _BenchmarkResult(out / RECORD, experiment.computed)


@dataclass(frozen=True)
class _Point:
    """What the train split adds.

    Attributes:
        name: in tables.
        shots: labelled images per class, or None.
        fraction: of the labels of the whole split that are known, or None.
    """

    name: str
    shots: int | None = None
    fraction: float | None = None

    @classmethod
    def all(cls, setting: Setting) -> tuple[_Point, ...]:
        """The points of a setting in their order."""
        if setting.protocol == "few-shot":
            return tuple(cls(f"{k} shot{'s' if k > 1 else ''}", shots=k) for k in setting.shots)
        if setting.protocol == "partial":
            return tuple(cls(f"{100 * f:g} % of the labels", fraction=f) for f in setting.fractions)
        return (cls(setting.protocol),)

    @property
    def slug(self) -> str:
        """The name as a part of a file name."""
        return self.name.replace(" % of the labels", "-percent").replace(" ", "-")

    def run(self, config: BenchmarkConfig, seed: int, folder: Path) -> RunConfig:
        """The run's settings for this point and seed, the train split in ``folder`` among them.

        The seed also chooses the shots; each seed has a mask seed of its own, which is shipped.
        """
        run = replace(config.run, seed=seed)
        if self.shots is None and self.fraction is None:
            return run
        train = config.setting.spec(folder, _TRAIN_SPLITS[config.setting.test])
        if self.fraction is None:
            return replace(run, real_images=train, shots=self.shots)
        mask = config.setting.mask_seeds[config.run.seeds.index(seed)]
        return replace(run, real_images=train, label_fraction=self.fraction, mask_seed=mask)


def _overlap(
    setting: Setting, captions: Sequence[LabelledCaption], test: LabelledImages
) -> dict[str, int]:
    """How many ``images`` captions of MS-COCO describe, and how many are ``tested`` on.

    COCO's captions carry the number of their image, and so do the names of its images. Empty where
    no caption can be of a test image.
    """
    if setting.test != "coco2014" or setting.captions not in ("train2014", "train2017"):
        return {}
    tested = {_number(file.stem.rpartition("_")[2]) for file in test.files}
    described = {_number(row.id.partition("-")[0]) for row in captions if row.labels}
    described.discard(None)  # composed captions describe no image
    return {"images": len(described), "tested": len(described & (tested - {None}))}


def _overlap_line(shared: dict[str, int]) -> str:
    if not shared["tested"]:
        return f"captions: none of their {shared['images']:,} images is a test image"
    return (
        f"WARNING: {shared['tested']:,} of the {shared['images']:,} images that the captions "
        "describe are test images: the figures are not those of unseen images"
    )


def _number(text: str) -> int | None:
    """The number that the text is, if it is one."""
    return int(text) if text.isascii() and text.isdigit() else None


class _Timings:
    """Seconds by stage, kept in a file, so that a resumed run counts what it did before.

    A stage that is killed without warning loses the seconds of that start.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds: dict[str, float] = {}
        if path.exists():
            self.seconds = check(dict[str, float], read_json(path), lambda keys: str(path))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add what the block takes to the stage ``name``, even if it fails."""
        started = time.monotonic()
        try:
            yield
        finally:
            took = time.monotonic() - started
            self.seconds[name] = round(self.seconds.get(name, 0.0) + took, 2)
            write_text(self.path, json.dumps(self.seconds, indent=1) + "\n")


def _method(config: BenchmarkConfig, rehearsal: bool) -> MethodConfig:
    """The method with the run's settings of training, as ``t2ipal run`` has it.

    In a rehearsal a method's own budget gives way to the run's few epochs too.
    """
    method = methods_of(config.run)(config.setting.method)
    if rehearsal and method.train is not None:
        return replace(method, train=replace(method.train, epochs=config.run.train.epochs))
    return method


def _require_transferable(method: MethodConfig) -> None:
    """Raise a UserError unless all that the method tunes is contexts shared by all classes."""
    prompts = method.head.prompts
    if method.head.needs_images or prompts.kind == "fixed" or prompts.per_class:
        raise UserError(
            f"method {method.name!r} cannot go to other classes: it takes tuned contexts shared by "
            "all classes and nothing else, such as tai-dpt or t2i-pal/prompts-only."
        )


@torch.no_grad()
def _transferred(
    head: T2IPALHead, method: MethodConfig, backbone: Backbone, vocabulary: Vocabulary
) -> T2IPALHead:
    """The head with the classes of ``vocabulary`` behind its tuned contexts, baked.

    As CoOp and CoCoOp (Zhou et al., 2022) transfer theirs: the context is shared by all classes, so
    it can stand before names it was not tuned with. Prototypes, adapter and contexts of single
    classes are about the classes they were tuned on.
    """
    _require_transferable(method)
    other = build_head(
        method.head,
        vocabulary.names,
        tokens=class_tokens(backbone, vocabulary, form=method.head.prompts.class_names),
        text_encoder=backbone.encode_prompts,
    )
    assert isinstance(head.prompts, LearnedPrompts) and isinstance(other.prompts, LearnedPrompts)
    other.prompts.global_context.copy_(head.prompts.global_context)
    other.prompts.local_context.copy_(head.prompts.local_context)
    return other.to(backbone.device).bake()


def _notes(config: BenchmarkConfig, shared: dict[str, int]) -> list[str]:
    """What a reader of the figures must know."""
    found = [f"{_overlap_line(shared)}."] if shared.get("tested") else []
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
