"""Verbs that fetch data of benchmarks, run published settings, and check what needs a GPU."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import KW_ONLY, replace
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from t2ipal.cli.options import Verb, require_paths
from t2ipal.cli.speech import say
from t2ipal.errors import Batch, UserError, nearest, settings, settings_of
from t2ipal.files.broken import ReadingSettings

_BY_HAND = {
    "nuswide": "NUS-WIDE is given to those who ask for it",
    "narratives": "Localized Narratives are a single file",
}


@settings
class Data(Verb):
    """Fetch the official archives of a benchmark, or check what a folder holds of the benchmarks.

    Archives are compared with their official checksums; an interrupted command resumes, and how
    much disk is needed is said before.
    """

    positional = ("action", "what")
    examples = """
        t2ipal data fetch voc2007 --out data/voc2007
        t2ipal data fetch coco2014 --parts annotations val --out data/coco2014
        t2ipal data check data/voc2007
    """
    _: KW_ONLY
    action: Literal["fetch", "check"]
    """fetch or check"""
    what: str
    """fetch: voc2007 or coco2014; check: a folder"""
    out: Annotated[Path, "DIR"] | None = None
    """fetch: folder to unpack in"""
    parts: Annotated[tuple[str, ...], "PART"] = ()
    """fetch: these parts alone: test and trainval of voc2007; annotations (captions are among
    them), val and train of coco2014"""
    mirror: Annotated[str, "URL"] | None = None
    """fetch: another server, with the paths of the official one"""

    def run(self) -> int:
        if self.action == "check":
            return self._compare()
        from t2ipal.datasets.fetch import Benchmark, fetch_benchmark

        known = typing.get_args(Benchmark)
        if self.what in _BY_HAND:
            raise UserError(
                f"{_BY_HAND[self.what]}, so fetch it by hand as docs/protocols.md says, then run: "
                "t2ipal data check DIR."
            )
        if self.what not in known:
            raise UserError(
                f"{self.what}: no benchmark that can be fetched{nearest(self.what, known)}; "
                f"name {' or '.join(known)}."
            )
        if self.out is None:
            raise UserError("say where to unpack it, with --out DIR.")
        benchmark = cast(Benchmark, self.what)
        fetch_benchmark(self.out, benchmark, parts=self.parts, mirror=self.mirror, say=say)
        say(f"t2ipal data check {self.out}  # compares it with the official numbers")
        return 0

    def _compare(self) -> int:
        if self.out is not None or self.parts or self.mirror is not None:
            raise UserError("data check takes a folder and nothing else.")
        require_paths(self.what)
        from t2ipal.runs.doctor import examine_data

        missing = False
        for finding in examine_data(Path(self.what)):
            say(str(finding))
            missing |= finding.missing
        return 1 if missing else 0


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
