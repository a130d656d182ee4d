"""Labelled images from what a user names: a folder, a file, a benchmark, or the miniature."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from t2ipal.datasets import nuswide, voc2007
from t2ipal.datasets.coco_json import COCO2014_IMAGES, read_coco2014, read_coco_json
from t2ipal.datasets.image_folder import OTHERS, read_image_folder
from t2ipal.datasets.labelled_images import ClassNames, LabelledImages
from t2ipal.datasets.labels_csv import LABELS_FILE, read_labels_csv
from t2ipal.datasets.official import split_options
from t2ipal.errors import UserError
from t2ipal.files import sha256_file, sha256_text, sweep, temporary_path
from t2ipal.files.broken import Broken
from t2ipal.vocabulary import UNKNOWN, Vocabulary

log = logging.getLogger(__name__)

MINIATURE = "miniature"
MINIATURE_IMAGES, MINIATURE_MOST = 1000, 1_000_000
MINIATURE_SPLITS = {
    "test": "cluttered",
    "dev": "cluttered, for development",
    "style": "held-out style",
    "hard": "held-out style, cluttered",
    "known": "known style",
}


@dataclass(frozen=True)
class _Layout:
    """A benchmark in the layout of its authors.

    Attributes:
        read: folder, vocabulary and options to images.
        options: option -> the values it may have; None for anything.
        official: split -> how many images it has.
        split: the split if none is named.
    """

    read: Callable[..., LabelledImages]
    options: dict[str, tuple[str, ...] | None]
    official: dict[str, int]
    split: str


_LAYOUTS = {
    "voc2007": _Layout(
        voc2007.read_voc2007,
        {"split": tuple(voc2007.OFFICIAL), "difficult": tuple(voc2007.DIFFICULT)},
        voc2007.OFFICIAL,
        "test",
    ),
    "coco2014": _Layout(read_coco2014, {"split": tuple(COCO2014_IMAGES)}, COCO2014_IMAGES, "val"),
    "nuswide": _Layout(
        nuswide.read_nuswide,
        {"split": tuple(nuswide.OFFICIAL), "images": None},
        nuswide.OFFICIAL,
        "test",
    ),
}


def read_labelled_images(
    spec: str | Path,
    vocabulary: Vocabulary,
    *,
    images: str | Path | None = None,
    cache: str | Path | None = None,
    seed: int = 0,
    broken: Broken | None = None,
) -> LabelledImages:
    """Read labelled images for the classes of ``vocabulary``.

    Args:
        spec: a folder with ``labels.csv``, the path of such a file, a COCO-format JSON, a folder of
            folders of images named by class (``DIR?others=unknown``:
            :mod:`t2ipal.datasets.image_folder`), or
            ``miniature[:test|dev|style|hard|known][:N]``, N scenes of the miniature (1000 of
            ``test`` if omitted); or ``voc2007:DIR``, ``coco2014:DIR``, ``nuswide:DIR``, a benchmark
            in its authors' layout, with options behind it: ``voc2007:DIR?split=trainval``.
        images: folder of the images of a COCO JSON, if it is neither beside the file nor near it.
        cache: folder in which the miniature's scenes are kept.
        seed: seed of the miniature's scenes.
        broken: told of missing images, which are an error if omitted. Whether the others can be
            read is not looked at (:meth:`LabelledImages.readable`).

    Raises:
        UserError: nothing usable at ``spec``, a bad row, an unknown class, a missing image.
    """
    if str(spec).split(":")[0] == MINIATURE:
        return _read_miniature(str(spec), vocabulary, cache, seed)
    if (named := parse_layout(str(spec))) is not None:
        layout, folder, options = named
        return layout.read(folder, vocabulary, broken=broken, **options)
    path, others = _with_others(spec)
    if path.is_dir():
        if not (path / LABELS_FILE).is_file():
            found = read_image_folder(path, vocabulary, others=others or "absent")
            if found is not None:
                return found
            raise UserError(
                f"{path}: holds no {LABELS_FILE}; add one (header 'image,labels'), sort the images "
                "into folders named by class, or name a COCO-format JSON file."
            )
        path = path / LABELS_FILE
    if others is not None:
        raise UserError(f"{spec}: 'others' is for folders named by class; leave it out.")
    if not path.is_file():
        raise UserError(
            f"{spec}: no such folder or file; give a folder with {LABELS_FILE} or of folders named "
            f"by class, a COCO-format JSON or '{MINIATURE}'."
        )
    if path.suffix.lower() == ".json":
        return read_coco_json(path, vocabulary, images=images, broken=broken)
    return read_labels_csv(path, vocabulary, broken)


def _with_others(spec: str | Path) -> tuple[Path, str | None]:
    """``DIR?others=VALUE`` as folder and value; None if there is none.

    Raises:
        UserError: another option or value.
    """
    path = Path(spec)
    folder, mark, option = str(spec).partition("?")
    if not mark or path.exists() or not Path(folder).is_dir():
        return path, None
    key, _, value = option.partition("=")
    if key != "others" or value not in OTHERS:
        raise UserError(f"{spec}: expected others={' or others='.join(OTHERS)} behind the '?'.")
    return Path(folder), value


def parse_layout(spec: str) -> tuple[_Layout, Path, dict[str, str]] | None:
    """The layout, folder and options of ``NAME:DIR?key=value&key=value``; None for other specs.

    Raises:
        UserError: an unknown option or value.
    """
    name, separator, rest = spec.partition(":")
    if name not in _LAYOUTS or not separator:
        return None
    layout = _LAYOUTS[name]
    folder, options = split_options(spec, rest, layout.options, name)
    for key, value in options.items():
        allowed = layout.options[key]
        if allowed is not None and value not in allowed:
            raise UserError(f"{spec}: {key} must be {' or '.join(allowed)}, not {value!r}.")
    return layout, Path(folder), options


def _read_miniature(
    spec: str, vocabulary: Vocabulary, cache: str | Path | None, seed: int
) -> LabelledImages:
    """Make scenes with the vocabulary's classes in ``cache``, unless they are there; read them.

    A class that the miniature's world does not have is absent from every scene.
    """
    parts = spec.split(":")[1:]
    split = parts.pop(0) if parts and parts[0] in MINIATURE_SPLITS else "test"
    count = parts.pop(0) if parts else str(MINIATURE_IMAGES)
    number = int(count) if count.isascii() and count.isdigit() and len(count) < 9 else 0
    if parts or not 1 <= number <= MINIATURE_MOST:
        raise UserError(
            f"{spec!r}: expected {MINIATURE}[:{'|'.join(MINIATURE_SPLITS)}][:N], "
            f"N at most {MINIATURE_MOST}, for example '{MINIATURE}:{MINIATURE_IMAGES}'."
        )
    if cache is None:
        raise UserError(f"{spec!r}: the scenes need a folder to be kept in; name a cache folder.")
    from t2ipal.miniature import scenes

    things = _things_of(vocabulary)
    names = list(things)
    if 1 not in {label for _, label in things.values()}:
        raise UserError(
            f"{spec!r}: its scenes show no class of the vocabulary {vocabulary.title!r}; "
            "give labelled images of your classes."
        )
    # Another renderer gives other scenes and other classes choose others, so both are named.
    sources = sorted(Path(scenes.__file__).parent.glob("*.py"))
    digest = sha256_text(*map(sha256_file, sources), *names)[:8]
    folder = Path(cache) / f"{MINIATURE}-{split}-{count}-seed{seed}-{digest}"
    if folder.is_dir() and not _whole(folder, names):
        log.warning("%s: was changed; its scenes are made anew", folder)
        shutil.rmtree(folder)
    if not folder.is_dir():
        partial = temporary_path(folder)
        partial.mkdir(parents=True)
        sweep(folder.parent)
        try:
            scenes.write_test_set(partial, int(count), seed=seed, split=split, names=names)
            partial.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process has just made the same scenes
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    scene = read_labels_csv(folder / LABELS_FILE, Vocabulary.of(names))
    targets = np.zeros((len(scene), len(vocabulary)), dtype=np.int8)  # [N, C]
    for column, (index, label) in enumerate(things.values()):
        shown = (scene.targets[:, column] == 1) & (targets[:, index] != 1)
        targets[shown, index] = label
    title = f"{count} miniature scenes, {MINIATURE_SPLITS[split]}"
    return LabelledImages(title, scene.files, targets, folder=folder)


def _whole(folder: Path, names: list[str]) -> bool:
    """Whether all scenes of a folder are there and listed."""
    try:
        found = read_labels_csv(folder / LABELS_FILE, Vocabulary.of(names))
    except UserError:
        return False
    return len(found) == int(folder.name.split("-")[2])


def _things_of(vocabulary: Vocabulary) -> dict[str, tuple[int, int]]:
    """Name of a thing of the miniature's world -> class, and its label where the thing is shown.

    The label is 1 where the thing and the class have one name. It is unknown where only a narrower
    word of the thing names the class: a bird may or may not be the duck that is asked for.
    """
    from t2ipal.miniature.world import THINGS

    known = ClassNames(vocabulary)
    things: dict[str, tuple[int, int]] = {}
    for thing in THINGS:
        plain, *narrower = thing.words
        for label, words in ((1, (thing.name, plain)), (UNKNOWN, narrower)):
            found = [classes[0] for word in words if (classes := known.find(word))]
            if found:
                things[thing.name] = found[0], label
                break
    return things
