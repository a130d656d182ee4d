"""Verbs that run a published setting, and check what this project's own machines could not."""

from __future__ import annotations

import dataclasses
from dataclasses import KW_ONLY, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from t2ipal.cli.options import Verb
from t2ipal.cli.speech import say
from t2ipal.errors import Batch, UserError, settings, settings_of
from t2ipal.files.broken import ReadingSettings


@settings
class Benchmark(ReadingSettings, Verb):
    """Run a published setting on VOC2007, MS-COCO 2014 or NUS-WIDE, or rehearse it."""

    positional = ("setting",)
    examples = """
        t2ipal benchmark voc2007/rn50-t2i-pal --data VOCdevkit
        t2ipal benchmark --rehearse voc2007
    """
    _: KW_ONLY
    setting: str | None = None
    """published setting: a YAML file, such as configs/voc2007/rn50-t2i-pal.yaml, or its name"""
    data: Annotated[str, "DIR"] | None = None
    """folder of the benchmark in its authors' layout: VOCdevkit, COCO or NUS-WIDE; options of the
    reader may follow (DIR?images=labelled)"""
    captions: Annotated[Path, "FILE"] | None = None
    """captions, where they lie neither in the folder, nor beside it, nor in annotations/ there"""
    out: Annotated[Path, "DIR"] | None = None
    """folder of the run; runs/benchmarks/SETTING if omitted"""
    rehearse: Literal["voc2007", "coco2014", "nuswide"] | None = None
    """make a small data set of this layout from the miniature's world, and run the setting (T2I-PAL
    on RN50 if omitted) on it with the miniature models"""
    batch_size: Batch | None = None
    """images processed together; the setting's if omitted"""
    device: Annotated[str, "DEVICE"] | None = None
    """where models compute: auto, cpu, cuda, cuda:N or mps; the setting's if omitted"""

    def run(self) -> int:
        from t2ipal.files.lock import one_job
        from t2ipal.miniature import official_layouts as rehearsal
        from t2ipal.runs.benchmark.run import IDENTITY, REHEARSED_DATA, benchmark
        from t2ipal.runs.benchmark.setting import BenchmarkConfig
        from t2ipal.runs.folder import refuse_foreign

        if self.setting is None and self.rehearse is None:
            raise UserError("name a setting, such as voc2007/rn50-t2i-pal, or what to --rehearse.")
        name = self.setting or f"{self.rehearse}/rn50-t2i-pal"
        config = BenchmarkConfig.find(name)
        given: dict[str, Any] = {"batch_size": self.batch_size, "device": self.device}
        given = {key: value for key, value in given.items() if value is not None}
        given |= dataclasses.asdict(settings_of(ReadingSettings, self))
        config = replace(config, run=replace(config.run, **given))
        if self.rehearse is None:
            if self.data is None:
                raise UserError(
                    f"name the folder of {config.setting.test} with --data, or use --rehearse "
                    f"{config.setting.test}."
                )
            out = self.out or Path("runs") / "benchmarks" / config.name
            benchmark(config, self.data, out, captions=self.captions, say=say)
            return 0
        if self.data is not None or self.captions is not None:
            raise UserError("--rehearse makes its own data: leave --data and --captions out.")
        if self.rehearse != config.setting.test:
            raise UserError(
                f"{config.name} is about {config.setting.test}: use --rehearse "
                f"{config.setting.test}."
            )
        out = self.out or Path("runs") / "rehearsals" / config.name
        with one_job(out):
            refuse_foreign(out, IDENTITY, "benchmark", None, beside={REHEARSED_DATA})
            data = rehearsal.build(self.rehearse, out / REHEARSED_DATA)
            benchmark(config.rehearsed(), data, out, rehearsal=True, say=say)
        return 0


@settings
class Prove(Verb):
    """Check on this machine what needs a GPU, published weights or real archives: one record and
    one page to send back. Started again, it resumes.
    """

    examples = """
        t2ipal prove --rehearse
        t2ipal prove --out runs/proof
        t2ipal prove --only cuda-embed preset-fast
    """
    _: KW_ONLY
    out: Annotated[Path, "DIR"] | None = None
    """folder of the record, the page and all that is fetched of data; runs/proof if omitted"""
    only: Annotated[tuple[str, ...], "CHECK"] = ()
    """make these checks alone; the others are listed as not run"""
    rehearse: bool = False
    """make the checks with the miniature models on the processor, to see whether they work"""

    def run(self) -> int:
        from t2ipal.runs.benchmark.gpu_checks import GPU_CHECKS
        from t2ipal.runs.benchmark.proof import prove
        from t2ipal.runs.benchmark.speed_checks import SPEED_CHECKS
        from t2ipal.runs.benchmark.voc_checks import VOC_CHECKS

        out = self.out or Path("runs") / ("proof-rehearsal" if self.rehearse else "proof")
        checks = (*GPU_CHECKS, *VOC_CHECKS, *SPEED_CHECKS)
        return 0 if prove(out, checks, only=self.only, rehearsal=self.rehearse, say=say) else 1
