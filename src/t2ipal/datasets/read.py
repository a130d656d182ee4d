"""Labelled images from what a user names: a folder, a file, a benchmark, or the miniature."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import numpy as np

from t2ipal.datasets.coco_json import read_coco_json
from t2ipal.datasets.labelled_images import ClassNames, LabelledImages
from t2ipal.datasets.labels_csv import LABELS_FILE, read_labels_csv
from t2ipal.datasets.official import parse_layout
from t2ipal.errors import UserError, nearest
from t2ipal.files import sha256_file, sha256_text, sweep, temporary_path, write_text
from t2ipal.files.broken import Broken
from t2ipal.files.folders import LeftOut, find_images, hidden
from t2ipal.files.pictures import has_picture_suffix
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
_OTHERS = {"absent": 0, "unknown": UNKNOWN}


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
            folders of images named by class (classes that a folder does not name are absent from
            its images, with ``DIR?others=unknown`` unknown in them), or
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
            found = _read_image_folder(path, vocabulary, others=others or "absent")
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
    if key != "others" or value not in _OTHERS:
        raise UserError(f"{spec}: expected others={' or others='.join(_OTHERS)} behind the '?'.")
    return Path(folder), value


def _read_image_folder(
    path: Path, vocabulary: Vocabulary, *, others: str = "absent"
) -> LabelledImages | None:
    """Images sorted into folders by class, as torchvision's ImageFolder has them.

        PHOTOS/dog/1.jpg
        PHOTOS/potted plant/summer/2.jpg

    A folder names one class of an image and does not say whether the image shows others too. By
    default they count as absent, as is usual when such folders are evaluated; an average precision
    needs absent images. With ``PHOTOS?others=unknown`` there is nothing to evaluate.

    A class without a folder is absent from (or unknown in) all images. An image that lies in
    several folders, by links, shows several classes.

    Folders go by name, readable name or synonym of a class, letter case and underscores aside;
    those that start with a dot are left out. None if no folder in it holds an image.

    Args:
        others: the label of classes that an image's folder does not name: absent or unknown.

    Raises:
        UserError: a folder of no class, two folders of one class, or images beside the folders.
    """
    left_out = LeftOut()
    inside = {
        entry: list(find_images([entry], left_out))
        for entry in sorted(path.iterdir())
        if entry.is_dir() and not hidden(entry.name)
    }
    if not any(inside.values()):
        if str(left_out):
            raise UserError(f"{path}: no image in its folders ({left_out}); check the path.")
        return None
    loose = (e for e in sorted(path.iterdir()) if has_picture_suffix(e.name))
    for entry in filter(Path.is_file, loose):
        raise UserError(
            f"{entry}: lies in no class's folder; move it into one, or name a folder without "
            "loose images."
        )
    known = ClassNames(vocabulary)
    files: dict[str, Path] = {}  # by real path: one that lies in two folders shows both classes
    columns: dict[str, list[int]] = {}
    folder_of: dict[int, str] = {}
    for entry, images in inside.items():
        if not images:
            left_out.add("folders without an image", entry.name)
            continue
        found = known.find(entry.name)
        if not found:
            raise UserError(
                f"{entry}: unknown class {entry.name!r}{nearest(entry.name, vocabulary.names)}; "
                f"rename the folder to a class of the vocabulary {vocabulary.title!r}."
            )
        if found[0] in folder_of:
            raise UserError(
                f"{entry}: is about class {vocabulary.names[found[0]]!r}, as the folder "
                f"{folder_of[found[0]]!r} is; merge them."
            )
        folder_of[found[0]] = entry.name
        for image in images:
            real = os.path.realpath(image)
            files.setdefault(real, image)
            columns.setdefault(real, []).extend(found)
    targets = np.full((len(files), len(vocabulary)), _OTHERS[others], dtype=np.int8)
    for row, classes in enumerate(columns.values()):
        targets[row, classes] = 1
    notes = (str(left_out),) if str(left_out) else ()
    return LabelledImages(str(path), tuple(files.values()), targets, (), path, notes)


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
    files = Path(scenes.__file__).parent.iterdir()
    sources = sorted(file for file in files if file.suffix in (".py", ".yaml"))
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
            write_text(partial / _DIGEST, _content(partial, names))
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


_DIGEST = "sha256.txt"


def _whole(folder: Path, names: list[str]) -> bool:
    """Whether the scenes of a folder, and what is said of them, are as they were made."""
    try:
        return (folder / _DIGEST).read_text(encoding="ascii") == _content(folder, names)
    except (UserError, FileNotFoundError, UnicodeError):
        return False


def _content(folder: Path, names: list[str]) -> str:
    labels = folder / LABELS_FILE
    files = read_labels_csv(labels, Vocabulary.of(names)).files
    return sha256_text(*map(sha256_file, (labels, *files)))


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
