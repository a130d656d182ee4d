"""The verb that checks what this project could not check on its own machines."""

from __future__ import annotations

from dataclasses import KW_ONLY
from pathlib import Path
from typing import Annotated

from t2ipal.cli.options import Verb
from t2ipal.cli.speech import say
from t2ipal.errors import settings


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
