"""The command line: each verb a few lines over the Python API.

Exit status: 0 done, 1 something went wrong inside, 2 a mistake in what was asked, 130 interrupted.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys

from t2ipal.cli.speech import complain
from t2ipal.errors import UserError, nearest

# Verb: module and class that do it, imported when it is asked for, and what it does.
_VERBS = {
    "run": ("whole", "Run", "label, generate, embed, train and compare in one go, in one folder"),
    "label": ("stages", "Label", "captions -> the classes they name"),
    "generate": ("stages", "Generate", "labelled captions -> generated images"),
    "import": ("exchanging", "Import", "images with captions from elsewhere -> a generated set"),
    "pack": ("exchanging", "Pack", "a set of images -> webdataset shards"),
    "embed": ("stages", "Embed", "images and captions -> cached CLIP features"),
    "train": ("stages", "Train", "labelled captions and generated images -> a tagger"),
    "eval": ("tagging", "Eval", "measure a tagger on labelled images"),
    "compare": ("whole", "Compare", "table of methods and ablations on labelled images"),
    "benchmark": ("benchmarking", "Benchmark", "a published setting on its data, or a rehearsal"),
    "predict": ("tagging", "Predict", "tag images"),
    "doctor": ("whole", "Doctor", "what is here, what a run needs, how long and large it would be"),
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
        complain("interrupted; the same command resumes.")
        return 130


def _run(arguments: list[str]) -> int:
    name, *rest = arguments or ["help"]
    if name in ("help", "-h", "--help"):
        if not rest or rest[0].startswith("-"):
            print(_usage())
            return 0
        name, rest = rest[0], ["--help"]
    if name in ("version", "-V", "--version"):
        from importlib.metadata import version

        print(version("t2ipal"))
        return 0
    if name not in _VERBS:
        raise UserError(
            f"there is no command {name!r}{nearest(name, _VERBS)}; see 't2ipal --help'."
        )
    from t2ipal.cli.options import Verb

    module, verb, _ = _VERBS[name]
    made: type[Verb] = getattr(importlib.import_module(f"t2ipal.cli.{module}"), verb)
    if {"-h", "--help", "--help-all"} & set(rest):
        print(made.help(everything="--help-all" in rest))
        return 0
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    return made.parse(rest).run()


def _usage() -> str:
    width = max(map(len, _VERBS))
    lines = [
        "usage: t2ipal COMMAND [OPTIONS]",
        "",
        "Class names and captions in, a multi-label image tagger out (T2I-PAL).",
        "",
        *(f"  {verb:<{width}}  {text}" for verb, (_, _, text) in _VERBS.items()),
        "",
        "'t2ipal COMMAND --help' (or 't2ipal help COMMAND') shows a command's options.",
        "The first thing to try: t2ipal run --classes voc2007 --compose 200 --out runs/first",
    ]
    return "\n".join(lines)
