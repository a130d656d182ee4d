"""Verbs that measure a trained model on labelled images, and adjust it without training it."""

from __future__ import annotations

import json
from dataclasses import KW_ONLY
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from t2ipal.cli.options import Verb, require_paths
from t2ipal.cli.speech import say
from t2ipal.clip.clip_settings import DeviceSettings, ModelSettings
from t2ipal.errors import Count, UserError, listed, settings
from t2ipal.files import write_text
from t2ipal.runs.config import EvaluationSettings
from t2ipal.runs.folder import MADE_FROM
from t2ipal.tagger import PACKAGED, model_folder, read_config, saved_vocabulary

if TYPE_CHECKING:
    from t2ipal.vocabulary import ClassName


_FEW = 16  # generated images of a class are few: what the adapter's bank takes of each


@settings
class Eval(ModelSettings, DeviceSettings, EvaluationSettings, Verb):
    """Measure a tagger on labelled images."""

    positional = ("model",)
    needed = ("data",)
    examples = """
        t2ipal eval runs/mine/model --data photos/
        t2ipal eval runs/mine/model --data coco2014:COCO --out eval.json
    """
    _: KW_ONLY
    model: Path
    """photo (the tagger of this package), a model folder such as RUN/model, or an ONNX file"""
    features: Annotated[Path, "DIR"] | None = None
    """folder of the feature cache; beside the model if omitted"""
    out: Annotated[Path, "FILE"] | None = None
    """JSON file to write the figures to"""

    def run(self) -> int:
        assert self.data is not None, "it is needed"
        # before PyTorch is imported, which takes seconds
        model_folder(self.model, typed=True)
        saved_vocabulary(self.model)
        require_paths(self.data_folder, data=[self.data])
        from t2ipal.tagger.scoring import evaluate

        evaluation = evaluate(
            self.model,
            self.data,
            images=self.data_folder,
            cache=self.features,
            device=self.device,
            precision=self.precision,
            image_size=self.image_size,
            resize_mode=self.resize_mode,
            crops=self.crops,
            skip_broken=self.skip_broken,
            max_megapixels=self.max_megapixels,
            say=say,
        )
        for line in evaluation.lines():
            say(line)
        if self.out is not None:
            write_text(self.out, json.dumps(evaluation.to_json(), indent=1) + "\n")
        return 0


@settings
class _Adjusted:
    """Where an adjusted model goes."""

    out: Annotated[Path, "DIR"] | None = None
    """folder to write the model to; the model's own if omitted"""


@settings
class AddClass(_Adjusted, Verb):
    """Add classes to a model, in a second and without training."""

    positional = ("model", "names")
    examples = """
        t2ipal add-class runs/mine/model espresso --out mine
        t2ipal add-class photo espresso --synonyms "caffe espresso" --out mine
        t2ipal add-class mine ristretto --images generated/
    """
    _: KW_ONLY
    model: str
    """a model folder such as RUN/model, photo, or ORG/NAME on the Hugging Face hub"""
    names: tuple[str, ...]
    """names of the new classes"""
    synonyms: tuple[str, ...] = ()
    """other words for the new class, by which predict and labelled images may call it"""
    images: Annotated[Path, "DIR"] | None = None
    """images that show the new class, such as a folder of 't2ipal generate', for its prototypes and
    the adapter"""

    def run(self) -> int:
        if (self.synonyms or self.images) and len(self.names) > 1:
            raise UserError(
                "--synonyms and --images are of one class; add the classes one by one, or leave "
                "them out."
            )
        out = _destination(self.model, self.out)
        if self.out is None and (out.parent / MADE_FROM).exists():
            raise UserError(
                f"--out is missing: {out} belongs to a run, whose figures are about its own "
                "classes; name a folder for the new model."
            )
        require_paths(self.images)
        from t2ipal.tagger.inputs import with_new
        from t2ipal.vocabulary import ClassName

        classes = [ClassName(name, synonyms=self.synonyms) for name in self.names]
        with_new(saved_vocabulary(self.model), classes)  # before PyTorch is imported
        images = None if self.images is None else {self.names[0]: _shown(self.images, classes[0])}
        from t2ipal.tagger.tagger import Tagger

        tagger = Tagger.from_pretrained(self.model).with_classes(classes, images=images)
        tagger.save_pretrained(out)
        say(f"wrote {out}: {len(tagger.names)} classes")
        say(
            f"{listed(self.names)}: thresholds are taken from the other classes, not calibrated; "
            f"t2ipal calibrate {out} --data LABELLED does it"
        )
        return 0


@settings
class Calibrate(_Adjusted, EvaluationSettings, Verb):
    """Fit a model's thresholds and probabilities anew on some labelled photos."""

    positional = ("model",)
    examples = """
        t2ipal calibrate runs/mine/model --data labelled/
        t2ipal calibrate photo --data labelled/ --out mine
        t2ipal calibrate runs/mine/model --undo
    """
    _: KW_ONLY
    model: str
    """a model folder such as RUN/model, photo, or ORG/NAME on the Hugging Face hub"""
    classes: tuple[str, ...] = ()
    """the classes that the labels are about, the others keep what they have; all of the data's if
    omitted"""
    undo: bool = False
    """go back to the thresholds that the model was trained with"""
    features: Annotated[Path, "DIR"] | None = None
    """folder of the feature cache; beside the model if omitted"""
    report: Annotated[Path, "FILE"] | None = None
    """JSON file to write figures and intervals to"""

    def run(self) -> int:
        if self.undo == (self.data is not None):
            raise UserError("calibrate takes either --data LABELLED or --undo; give one of them.")
        out = _destination(self.model, self.out)
        require_paths(self.data_folder, data=[self.data])
        from t2ipal.files.broken import Broken
        from t2ipal.tagger.calibration import calibrate, uncalibrated
        from t2ipal.tagger.tagger import Tagger

        tagger = Tagger.from_pretrained(self.model)
        if self.data is None:
            uncalibrated(tagger).save_pretrained(out)
            say(f"wrote {out}: the thresholds are those that it was trained with")
            return 0
        found = calibrate(
            tagger,
            self.data,
            classes=self.classes,
            images=self.data_folder,
            cache=self.features or out.parent / "features",
            broken=Broken(self.skip_broken, self.max_megapixels),
            say=say,
        )
        for line in found.lines():
            say(line)
        if self.report is not None:
            write_text(self.report, json.dumps(found.to_json(), indent=1) + "\n")
        found.tagger.save_pretrained(out)
        say(f"wrote {out} (t2ipal calibrate {out} --undo goes back)")
        return 0


@settings
class Suggest(EvaluationSettings, Verb):
    """Say which classes are weak, what they are taken for, and which commands may help."""

    positional = ("model",)
    examples = """
        t2ipal suggest runs/mine/model
        t2ipal suggest photo --data labelled/
    """
    _: KW_ONLY
    model: str
    """a model folder such as RUN/model, photo, or ORG/NAME on the Hugging Face hub"""
    most: Count = 5
    """how many classes, the weakest first"""
    features: Annotated[Path, "DIR"] | None = None
    """folder of the feature cache; beside the model if omitted"""

    def run(self) -> int:
        folder = model_folder(self.model, typed=True)
        require_paths(self.data_folder, data=[self.data])
        figures = self._figures(folder)
        run = None
        if folder is not None and (folder.parent / "config.yaml").is_file():
            run = f"--config {folder.parent / 'config.yaml'} --out {folder.parent}"
        for line in _suggestions(figures, self.most, self.model, run):
            say(line)
        return 0

    def _figures(self, folder: Path | None) -> dict[str, dict[str, Any]]:
        """By class: those of labelled images, or those that training left in the model."""
        if self.data is None:
            config, _ = read_config(self.model)
            if not (figures := config.get("about", {}).get("classes")):
                raise UserError(
                    f"{self.model}: holds no figures of held-out images; measure it on labelled "
                    "ones with --data LABELLED."
                )
            return dict(figures)
        from t2ipal.files.broken import Broken
        from t2ipal.tagger.scoring import held_out_figures, labelled_scores
        from t2ipal.tagger.tagger import Tagger

        tagger = Tagger.from_pretrained(self.model)
        labelled, scores = labelled_scores(
            tagger,
            self.data,
            images=self.data_folder,
            cache=self.features or (folder or Path()).parent / "features",
            broken=Broken(self.skip_broken, self.max_megapixels),
            say=say,
        )
        probabilities = tagger.thresholds.probabilities(scores)
        figures = held_out_figures(tagger.names, scores, probabilities, labelled.targets)
        return {name: row for name, row in figures.items() if row["shown"]}


def _suggestions(
    figures: dict[str, dict[str, Any]], count: int, model: str, run: str | None
) -> list[str]:
    """Lines about the ``count`` weakest classes, the weakest first, with commands that may help.

    Args:
        figures: class -> as :func:`held_out_figures` gives it; of a trained model also in how many
            of its generated ``images`` it is ``found``.
        model: as commands name it.
        run: the options of ``t2ipal run`` that repeat the run of the model; None if unknown.
    """
    order = sorted(figures, key=lambda name: (figures[name]["AP"] or -1.0, name))[:count]
    lines = []
    for name in order:
        own = figures[name]
        if own["AP"] is None:
            lines.append(f"{name}: no held-out item shows it, so it was not measured")
        else:
            level = " (no better than chance)" if own["AP"] <= own["chance"] else ""
            lines.append(
                f"{name}: AP {100 * own['AP']:.1f} on {own['shown']} held-out items{level}"
            )
        if rivals := own.get("taken_for"):
            told = ", ".join(f"{other} in {times}" for other, times in rivals.items())
            lines.append(f"  taken for {told} of {own['shown']}")
        lines += [f"  {line}" for line in _remedies(name, own, model, run)]
    return lines


def _remedies(name: str, own: dict[str, Any], model: str, run: str | None) -> list[str]:
    again = f"t2ipal run {run or '--classes CLASSES --captions CAPTIONS --out NEW'}"
    images, seen = own.get("images"), own.get("found", 0)
    lines = []
    if images and 2 * seen < images:
        lines += [
            f"name: CLIP finds it in {seen} of the {images} images generated for it; give it a "
            "more common readable name in the file of classes:",
            f"    {again} --classes CLASSES.yaml",
        ]
    elif images is not None and images < _FEW:
        lines += [
            f"captions: {images} generated images show it; more captions that name it, alone and "
            "beside others:",
            f"    {again} --captions MORE.txt",
        ]
    elif images is not None:
        lines += ["images: more of each caption:", f"    {again} --images-per-caption 2"]
    if rivals := list(own.get("taken_for", ())):
        lines.append(
            f"captions: some that name {name} without {rivals[0]}, {rivals[0]} without {name}, and "
            "both"
        )
    lines += [
        "photos: labelled ones to train on, or a few to fit its threshold to:",
        f"    {again} --real-images LABELLED --shots 16",
        f"    t2ipal calibrate {model} --data LABELLED",
    ]
    return lines


def _destination(model: str, out: Path | None) -> Path:
    """The folder to write an adjusted model to."""
    folder = model_folder(model, typed=True)
    if out is not None:
        return out
    if folder is None or model in PACKAGED:
        what = "is part of this package" if model in PACKAGED else "lies on the hub"
        raise UserError(f"--out is missing: {model} {what}; name a folder for the new model.")
    return folder


def _shown(folder: Path, wanted: ClassName) -> list[Path]:
    """The images of a folder; of a generated set those whose caption names the class."""
    from t2ipal.files.folders import LeftOut, find_images
    from t2ipal.files.names import name_key
    from t2ipal.generation.store import read_manifest

    if not (folder / "images.jsonl").is_file():
        left_out = LeftOut()
        files = list(find_images([folder], left_out))
        if str(left_out):
            say(str(left_out))
        return files
    keys = {*map(name_key, (wanted.name, wanted.readable, *wanted.synonyms))}
    rows = [row for row in read_manifest(folder) if keys & {*map(name_key, row.labels)}]
    if not rows:
        raise UserError(
            f"{folder}: none of its captions names {wanted.name!r}; give images of the class."
        )
    return [folder / row.file for row in rows]
