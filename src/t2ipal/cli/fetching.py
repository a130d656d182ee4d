"""Verbs that fetch data of benchmarks, and put models on the Hugging Face hub."""

from __future__ import annotations

import typing
from dataclasses import KW_ONLY
from pathlib import Path
from typing import Annotated, Literal, cast

from t2ipal.cli.options import Verb, require_paths
from t2ipal.cli.speech import say
from t2ipal.errors import UserError, nearest, settings
from t2ipal.tagger import model_folder

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
class Push(Verb):
    """Put a tagger on the Hugging Face hub, with its card; 't2ipal predict ORG/NAME' uses it.

    Log in first, with 'hf auth login', or set HF_TOKEN.
    """

    positional = ("model", "repository")
    examples = """
        t2ipal push runs/mine/model ORG/NAME --private --license apache-2.0
    """
    _: KW_ONLY
    model: str
    """a model folder such as RUN/model"""
    repository: str
    """ORG/NAME on the hub, made if it is not there"""
    private: bool | None = None
    """whether a new repository is private; your account's default if omitted"""
    license: Annotated[str, "NAME"] | None = None
    """licence of this model, as the hub calls it, such as apache-2.0"""
    branch: Annotated[str, "BRANCH"] | None = None
    """branch to put it on; main if omitted"""

    def run(self) -> int:
        model_folder(self.model, typed=True)  # before PyTorch is imported, which takes seconds
        from t2ipal.tagger.tagger import Tagger

        commit = Tagger.from_pretrained(self.model, device="cpu").push_to_hub(
            self.repository, private=self.private, revision=self.branch, license=self.license
        )
        say(f"pushed to {commit}")
        return 0
