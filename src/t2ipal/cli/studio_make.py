"""The studio's page that makes a tagger: a run folder, filled by ``t2ipal run`` and looked at.

All that the page shows is read from the folder, so it shows runs of the command line as well. A
run of the page has its classes and captions in its folder: ``vocabulary.yaml``, ``captions.txt``.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast, get_args

import gradio as gr
import pandas as pd

from t2ipal.captions.compose import compose
from t2ipal.captions.labelled import label_captions, read_labelled
from t2ipal.captions.sources import Caption
from t2ipal.cli.studio import told
from t2ipal.cli.studio_runs import Runs
from t2ipal.errors import UserError
from t2ipal.files import read_jsonl, read_rows, sweep, temporary_path, write_text
from t2ipal.files.pictures import load_image
from t2ipal.files.tables import read_json, text_lines
from t2ipal.generation.diffusion.settings import NO_GENERATOR, PresetName
from t2ipal.generation.store import ImageRow, ImageStore
from t2ipal.method.training import EpochRecord
from t2ipal.runs.config import RunConfig
from t2ipal.tagger import CONFIG
from t2ipal.tagger.card import plain_markdown, weak_classes
from t2ipal.vocabulary import ClassName, Vocabulary

_IMAGES = 24  # the last ones
_MOST_CAPTIONS = 5000  # that are written, or looked at, while others wait
_LINES = 12  # of the log
_STEPS = 12  # of the miniature; other generators have their own
_SMALL = 320  # pixels of the longer side of an image that is shown
_HINT = (
    "The miniature generator and CLIP make a demonstration on any machine, of the things they know "
    "(dog, cat, car, boat, chair and the like). Choose real models in the settings."
)


def make_page(pages: gr.Blocks, runs: Runs) -> tuple[Any, Any, Any]:
    """Lay out the page; its buttons that lead to the tagger and the report, and the run's name."""
    with gr.Row():
        with gr.Column(scale=1, min_width=320):
            run = gr.Dropdown(
                choices=runs.names(), value=_new_name(runs), allow_custom_value=True,
                label="Run", info=f"A new name, or a run in {runs.home}/ to continue",
            )  # fmt: skip
            classes = gr.Textbox(
                label="Classes", lines=4, placeholder="dog\ncat\ncar", info="One name a line"
            )
            count = gr.Slider(2, 100, 10, step=1, label="Captions per class")
            write = gr.Button("Write captions")
            captions = gr.Textbox(
                label="Captions", lines=6, max_lines=12,
                info="One a line: edit them, or paste your own",
                placeholder="A dog beside a car on a street.",
            )  # fmt: skip
            named = gr.Markdown("")
            with gr.Accordion("Settings", open=False):
                generator = gr.Dropdown(
                    choices=["miniature", *get_args(PresetName), NO_GENERATOR],
                    value="miniature", allow_custom_value=True, label="Generator",
                    info="miniature, a preset, a model on the Hugging Face hub, or none",
                )  # fmt: skip
                clip = gr.Textbox(
                    "miniature", label="CLIP",
                    info="miniature, photo, or a model of open_clip such as ViT-B-16:openai",
                )  # fmt: skip
                with gr.Row():
                    steps = gr.Number(
                        _STEPS, label="Denoising steps", minimum=1, precision=0, min_width=120
                    )
                    epochs = gr.Number(20, label="Epochs", minimum=1, precision=0, min_width=120)
                inspect = gr.Checkbox(
                    True, label="Inspect images",
                    info="CLIP looks at each; one that shows none of its labels is rejected",
                )  # fmt: skip
                overwrite = gr.Checkbox(
                    False, label="Generate anew", info="Replace images made with other settings"
                )
            with gr.Row():
                start = gr.Button("Make the tagger", variant="primary", min_width=120)
                stop = gr.Button("Stop", interactive=False, min_width=80)
        with gr.Column(scale=2, min_width=320):
            status = gr.Markdown(_HINT)
            images = gr.Gallery(
                show_label=False, elem_classes="album", columns=4, height="auto", visible=False,
                allow_preview=False, buttons=[], interactive=False, elem_id="made-images",
            )  # fmt: skip
            with gr.Row(visible=False) as curves:
                precision = gr.LinePlot(
                    x="epoch", y="mAP", y_lim=[0, 100], height=220, min_width=260,
                    title="mAP on held-out generated images", buttons=[],
                )  # fmt: skip
                loss = gr.LinePlot(
                    x="epoch", y="loss", height=220, min_width=260, title="Loss", buttons=[]
                )
            weak = gr.Markdown("")
            with gr.Row(visible=False) as done:
                to_tag = gr.Button("Tag photos with it", variant="primary", min_width=120)
                to_report = gr.Button("Read its report", min_width=120)
            with gr.Accordion("Log", open=False, visible=False) as box:
                log = gr.Textbox(show_label=False, lines=_LINES, max_lines=_LINES)
    clock = gr.Timer(2.0, active=False)
    seen = gr.State("")  # what the folder looked like when it was last shown

    given = [run, classes, captions, generator, clip, steps, epochs, inspect, overwrite]
    shown = [classes, captions, named, generator, clip, steps, epochs, inspect]
    view = [status, images, curves, precision, loss, weak, done, box, log, stop, start, clock, seen]

    @told
    def written(names: str, number: int) -> tuple[str, str]:
        vocabulary = Vocabulary.of(_lines(names))
        if (wanted := number * len(vocabulary)) > _MOST_CAPTIONS:
            raise UserError(
                f"{wanted} captions are more than the studio writes at once ({_MOST_CAPTIONS}); "
                "take fewer, or run 't2ipal run --compose'."
            )
        made = compose(vocabulary, wanted)
        text = "\n".join(caption.text for caption in made)
        return text, _counted(names, text)

    @told
    def counted(names: str, text: str) -> str:
        return _counted(names, text)

    @told
    def started(name: str | None, *values: Any) -> list[Any]:
        *chosen, anew = values
        folder = runs.folder(name)
        if not runs.running(folder.name):
            _prepare(folder, *chosen)
        runs.start(folder.name, overwrite=anew)
        return _view(runs, folder.name, "")

    @told
    def stopped(name: str) -> list[Any]:
        runs.stop(name)
        return _view(runs, name, "")

    @told
    def ticked(name: str, before: str) -> list[Any]:
        return _view(runs, name, before)

    @told
    def opened(name: str | None) -> list[Any]:
        folder = runs.folder(name)
        fields: list[Any] = [gr.skip()] * len(shown)
        if (folder / "config.yaml").exists():
            config = RunConfig.read(folder / "config.yaml")
            names = "\n".join(Vocabulary.load(config.classes).names)
            text = "\n".join(_texts(folder, config))
            models = [config.preset or config.generator or "miniature", config.clip]
            numbers = [config.steps, config.train.epochs, config.inspect]
            fields = [names, text, _counted(names, text), *models, *numbers]
        return [*fields, *_view(runs, folder.name, "")]

    @told
    def arrived() -> list[Any]:
        name = runs.current() or _new_name(runs)
        return [gr.Dropdown(choices=runs.names(), value=name), *opened(name)]

    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    gr.on([write.click], written, [classes, count], [captions, named], **private)
    gr.on([classes.blur, captions.blur], counted, [classes, captions], named, **private)
    start.click(started, given, view, **private)
    stop.click(stopped, run, view, **private)
    generator.input(
        lambda chosen: _STEPS if chosen == "miniature" else None, generator, steps, **private
    )
    clock.tick(ticked, [run, seen], view, **private)
    run.input(opened, run, [*shown, *view], **private)
    pages.load(arrived, None, [run, *shown, *view], **private)
    return to_tag, to_report, run


def _new_name(runs: Runs) -> str:
    there, number = set(runs.names()), 1
    while f"tagger-{number}" in there:
        number += 1
    return f"tagger-{number}"


def _lines(text: str | None) -> list[str]:
    return [line for one in (text or "").splitlines() if (line := one.strip())]


def _counted(names: str, text: str) -> str:
    """How many captions name each class; nothing without classes or captions."""
    if not _lines(names) or not _lines(text):
        return ""
    if len(_lines(text)) > _MOST_CAPTIONS:
        return f"{len(_lines(text))} captions; with so many, 't2ipal label' counts the classes."
    vocabulary = Vocabulary.of(_lines(names))
    rows = label_captions(
        [Caption(str(n), line) for n, line in enumerate(_lines(text))], vocabulary
    )
    counts = {name: sum(name in row.labels for row in rows) for name in vocabulary.names}
    none = sum(not row.labels for row in rows)
    said = f"{len(rows)} captions name " + ", ".join(
        f"{plain_markdown(name)} ({count})" for name, count in counts.items()
    )
    return said + (f"; {none} name none and are left out." if none else ".")


def _texts(folder: Path, config: RunConfig) -> list[str]:
    """The captions of a run, as far as it has any."""
    own = folder / "captions.txt"
    if config.captions is not None and Path(config.captions) == own and own.exists():
        return own.read_text(encoding="utf-8").splitlines()
    path = folder / "captions.jsonl"
    return [row.caption for row in read_labelled(path)] if path.exists() else []


def _prepare(
    folder: Path,
    names: str,
    text: str,
    generator: str,
    clip: str,
    steps: float | None,
    epochs: float | None,
    inspect: bool,
) -> None:
    """Make a run folder of the page's fields, or change one that is there by them.

    Raises:
        UserError: a field is empty or not allowed, or the folder holds something else.
    """
    path = folder / "config.yaml"
    if not path.exists() and folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder}: is not empty and holds no run; choose another name.")
    old = RunConfig.read(path) if path.exists() else RunConfig()
    if len(_lines(names)) < 2:
        raise UserError("there are too few classes; write at least two names.")
    if not _lines(text):
        raise UserError("there are no captions; press 'Write captions', or paste your own.")
    known = {c.name: c for c in Vocabulary.load(old.classes).classes} if old.classes else {}
    vocabulary = Vocabulary(
        folder.name, tuple(known.get(name, ClassName(name)) for name in _lines(names))
    )
    preset = cast(PresetName, generator) if generator in get_args(PresetName) else None
    config = replace(
        old,
        preset=preset,
        generator=None if preset else generator,
        clip=clip,
        steps=round(steps) if steps else None,
        train=replace(old.train, epochs=round(epochs or 0)),
        inspect=inspect and generator != NO_GENERATOR,
    )
    files = {}
    if [*known] != _lines(names):
        config = replace(config, classes=str(folder / "vocabulary.yaml"))
        files["vocabulary.yaml"] = vocabulary.to_yaml()
    if _texts(folder, old) != _lines(text):
        config = replace(config, captions=str(folder / "captions.txt"), compose=None)
        files["captions.txt"] = "\n".join(_lines(text)) + "\n"
    config.require()
    with _whole(folder) as place:
        for name, content in files.items():
            write_text(place / name, content)
        config.write(place / "config.yaml")


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """Where to write the files of a run: a new folder is there with all of them, or not at all."""
    if (folder / "config.yaml").exists():
        yield folder
        return
    sweep(folder.parent)
    new = temporary_path(folder)
    try:
        new.mkdir(parents=True)
        yield new
        with suppress(FileNotFoundError):
            folder.rmdir()  # it was empty
        new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _view(runs: Runs, name: str, before: str) -> list[Any]:
    """A run's folder as the page shows it; nothing anew if it is as it was ``before``."""
    folder, running = runs.folder(name), runs.running(name)
    rows = _rows(folder)
    figures = _figures(folder / "metrics.jsonl")
    lines = _said(folder / "log.txt")
    error = runs.error(name)
    now = json.dumps([name, running, len(rows), [*map(asdict, figures)], lines, error])
    if now == before:
        return [gr.skip()] * 13
    made = runs.model(name) and not running and not error
    table = pd.DataFrame([{**asdict(row), "mAP": 100 * (row.valid_map or 0)} for row in figures])
    return [
        _status(runs, name, made, len(rows), figures[-1].epoch if figures else None),
        gr.Gallery(value=list(_pictures(folder, rows)), visible=bool(rows)),
        gr.Row(visible=bool(figures)),
        table if figures else None,
        table[table["epoch"] > 0] if figures else None,
        _weak(folder) if made else "",
        gr.Row(visible=made),
        gr.Accordion(visible=bool(lines)),
        "\n".join(lines[-_LINES:]),
        gr.Button(interactive=running),
        gr.Button(interactive=not running),
        gr.Timer(active=running),
        now,
    ]


def _status(runs: Runs, name: str, made: bool, images: int, epoch: int | None) -> str:
    """How far a run is, as Markdown."""
    folder, running = runs.folder(name), runs.running(name)
    if error := runs.error(name):
        return f"### ⚠️ {folder.name} stopped\n\n{plain_markdown(error)}"
    if not (folder / "config.yaml").exists():
        return _HINT
    config = RunConfig.read(folder / "config.yaml")
    captions = folder / "captions.jsonl"
    wanted = sum(1 for _ in read_jsonl(captions)) if captions.exists() else 0
    wanted *= config.images_per_caption if config.generates else 0
    facts = [f"{images} of {wanted} images"] * bool(wanted)
    if epoch is not None:
        facts.append(f"epoch {epoch} of {config.train.epochs}")
    state = "is being made" if running else "is ready" if made else "is not finished"
    said = f"### {folder.name} {state}\n\n{' · '.join(facts) or 'Reading captions'}"
    if running:
        return said
    words = ["predict", str(folder / "model"), "photos/"] if made else runs.command(name)
    how = "In a terminal" if made else "Press the button to resume it, or in a terminal"
    return f"{said}\n\n{how}: `t2ipal {shlex.join(words)}`"


def _rows(folder: Path) -> list[ImageRow]:
    """The images that are there, and those that failed; journals are only read."""
    store, found = ImageStore(folder), {}
    for path in (store.manifest, store.failures, *store.journals()):
        with suppress(FileNotFoundError):  # the run has just finished
            if path.exists():
                for _, row in read_rows(path, ImageRow, ended=True):
                    found[row.id] = row
    return list(found.values())


def _pictures(folder: Path, rows: list[ImageRow]) -> Iterator[tuple[Any, str]]:
    """The last images with their labels; before each the attempts that were rejected."""
    for row in rows[: -_IMAGES - 1 : -1]:
        if not row.failed:
            doubts = "".join(f", not seen: {name}" for name in row.missing)
            yield _small(folder / row.file), f"{', '.join(row.seen)}{doubts}"
        for entry in row.rejected:
            if entry.file:
                names = ", ".join(row.labels)
                yield _small(folder / entry.file), f"rejected, {entry.reason}: {names}"


def _small(path: Path) -> Any:
    picture = load_image(path)
    picture.thumbnail((_SMALL, _SMALL))
    return picture


def _figures(path: Path) -> list[EpochRecord]:
    return [row for _, row in read_rows(path, EpochRecord)] if path.exists() else []


def _said(path: Path) -> list[str]:
    """What a run's log says, without the time of day."""
    return [line[20:] for _, line in text_lines(path)] if path.exists() else []


def _weak(folder: Path) -> str:
    """The classes that the tagger hardly knows, and what may help."""
    path = folder / "model" / CONFIG
    config = read_json(path)
    try:
        lines = weak_classes(config["about"])
    except (AttributeError, KeyError, TypeError):
        raise UserError(f"{path}: is damaged; train the tagger again.") from None
    if not lines:
        return "No class is weak on held-out generated images."
    return "\n".join(
        [
            "**Weak classes**\n",
            *(f"- {plain_markdown(line.removeprefix('weak: '))}" for line in lines),
        ]
    )
