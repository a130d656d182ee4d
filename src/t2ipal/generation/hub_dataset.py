"""Images with captions out of a data set of Hugging Face's ``datasets`` library."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from t2ipal.datasets.official import split_options
from t2ipal.errors import UserError, nearest
from t2ipal.files.broken import Broken
from t2ipal.files.folders import LeftOut
from t2ipal.files.hub import first_line
from t2ipal.generation.samples import CAPTION_KEYS, WITHOUT_CAPTION, Sample

_OPTIONS = ("split", "image", "caption", "revision")


def dataset_samples(spec: str, left_out: LeftOut, broken: Broken) -> Iterator[Sample]:
    """The samples of ``NAME[?split=...&image=...&caption=...&revision=...]``, in its order.

    NAME is a data set on the hub, a folder that ``save_to_disk`` made, or one that the library
    reads: parquet files, an ImageFolder, webdataset shards. If options are omitted, the only split
    is taken (or train), the only column of images, and the column text, caption, prompt or txt.

    A folder is read where it lies; what comes from the hub is kept in the library's cache. No code
    of a data set is run.

    Args:
        left_out, broken: as :func:`t2ipal.generation.samples.read_samples` takes them.

    Raises:
        UserError: the library is missing, the data set cannot be had, or a column is missing or of
            another kind.
    """
    name, options = split_options(f"hf:{spec}", spec, _OPTIONS, "a data set")
    data = _one_split(name, _load(name, options.get("revision")), options.get("split"))
    from datasets import Image

    columns = data.features or {}  # a stream of text files does not know its columns
    pictures = [key for key, kind in columns.items() if isinstance(kind, Image)]
    image = _column(name, pictures, options.get("image"), "image", pictures)
    wanted = [key for key in (*CAPTION_KEYS, "prompt", "txt") if key in columns]
    caption = _column(name, list(columns), options.get("caption"), "caption", wanted[:1])
    data = data.select_columns([image, caption]).cast_column(image, Image(decode=False))
    for number, row in enumerate(data):
        where = f"hf:{name}: row {number}"
        text = row[caption]
        if text is not None and not isinstance(text, str):
            raise UserError(
                f"{where}: {caption} is {type(text).__name__}, not one text; "
                "give a column with one caption an image."
            )
        if not text or not text.strip():
            left_out.add(WITHOUT_CAPTION, f"row {number}")
            continue
        picture = row[image] or {}
        content = picture.get("bytes") or (Path(picture["path"]) if picture.get("path") else None)
        if content is None:
            broken.add(where, UserError(f"{where}: has no image; remove the row."))
            continue
        yield Sample(f"{number:09}", " ".join(text.split()), where, content)


def _load(name: str, revision: str | None) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            f"hf:{name}: needs Hugging Face's datasets ({error}); run: pip install datasets"
        ) from error
    folder = Path(name).expanduser()
    saved = any((folder / file).is_file() for file in ("state.json", "dataset_dict.json"))
    try:
        if saved:
            return datasets.load_from_disk(str(folder))
        if folder.is_dir():  # streamed: otherwise all images are copied to the cache first
            return datasets.load_dataset(str(folder), streaming=True)
        return datasets.load_dataset(name, revision=revision)
    except Exception as error:  # the library passes on what its readers and the hub raise
        raise UserError(
            f"hf:{name}: the data set cannot be loaded ({first_line(error)}); give a name on the "
            "hub, a folder of parquet files, or one that save_to_disk made."
        ) from error


def _one_split(name: str, data: Any, split: str | None) -> Any:
    splits = list(data) if isinstance(data, dict) else []
    if not splits:
        if split is not None:
            raise UserError(f"hf:{name}: has no splits; leave out split={split}.")
        return data
    if split is None and (len(splits) == 1 or "train" in splits):
        split = splits[0] if len(splits) == 1 else "train"
    if split not in splits:
        raise UserError(f"hf:{name}: choose a split with ?split=...: {', '.join(splits)}.")
    return data[split]


def _column(name: str, there: list[str], asked: str | None, kind: str, guesses: list[str]) -> str:
    if asked is not None:
        if asked not in there:
            raise UserError(
                f"hf:{name}: no {kind} column {asked!r}{nearest(asked, there)}; "
                f"there are: {', '.join(there) or 'none'}."
            )
        return asked
    if len(guesses) != 1:
        found = ", ".join(there) or "none"
        raise UserError(f"hf:{name}: name the {kind} column with ?{kind}=...; there are: {found}.")
    return guesses[0]
