"""The command line: each verb a few lines over the Python API.

Exit status: 0 done, 1 something went wrong inside, 2 a mistake in what was asked, 130 interrupted.
"""

from __future__ import annotations

import itertools
import logging
import os
import sys
from typing import Any

import tyro

from t2ipal.cli.benchmarking import Benchmark
from t2ipal.cli.exchanging import Import, Pack
from t2ipal.cli.speech import complain
from t2ipal.cli.stages import Embed, Generate, Label, Train
from t2ipal.cli.tagging import Eval, Predict
from t2ipal.cli.whole import Compare, Doctor, Run
from t2ipal.errors import UserError, nearest
from t2ipal.runs.config import RunConfig

_VERBS: dict[str, tuple[type, str]] = {
    "run": (Run, "label, generate, embed, train and compare in one go, in one folder"),
    "label": (Label, "captions -> the classes they name"),
    "generate": (Generate, "labelled captions -> drawn images"),
    "import": (Import, "images with captions that were made elsewhere -> a set like a drawn one"),
    "pack": (Pack, "a set of images -> webdataset shards"),
    "embed": (Embed, "images and captions -> cached CLIP features"),
    "train": (Train, "labelled captions and drawn images -> a tagger"),
    "eval": (Eval, "measure a tagger on labelled images"),
    "compare": (Compare, "table of methods and ablations on labelled images"),
    "benchmark": (Benchmark, "a published setting on VOC2007, MS-COCO or NUS-WIDE, or a rehearsal"),
    "predict": (Predict, "tag images"),
    "doctor": (Doctor, "what is here, what a run still needs, how long and large it would be"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    try:
        status = _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
        return status
    except UserError as error:
        complain(str(error))
        return 2
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        complain("interrupted; start it again to go on where it was.")
        return 130


def _run(arguments: list[str]) -> int:
    verb = arguments[0] if arguments else "--help"
    if verb in ("-h", "--help", "help"):
        print(_usage())
        return 0
    if verb == "--version":
        import importlib.metadata

        print(importlib.metadata.version("t2ipal"))
        return 0
    if verb not in _VERBS:
        raise UserError(
            f"there is no command {verb!r}{nearest(verb, _VERBS)}; see 't2ipal --help'."
        )
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    return _parse(verb, arguments[1:]).run()


def _usage() -> str:
    width = max(map(len, _VERBS))
    lines = [
        "usage: t2ipal COMMAND [OPTIONS]",
        "",
        "Class names and captions in, a multi-label image tagger out (T2I-PAL).",
        "",
        *(f"  {verb:<{width}}  {text}" for verb, (_, text) in _VERBS.items()),
        "",
        "'t2ipal COMMAND --help' shows a command's options.",
        "The first thing to try: t2ipal run --classes voc2007 --compose 200 --out runs/first",
    ]
    return "\n".join(lines)


def _parse(verb: str, arguments: list[str]) -> Any:
    kwargs: dict[str, Any] = {}
    # Flags win over the file, the file over the defaults.
    if verb == "run":
        kwargs["default"] = Run(out=tyro.MISSING, settings=_defaults(arguments))
    if verb == "doctor":
        kwargs["default"] = Doctor(settings=_defaults(arguments))
    return tyro.cli(_VERBS[verb][0], prog=f"t2ipal {verb}", args=arguments, **kwargs)


def _defaults(arguments: list[str]) -> Any:
    """The run's settings before flags: those of ``--config FILE``, or the built-in ones."""
    for option, value in itertools.pairwise([*arguments, ""]):
        if option == "--config":
            return RunConfig.read(value)
        if option.startswith("--config="):
            return RunConfig.read(option.partition("=")[2])
    return RunConfig()
