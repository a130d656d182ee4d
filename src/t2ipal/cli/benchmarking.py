"""The verb that runs a published setting."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from t2ipal.cli.speech import say
from t2ipal.errors import UserError


@dataclass(frozen=True)
class Benchmark:
    """Run a published setting on VOC2007, MS-COCO 2014 or NUS-WIDE, or rehearse it."""

    config: Positional[str | None] = None
    """configuration: a YAML file, such as configs/voc2007/rn50-t2i-pal.yaml, or its name"""
    data: str | None = None
    """the benchmark's folder in its authors' layout: VOCdevkit, COCO or NUS-WIDE; options of the
    reader may follow (DIR?images=labelled)"""
    captions: Path | None = None
    """captions file, where it lies neither in DIR, nor beside it, nor in annotations/ there"""
    out: Path | None = None
    """folder of the run; runs/benchmarks/NAME where not given"""
    rehearse: Literal["voc2007", "coco2014", "nuswide"] | None = None
    """make a small data set of this layout from the miniature's world, and run the configuration
    (T2I-PAL on RN50 where none is given) on it with the miniature models"""
    batch_size: int | None = None
    """drawings made together; does not change them"""
    device: str | None = None
    """auto, cpu, cuda, mps; auto where not given"""

    def run(self) -> int:
        from dataclasses import replace

        from t2ipal.miniature import official_layouts as rehearsal
        from t2ipal.runs.benchmark.rehearsal import find_configuration, rehearsed
        from t2ipal.runs.benchmark.run import IDENTITY, REHEARSED_DATA, benchmark
        from t2ipal.runs.benchmark.setting import BenchmarkConfig
        from t2ipal.runs.folder import refuse_foreign

        if self.config is None and self.rehearse is None:
            raise UserError(
                "name a configuration, such as configs/voc2007/rn50-t2i-pal.yaml, or what to "
                "--rehearse."
            )
        name = self.config or f"{self.rehearse}/rn50-t2i-pal"
        config = BenchmarkConfig.read(find_configuration(name))
        given: dict[str, Any] = {"batch_size": self.batch_size, "device": self.device}
        given = {key: value for key, value in given.items() if value is not None}
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
        refuse_foreign(out, IDENTITY, "benchmark", None, beside={REHEARSED_DATA})
        data = rehearsal.build(self.rehearse, out / REHEARSED_DATA)
        benchmark(rehearsed(config), data, out, rehearsal=True, say=say)
        return 0
