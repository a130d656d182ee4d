"""The verb that tags images."""

from __future__ import annotations

import itertools
import math
import os
import sys
from collections.abc import Iterator
from dataclasses import KW_ONLY
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from t2ipal.cli.options import Verb
from t2ipal.cli.speech import complain, plain, say
from t2ipal.clip.clip_settings import DeviceSettings, ModelSettings
from t2ipal.errors import Batch, Count, UserError, settings
from t2ipal.files.broken import PictureSettings
from t2ipal.files.folders import LeftOut, common_folder, find_images
from t2ipal.files.names import readable_name
from t2ipal.files.pictures import has_picture_suffix
from t2ipal.tagger import model_digest, model_folder

if TYPE_CHECKING:
    from t2ipal.tagger.tag_file import TagFile
    from t2ipal.tagger.tagger import Tagger
    from t2ipal.tagger.tags import Tags


_LONGEST_NAME = 200  # bytes: file systems take 255, and a name while it is written is longer
# And what else is written for each image: done for those that have a row, for no others.
_ROWS_DEPEND_ON = (
    "top", "crops", "image_size", "resize_mode", "precision", "write_keywords", "embed", "dry_run",
)  # fmt: skip
_NEARLY_ALL = 0.6  # of a photo of 3:2 CLIP sees two thirds, which everybody expects


@settings
class Predict(ModelSettings, DeviceSettings, PictureSettings, Verb):
    """Tag images: files, folders and globs."""

    positional = ("model", "images")
    examples = """
        t2ipal predict photo holiday/
        t2ipal predict photo holiday/ --out tags.csv
        t2ipal predict runs/mine/model photo.jpg --threshold 0.3 --scores
        t2ipal predict runs/mine/model photos/ --classes dog cat --top 1
        t2ipal predict photo holiday/ --query "a red bicycle" "people at a table"
        t2ipal predict runs/mine/model 'photos/*.jpg' --heatmaps overlays
        t2ipal predict photo holiday/ --write-keywords xmp --dry-run
        t2ipal predict photo holiday/ --out tags.jsonl --export cvat
    """
    _: KW_ONLY
    model: str
    """photo (the tagger of this package: 80 things in photos), a model folder such as RUN/model, an
    ONNX file that t2ipal export wrote, or ORG/NAME on the Hugging Face hub"""
    images: tuple[str, ...]
    """image files, folders and glob patterns"""
    threshold: Annotated[str, "X"] = "auto"
    """from which probability a class is a tag: auto (the model's own thresholds), one number, or a
    YAML or JSON file of thresholds by class"""
    top: Count | None = None
    """show the N most probable classes; those that reach their thresholds if omitted"""
    classes: tuple[str, ...] = ()
    """these classes alone; all of the model's if omitted"""
    query: Annotated[tuple[str, ...], "TEXT"] = ()
    """free text to score beside the classes, such as "a red bicycle"; always shown, and not
    calibrated"""
    scores: bool = False
    """show the probability of every class (csv and jsonl always do), tags with a star"""
    format: Literal["table", "jsonl", "csv"] | None = None
    """how to print or write; by the name of --out, or else table"""
    out: Annotated[Path, "FILE"] | None = None
    """write to a .csv or .jsonl file: resumed if interrupted, and only new images are tagged"""
    overwrite: bool = False
    """replace an --out that was made by another model or with other options"""
    export: Literal["coco", "fiftyone", "label-studio", "cvat"] | None = None
    """write the tags for an annotation tool too, beside an --out FILE.jsonl"""
    write_keywords: Literal["txt", "xmp", "iptc"] | None = None
    """add the tags to the photos' keywords, in sidecars photo.txt or photo.jpg.xmp;
    undo-keywords takes them away"""
    embed: bool = False
    """write keywords into the photos themselves, with the program exiv2"""
    dry_run: bool = False
    """only say which keywords would be added"""
    recursive: bool = True
    """search the folders within folders too"""
    heatmaps: Annotated[Path, "DIR"] | None = None
    """folder for one overlay per shown tag"""
    batch_size: Batch = 16
    """images processed together"""

    def run(self) -> int:
        kind = self._kind()
        self._check_options(kind)
        limits = self._limits()
        left_out = LeftOut()
        found = map(str, find_images(self.images, left_out, recursive=self.recursive))
        first = next(found, None)
        if first is None:
            why = f" ({left_out})" if str(left_out) else ""
            raise UserError(f"no image among {', '.join(self.images)}{why}; check the paths.")
        files = itertools.chain([first], found)
        model_folder(self.model, typed=True)
        from t2ipal.tagger import saved_vocabulary

        vocabulary = saved_vocabulary(self.model)  # before PyTorch is imported, which takes seconds
        meant = dict.fromkeys(map(vocabulary.meant, self.classes))
        names = [vocabulary.names[i] for i in meant]
        if self.query:
            from t2ipal.tagger.inputs import queried, with_new

            vocabulary = with_new(vocabulary, queried(self.query))
            names += self.query if names else ()
        names = names or list(vocabulary.names)
        for name in limits if isinstance(limits, dict) else ():
            vocabulary.meant(name)
        tag = partial(self._tag, names=names, limits=limits, kind=kind, left_out=left_out)
        if self.out is None:
            return tag(files, None)
        from t2ipal.tagger.tag_file import TagFile

        listed = list(files)
        made_from: dict[str, Any] = {
            "model": model_digest(self.model),
            "classes": names,
            "query": list(self.query),
            "threshold": limits,
            "format": kind,
            "heatmaps": self.heatmaps and str(self.heatmaps),
            **{name: getattr(self, name) for name in _ROWS_DEPEND_ON},
        }
        with TagFile.open(
            self.out, kind, names, made_from, listed, overwrite=self.overwrite
        ) as out:
            status, missing = 0, len(out.missing)
            if not missing:
                say(f"{self.out}: {len(listed)} images, done before")
            else:
                if missing < len(listed):
                    say(f"{self.out}: {len(listed) - missing} of {len(listed)} images are there")
                status = tag(iter(out.missing), out)
        if missing:
            say(f"wrote {self.out}")
        if self.export is not None:
            from t2ipal.tagger.annotations import export_tags

            say(f"wrote {export_tags(self.out, self.export, names)}")
        return status

    def _check_options(self, kind: str) -> None:
        """Whether the options go together."""
        if has_picture_suffix(self.model) and not Path(self.model).is_dir():
            raise UserError(
                f"{self.model} is an image, not a model: the model comes first, as in 't2ipal "
                f"predict {self.images[-1]} {self.model}'."
            )
        from t2ipal.tagger.inputs import refuse_address

        for image in self.images:
            refuse_address(image)
            if image == "":
                raise UserError("an image is called '', which names nothing; check the paths.")
        if self.export is not None and (self.out is None or kind != "jsonl"):
            raise UserError("--export needs --out FILE.jsonl, of which it is made.")
        if self.write_keywords is None:
            if self.embed or self.dry_run:
                raise UserError("--embed and --dry-run need --write-keywords.")
        elif self.embed and self.write_keywords == "txt":
            raise UserError("--embed needs --write-keywords xmp or iptc: photos hold no txt.")
        elif self.embed:
            from t2ipal.tagger.keywords import require_exiv2

            require_exiv2()
        elif self.write_keywords == "iptc":
            raise UserError("there are no sidecars of IPTC: take xmp, or add --embed.")

    def _kind(self) -> str:
        """How to write: as --format says, or by the name of --out."""
        if self.out is None:
            return self.format or "table"
        from t2ipal.tagger.tag_file import KINDS

        kind = self.format or self.out.suffix.lower().removeprefix(".")
        if kind not in KINDS:
            raise UserError(
                f"--out {self.out}: ends neither in .csv nor in .jsonl; rename it, or give "
                "--format csv or --format jsonl."
            )
        return kind

    def _limits(self) -> float | dict[str, float] | None:
        if self.threshold == "auto":
            return None
        given = self.threshold
        try:
            value = float(given)
        except ValueError:
            pass
        else:
            if not 0 <= value <= 1:
                raise UserError(f"--threshold is a probability, from 0 to 1, not {given}.")
            return value
        from t2ipal.files.yaml_files import read_yaml

        if not Path(given).is_file():
            raise UserError(f"--threshold {given}: is neither auto, nor a number, nor a file.")
        limits = read_yaml(given)
        for name, own in limits.items():
            if isinstance(own, bool) or not isinstance(own, int | float) or not 0 <= own <= 1:
                raise UserError(
                    f"{given}: {name}: a threshold is a number from 0 to 1, not {own!r}."
                )
        return limits

    def _load(self) -> Tagger:
        from t2ipal.tagger.inputs import queried
        from t2ipal.tagger.tagger import Tagger

        tagger = Tagger.from_pretrained(
            self.model,
            device=self.device,
            precision=self.precision,
            image_size=self.image_size,
            resize_mode=self.resize_mode,
            crops=self.crops,
        )
        return tagger.with_classes(queried(self.query)) if self.query else tagger

    def _tag(
        self,
        files: Iterator[str],
        out: TagFile | None,
        names: list[str],
        limits: float | dict[str, float] | None,
        kind: str,
        left_out: LeftOut,
    ) -> int:
        """Tag the files, and print them unless they go to ``out``; the exit status."""
        from tqdm import tqdm

        from t2ipal.tagger.keywords import JOURNAL
        from t2ipal.tagger.tag_file import header_line, tags_line

        tagger = self._load()
        start = common_folder(self.images)
        journal = None if self.dry_run else start / JOURNAL
        readable = dict(zip(tagger.names, tagger.vocabulary.readable, strict=True))
        data = self.heatmaps is None  # else there are files to write, whoever reads the lines
        stream = tagger.stream(
            map(Path, files),
            threshold=limits,
            classes=names,
            heatmaps=self.heatmaps is not None,
            batch_size=self.batch_size,
            max_megapixels=self.max_megapixels,
        )
        if out is None and (head := header_line(kind, names)) is not None:
            say(head, data=data)
        quiet = not sys.stderr.isatty() or (out is None and sys.stdout.isatty())
        total = len(out.missing) if out is not None else None
        failed = done = cut = 0
        for tags in tqdm(stream, total=total, unit="image", disable=quiet):
            try:
                if tags.error is not None:
                    raise UserError(tags.error)
                shown = tags.tags if self.top is None else tags.top(self.top)
                if self.write_keywords is not None:
                    self._add_keywords(tags, [readable[name] for name in shown], journal)
            except UserError as error:
                complain(str(error))
                failed += 1
                continue
            if self.heatmaps is not None:
                _write_heatmaps(tags, shown, self.heatmaps, start)
            if out is not None:
                out.add(tags, shown)
            elif kind == "table":
                say(self._row(tags, shown), data=data)
            else:
                say(tags_line(kind, tags, shown, sys.stdout.encoding or "utf-8"), data=data)
            done += 1
            cut += tags.seen < _NEARLY_ALL
        if str(left_out):
            complain(f"{left_out}.")
        if cut:
            complain(
                f"{cut} images were seen in part: CLIP looks at the square in their middle "
                "(--resize-mode squash looks at all of an image)."
            )
        if failed:
            complain(f"{failed} of {failed + done} images failed, see above.")
        return 1 if failed else 0

    def _add_keywords(self, tags: Tags, words: list[str], journal: Path | None) -> None:
        from t2ipal.tagger.keywords import add_keywords

        assert tags.image is not None and self.write_keywords is not None, "predict streams files"
        target, added = add_keywords(
            tags.image, words, self.write_keywords, embed=self.embed, journal=journal
        )
        if self.dry_run and added:
            say(f"{target}: would add {', '.join(added)}")

    def _row(self, tags: Tags, shown: list[str]) -> str:
        """An image and its tags as a person reads them."""
        names = tags.top(len(tags)) if self.scores else list(dict.fromkeys([*shown, *self.query]))
        marks = {name: "*" for name in shown} if self.scores else {}
        words = ", ".join(f"{name}{marks.get(name, '')} {tags[name]:.2f}" for name in names)
        return plain(f"{readable_name(str(tags.image))}  {words or '-'}")


def _write_heatmaps(tags: Tags, shown: list[str], folder: Path, start: Path) -> None:
    """One overlay per shown tag, FOLDER/IMAGE.jpg-CLASS.png; IMAGE is the path below ``start``."""
    from t2ipal.files import atomic_path, sha256_text
    from t2ipal.files.pictures import load_image
    from t2ipal.report.overlay import heat_overlay

    assert tags.image is not None, "predict streams files"
    image = load_image(tags.image, max_megapixels=math.inf)  # it has been read before
    inside = Path(os.path.relpath(tags.image, start))
    for name in shown:
        safe = name.replace("/", "%2F").replace(" ", "-")
        file = f"{inside.name}-{safe}.png"
        if len(os.fsencode(file)) > _LONGEST_NAME:
            begin = os.fsdecode(os.fsencode(inside.name)[:100])
            file = f"{begin}-{sha256_text(file)[:8]}-{safe[-60:]}.png"
        with atomic_path(folder / inside.parent / file) as path:
            heat_overlay(image, tags.heatmap(name), seen=tags.box).save(path)


@settings
class UndoKeywords(Verb):
    """Take away the keywords that predict added to the photos of a folder."""

    positional = ("folder",)
    examples = """
        t2ipal undo-keywords holiday/
    """
    _: KW_ONLY
    folder: Path
    """the folder of the photos"""

    def run(self) -> int:
        from t2ipal.tagger.keywords import JOURNAL, undo

        changed = undo(self.folder / JOURNAL)
        say(f"{self.folder}: took the added keywords away, {changed} changes")
        return 0
