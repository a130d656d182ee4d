"""A whole benchmark in one folder: label, draw, embed, train at every point, measure, record.

OUT/ benchmark.json vocabulary.yaml captions.jsonl images/ images.jsonl features/ models/
     measured.jsonl timings.json record.json table.md log.txt
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from t2ipal.captions.labelled import LabelledCaption
from t2ipal.datasets.labelled_images import LabelledImages
from t2ipal.datasets.read import parse_layout, read_labelled_images
from t2ipal.errors import UserError
from t2ipal.files import append_jsonl, read_jsonl, sha256_file, sha256_text, write_text
from t2ipal.generation.store import read_manifest
from t2ipal.method.items import ItemSet
from t2ipal.method.methods import MethodConfig
from t2ipal.runs.benchmark.caption_files import find_captions, overlap
from t2ipal.runs.benchmark.identity import identity_of, refuse_another, write_identity
from t2ipal.runs.benchmark.points import Point, points_of, seeds_of, with_point
from t2ipal.runs.benchmark.record import averaged, hardware, published_rows, summary, table
from t2ipal.runs.benchmark.setting import BenchmarkConfig
from t2ipal.runs.benchmark.timing import Timings
from t2ipal.runs.benchmark.transfer import require_transferable, transferred
from t2ipal.runs.fitting import Say, methods_of, train_on_real, train_tagger, versions
from t2ipal.runs.measure import Measurement, measure
from t2ipal.runs.pipeline import embed_stage, generate_stage, label_stage, noted
from t2ipal.runs.real_images import SCENES, read_real_images
from t2ipal.runs.workbench import Workbench, items_digest
from t2ipal.tagger.tagger import Tagger
from t2ipal.vocabulary import Vocabulary

log = logging.getLogger(__name__)

RECORD, TABLE, JOURNAL = "record.json", "table.md", "measured.jsonl"


@dataclass(frozen=True)
class BenchmarkResult:
    """What a benchmark left; ``computed`` counts what was trained or scored now."""

    record: Path
    table: Path
    computed: int


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
    """Run a configuration on a benchmark in its authors' layout; a second start goes on.

    Args:
        data: the folder, perhaps with options of the reader behind it (``DIR?images=labelled``).
        out: folder of the run.
        captions: captions file, where it does not lie with the data.
        rehearsal: the data were made by :mod:`t2ipal.miniature.official_layouts`: their number
            is not the official one, and the record says so.

    Raises:
        UserError: bad data, other than the official number of test images, no captions, or ``out``
            holds something else.
    """
    out = Path(out)
    found = parse_layout(f"{config.setting.test}:{data}")
    assert found is not None, "a setting names a layout"
    layout, folder, options = found
    if "split" in options:
        raise UserError(f"{data}: the protocol chooses the split; leave 'split' out.")
    config = config.with_options(options)
    config = replace(config, run=config.run.with_preset())
    if config.setting.protocol == "cross-dataset":
        require_transferable(config.method)
    file = find_captions(config.setting, folder, None if captions is None else Path(captions))
    identity = identity_of(config, folder, file, rehearsal)
    refuse_another(out, identity)
    if (out / RECORD).is_file():
        say(f"benchmark: {config.name}, done before; see {out / TABLE}")
        return BenchmarkResult(out / RECORD, out / TABLE, 0)
    vocabulary = Vocabulary.load(config.run.classes)
    tested = vocabulary
    if config.setting.protocol == "cross-dataset":
        tested = Vocabulary.load(config.setting.test)
    # Before anything is drawn for days: are the test images there, and all of them?
    test = read_labelled_images(config.setting.spec(folder), tested)
    if not rehearsal:
        _require_official(config, test, layout.official[layout.split], folder)
    write_identity(out, identity)
    write_text(out / "vocabulary.yaml", vocabulary.to_yaml())
    running = _Running(
        config=replace(
            config, run=replace(config.run, captions=None if file is None else str(file))
        ),
        vocabulary=vocabulary,
        tested=tested,
        test=test,
        folder=folder,
        out=out,
        method=_trained(config, rehearsal),
        timings=Timings(out / "timings.json"),
        say=noted(say, out / "log.txt"),
        progress=progress,
    )
    record = running.go(identity, rehearsal)
    write_text(out / TABLE, table(record))
    write_text(out / RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    for line in table(record).splitlines():
        say(line)
    say(f"record  {out / RECORD}")
    return BenchmarkResult(out / RECORD, out / TABLE, running.computed)


def _trained(config: BenchmarkConfig, rehearsal: bool) -> MethodConfig:
    """The method with the run's settings of training, as ``t2ipal run`` has it.

    In a rehearsal a method's own budget gives way to the run's few epochs too.
    """
    method = methods_of(config.run)(config.setting.method)
    if rehearsal and method.train is not None:
        train = replace(method.train, epochs=config.run.train.epochs)
        return replace(method, train=train)
    return method


@dataclass
class _Running:
    """One start of a benchmark."""

    config: BenchmarkConfig
    vocabulary: Vocabulary
    tested: Vocabulary
    test: LabelledImages
    folder: Path
    out: Path
    method: MethodConfig
    timings: Timings
    say: Say
    progress: bool
    computed: int = 0

    def go(self, identity: dict[str, Any], rehearsal: bool) -> dict[str, Any]:
        """All stages; returns the record."""
        config, run = self.config, self.config.run
        with self.timings.stage("label"):
            captions = label_stage(run, self.vocabulary, self.out, self.say)
        shared = overlap(config.setting, captions, self.test)
        if shared is not None:
            self.say(str(shared))
        if config.draws:
            with self.timings.stage("generate"):
                generate_stage(run, self.vocabulary, captions, self.out, self.say, self.progress)
        with self.timings.stage("embed"):
            bench = embed_stage(
                run,
                self.vocabulary,
                captions,
                self.out,
                self.say,
                self.progress,
                drawn=config.draws,
                pool_positions=self.method.pool_positions,
            )
            self.say(f"embed: {self.test.source}, {len(self.test):,} images")
            items = bench.labelled(self.test, judged=True)
        if self.method.best_on_test:
            bench.test = items
        seeds, digest = seeds_of(config), items_digest(items)
        found = {
            point: [self.measured(bench, items, digest, point, seed) for seed in seeds]
            for point in points_of(config.setting)
        }
        points = [summary(point.name, list(rows)) for point, rows in found.items()]
        return {
            "configuration": config.name,
            "rehearsal": rehearsal,
            "method": config.setting.method,
            "clip": run.clip,
            "notes": self.notes(shared is not None and shared.tested > 0, str(shared)),
            "setting": identity["setting"],
            "test": {
                "source": self.test.source,
                "images": len(self.test),
                **({"list": config.setting.test_list} if config.setting.test_list else {}),
            },
            "captions": {
                "labelled": sum(bool(row.labels) for row in captions),
                **({} if shared is None else {"images": shared.images, "tested": shared.tested}),
            },
            "versions": versions(),
            "hardware": hardware(),
            "hashes": self.hashes(bench, captions, identity),
            "seeds": list(seeds),
            "mask_seeds": list(config.setting.mask_seeds),
            "seconds": self.timings.seconds,
            "points": points,
            "averaged": averaged(points, config),
            "published": published_rows(config),
        }

    def measured(
        self, bench: Workbench, items: ItemSet, tested: str, point: Point, seed: int
    ) -> Measurement:
        """One point with one seed: read back, or trained, saved, scored and noted now.

        ``tested`` is the digest of the test ``items``.
        """
        run = with_point(self.config, point, seed, str(self.folder))
        real = read_real_images(run, self.vocabulary, self.out / SCENES)
        bench.real = None
        if real is not None:
            with self.timings.stage("embed"):
                train_on_real(bench, real, items, self.say)
        key = sha256_text(bench.digest, tested, point.name, str(seed), self.method.identity)
        journal = self.out / JOURNAL
        if journal.exists():
            for _, row in read_jsonl(journal):
                if row["key"] == key:
                    return Measurement.from_json(row)
        with self.timings.stage("train"):
            tagger = train_tagger(bench, self.method, seed)
            tagger.about.update(real_images=0 if real is None else real.summary)
            tagger.save_pretrained(self.out / "models" / f"{point.slug}-seed{seed}")
        with self.timings.stage("eval"):
            result = self.judged(bench, tagger, items, point, seed)
            result = replace(result, real_images="" if real is None else real.summary)
        append_jsonl(journal, {"key": key, **result.to_json()})
        self.computed += 1
        value = 100 * result.evaluation.mean_average_precision
        self.say(f"{self.config.setting.method}, {point.name}, seed {seed}: mAP {value:.1f}")
        return result

    def judged(
        self, bench: Workbench, tagger: Tagger, items: ItemSet, point: Point, seed: int
    ) -> Measurement:
        """The figures of a tagger on the test images."""
        head, thresholds = tagger.head, tagger.thresholds
        epoch = tagger.about.get("epoch")
        if self.tested is not self.vocabulary:
            head = transferred(head, self.method, bench.backbone, self.tested)
        scores = head.score_items(items).cpu().numpy()
        return measure(
            point.name,
            seed,
            scores,
            items.targets.numpy(),
            self.tested.names,
            None if self.tested is not self.vocabulary else thresholds,
            epoch=epoch,
        )

    def notes(self, leaks: bool, words: str) -> list[str]:
        """What a reader of the figures must know."""
        found = [words + "."] if leaks else []
        if self.method.best_on_test:
            found.append("The epoch was chosen on the test images: the figures are too high.")
        if self.tested is not self.vocabulary:
            found.append(
                f"Tuned on the classes of {self.config.run.classes}; no threshold was fitted for "
                f"those of {self.config.setting.test}."
            )
        elif not self.config.draws:
            found.append(
                "Thresholds were fitted on captions, not on images: figures at the threshold and "
                "the calibration error suffer from that."
            )
        return found

    def hashes(
        self, bench: Workbench, captions: list[LabelledCaption], identity: dict[str, Any]
    ) -> dict[str, Any]:
        """Of everything that decides the figures."""
        drawn = read_manifest(self.out) if self.config.draws else []
        return {
            "clip": bench.backbone.digest,
            "preprocessing": bench.backbone.preprocess_digest,
            "generator": sorted({row.revision for row in drawn}),
            "captions file": identity["captions"],
            "captions": sha256_file(self.out / "captions.jsonl"),
            "drawings": sha256_text(*(row.sha256 for row in drawn)) if drawn else None,
            "test images": sha256_text(*self.test.names),
            "test labels": sha256_text(self.test.targets.tobytes().hex()),
            "vocabulary": self.vocabulary.digest,
        }


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
