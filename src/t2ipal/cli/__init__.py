"""The command line: each verb a few lines over the Python API.

Exit status: 0 done, 1 something went wrong inside, 2 a mistake in what was asked or something that
the system refused, 130 interrupted, 143 terminated, 141 nobody read the output to its end.
"""

from __future__ import annotations

import importlib
import sys

# Verb: module and class that do it, imported when it is asked for, and what it does.
_VERBS = {
    "run": ("whole", "Run", "label, generate, embed, train and compare in one go, in one folder"),
    "label": ("stages", "Label", "captions -> the classes they name"),
    "generate": ("stages", "Generate", "labelled captions -> generated images"),
    "import": ("exchanging", "Import", "images with captions from elsewhere -> a generated set"),
    "pack": ("exchanging", "Pack", "a set of images -> webdataset shards"),
    "embed": ("stages", "Embed", "images and captions -> cached CLIP features"),
    "train": ("stages", "Train", "labelled captions and generated images -> a tagger"),
    "eval": ("adjusting", "Eval", "measure a tagger on labelled images"),
    "suggest": ("adjusting", "Suggest", "which classes of a tagger are weak, and what would help"),
    "compare": ("whole", "Compare", "table of methods and ablations on labelled images"),
    "benchmark": ("benchmarking", "Benchmark", "a published setting on its data, or a rehearsal"),
    "prove": (
        "benchmarking",
        "Prove",
        "check what needs a GPU, published weights or real archives",
    ),
    "add-class": ("adjusting", "AddClass", "add classes to a tagger, without training"),
    "calibrate": ("adjusting", "Calibrate", "fit a tagger's thresholds to some labelled photos"),
    "export": ("exchanging", "Export", "a tagger -> one ONNX file that needs no PyTorch"),
    "predict": ("predicting", "Predict", "tag images"),
    "undo-keywords": ("predicting", "UndoKeywords", "take away keywords that predict added"),
    "push": ("exchanging", "Push", "put a tagger on the Hugging Face hub"),
    "data": ("benchmarking", "Data", "fetch the archives of a benchmark, or check what is there"),
    "studio": ("studio", "Studio", "tag photos, make taggers and read reports in the browser"),
    "doctor": ("whole", "Doctor", "what is here, what a run needs, how long and large it would be"),
    "completion": ("whole", "Completion", "what makes a shell complete commands and options"),
}
_ONLY_SAY = {"eval", "predict", "suggest", "doctor", "completion", "help", "version"}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Args:
        arguments: those of the process if omitted, which then belongs to this function: it answers
            to signals, and libraries that are not needed are not imported.
    """
    try:
        from t2ipal.cli import door, speech

        words = sys.argv[1:] if arguments is None else arguments
        only_says = (words or ["help"])[0] in _ONLY_SAY or bool({"-h", "--help"} & {*words})
        status = door.answered(lambda: _run(words), owned=arguments is None)
        return speech.farewell(status, only_says=only_says)
    except KeyboardInterrupt as error:
        number = int(getattr(error, "number", 2))
        try:
            speech.complain(
                f"{'interrupted' if number == 2 else 'stopped'}; the same command resumes."
            )
        except (NameError, UnboundLocalError):
            sys.stderr.write("t2ipal: interrupted.\n")
        return 128 + number


def _run(arguments: list[str]) -> int:
    from t2ipal.cli.speech import say
    from t2ipal.errors import UserError, nearest

    name, *rest = arguments or ["help"]
    if name in ("help", "-h", "--help"):
        if not rest or rest[0].startswith("-"):
            for line in _usage():
                say(line)
            return 0
        name, rest = rest[0], ["--help"]
    if name in ("version", "-V", "--version"):
        from importlib.metadata import version

        say(version("t2ipal"))
        return 0
    if name not in _VERBS:
        raise UserError(
            f"there is no command {name!r}{nearest(name, _VERBS)}; see 't2ipal --help'."
        )
    from t2ipal.cli.options import Verb

    module, verb, _ = _VERBS[name]
    made: type[Verb] = getattr(importlib.import_module(f"t2ipal.cli.{module}"), verb)
    if {"-h", "--help", "--help-all"} & set(rest):
        for line in made.help(everything="--help-all" in rest).splitlines():
            say(line)
        return 0
    return made.parse(rest).run()


def _usage() -> list[str]:
    width = max(map(len, _VERBS))
    return [
        "usage: t2ipal COMMAND [OPTIONS]",
        "",
        "Class names and captions in, a multi-label image tagger out (T2I-PAL).",
        "",
        *(f"  {verb:<{width}}  {text}" for verb, (_, _, text) in _VERBS.items()),
        "",
        "'t2ipal COMMAND --help' (or 't2ipal help COMMAND') shows a command's options.",
        "The first thing to try: t2ipal run --classes voc2007 --compose 200 --out runs/first",
    ]
