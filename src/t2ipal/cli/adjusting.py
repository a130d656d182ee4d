"""Verbs that adjust a trained model without training it."""

from __future__ import annotations

from dataclasses import KW_ONLY
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from t2ipal.cli.options import Verb, require_paths
from t2ipal.cli.speech import say
from t2ipal.errors import UserError, listed, settings
from t2ipal.tagger import PACKAGED, model_folder

if TYPE_CHECKING:
    from t2ipal.vocabulary import ClassName


@settings
class Adjusted:
    """Where an adjusted model goes."""

    out: Annotated[Path, "DIR"] | None = None
    """folder to write the model to; the model's own if omitted"""


@settings
class AddClass(Adjusted, Verb):
    """Add classes to a model, in a second and without training."""

    positional = ("model", "names")
    examples = """
        t2ipal add-class runs/mine/model espresso
        t2ipal add-class photo espresso --synonyms "caffe espresso" --out mine
        t2ipal add-class runs/mine/model espresso --images generated/
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
        out = destination(self.model, self.out)
        require_paths(self.images)
        from t2ipal.tagger.new_names import with_new
        from t2ipal.tagger.tagger import saved_vocabulary
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


def destination(model: str, out: Path | None) -> Path:
    """The folder to write an adjusted model to.

    Raises:
        UserError: there is no such model, or it is not the user's own and no other folder is named.
    """
    folder = model_folder(model, typed=True)
    if out is not None:
        return out
    if folder is None or model in PACKAGED:
        what = "is part of this package" if model in PACKAGED else "lies on the hub"
        raise UserError(f"--out is missing: {model} {what}; name a folder for the new model.")
    return folder


def _shown(folder: Path, wanted: ClassName) -> list[Path]:
    """The images of a folder; of a generated set those whose caption names the class."""
    from t2ipal.files.folders import find_images
    from t2ipal.files.names import name_key
    from t2ipal.generation.store import read_manifest

    if not (folder / "images.jsonl").is_file():
        return list(find_images([folder]))
    keys = {*map(name_key, (wanted.name, wanted.readable, *wanted.synonyms))}
    rows = [row for row in read_manifest(folder) if keys & {*map(name_key, row.labels)}]
    if not rows:
        raise UserError(
            f"{folder}: none of its captions names {wanted.name!r}; give images of the class."
        )
    return [folder / row.file for row in rows]
