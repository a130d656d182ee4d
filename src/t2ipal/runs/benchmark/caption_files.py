"""The captions of a setting: where they lie, and whether their images are test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from t2ipal.captions.labelled import LabelledCaption
from t2ipal.datasets.labelled_images import LabelledImages
from t2ipal.errors import UserError
from t2ipal.runs.benchmark.setting import Setting

_FILES = {
    "train2014": "captions_train2014.json",
    "train2017": "captions_train2017.json",
    "narratives": "open_images_train_v6_captions.jsonl",
}
_SOURCES = {
    "train2014": "annotations_trainval2014.zip of cocodataset.org",
    "train2017": "annotations_trainval2017.zip of cocodataset.org",
    "narratives": "the Localized Narratives page, Open Images, captions of the train split",
}


@dataclass(frozen=True)
class Overlap:
    """How many images of the captions trained on there are, and how many are test images."""

    images: int
    tested: int

    @classmethod
    def of(
        cls, setting: Setting, captions: Sequence[LabelledCaption], test: LabelledImages
    ) -> Overlap | None:
        """Images that captions of MS-COCO describe and that are tested on; None if none can be.

        COCO's captions carry the number of their image, and so do the names of its images.
        """
        if setting.test != "coco2014" or setting.captions not in ("train2014", "train2017"):
            return None
        tested = {_number(file.stem.rpartition("_")[2]) for file in test.files}
        described = {_number(row.id.partition("-")[0]) for row in captions if row.labels}
        described.discard(None)  # composed captions describe no image
        return cls(len(described), len(described & (tested - {None})))

    def __str__(self) -> str:
        if not self.tested:
            return f"captions: none of their {self.images:,} images is a test image"
        return (
            f"WARNING: {self.tested:,} of the {self.images:,} images that the captions describe "
            "are test images: the figures are not those of unseen images"
        )


def find_captions(setting: Setting, folder: Path, given: Path | None) -> Path | None:
    """The captions file, or None for a setting that composes its captions.

    Looked for in the benchmark's folder, the folder above, and ``annotations`` in both.

    Raises:
        UserError: it is not there, or one is given and none is used.
    """
    if setting.captions == "none":
        if given is not None:
            raise UserError(f"{given}: this configuration composes its captions; leave it out.")
        return None
    if given is not None:
        if not given.is_file():
            raise UserError(f"{given}: there is no such file; check --captions.")
        return given
    name = _FILES[setting.captions]
    for place in (folder, folder.parent):
        for path in (place / "annotations" / name, place / name):
            if path.is_file():
                return path
    raise UserError(
        f"{folder}: no {name} in it, in its annotations or beside it; name it with --captions "
        f"(it is in {_SOURCES[setting.captions]})."
    )


def _number(text: str) -> int | None:
    """The number that the text is, if it is one."""
    return int(text) if text.isascii() and text.isdigit() else None
