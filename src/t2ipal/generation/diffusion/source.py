"""Where a text-to-image pipeline comes from: a folder or the Hugging Face hub, and which revision.

``locate`` answers without a network and without loading anything, so that a finished run can be
recognised as finished; ``load_pipeline`` then loads with diffusers. A pipeline comes from someone
else, so what it says is checked before: it may name classes of diffusers and transformers, but no
code of its own, and its weights are safetensors.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2ipal.errors import UserError, nearest
from t2ipal.files import sha256_file
from t2ipal.files.hub import download_command, fetch, first_line, hub_failures
from t2ipal.files.tables import read_text

if TYPE_CHECKING:
    import torch

INDEX = "model_index.json"
_LARGEST_JSON = 2**26  # bytes; tokenizers are half as large
_MOST_STEPS = 100_000  # of training; no scheduler has a larger number
_LONGEST_SIDE, _LONGEST = 4096, 2**20
_NO_TABLE = re.compile(r"UNet|Autoencoder|^VQ")  # of positions
_ANY_TABLE = 2**24  # numbers that are no danger to any memory
_COUNT = re.compile(r"(^|_)(layers|blocks|depth)(_|$)")  # what has weights of its own
_NO_SIZE = re.compile(r"theta|_ids?$|position|seq_length")  # of the text encoders
_HUB_ID = re.compile(r"\w([\w.-]*\w)?/\w([\w.-]*\w)?")


@dataclass(frozen=True)
class Source:
    """A pipeline's origin.

    ``folder`` is None for the hub. ``revision`` is a digest of the folder's files (``sha256:...``)
    or the hub's commit; None for a model of the hub that is not in the local cache.
    """

    spec: str
    folder: Path | None
    revision: str | None


def locate(spec: str, revision: str | None = None) -> Source:
    """Find ``spec``: ``miniature``, a folder in diffusers' format, or a hub id ``owner/name``.

    Raises:
        UserError: it is none of them, or the folder holds no pipeline.
    """
    if spec == "miniature":
        from t2ipal.miniature.weights import path

        folder = path("generator")
    elif (given := Path(spec).expanduser()).exists():
        folder = given
    elif _HUB_ID.fullmatch(spec):
        return Source(spec, None, _cached_commit(spec, revision))
    else:
        raise UserError(
            f"{spec}: no such generator{nearest(spec, ['miniature'])}; give a folder in diffusers' "
            "format, a hub id such as stabilityai/sd-turbo, or miniature."
        )
    if not (folder / INDEX).is_file():
        raise UserError(
            f"{folder}: no diffusers pipeline, because {INDEX} is missing; give the folder that "
            "save_pretrained or 'hf download' made, with all its subfolders."
        )
    if revision is not None:
        raise UserError(f"{spec}: a folder has no revisions; leave out the revision {revision!r}.")
    return Source(spec, folder, _folder_digest(folder))


def _folder_digest(folder: Path) -> str:
    """``sha256:`` and 16 hex digits over the index and every file of the components it names.

    Raises:
        UserError: the index is not a JSON object, or names code.
    """
    index = _read_index(folder / INDEX)
    parts = [folder / name for name, value in index.items() if isinstance(value, list)]
    files = [path for part in parts for path in part.rglob("*") if path.is_file()]
    digest = hashlib.sha256()
    for path in sorted([folder / INDEX, *files]):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{sha256_file(path)}\n".encode())
    return f"sha256:{digest.hexdigest()[:16]}"


def load_pipeline(source: Source, revision: str | None, dtype: torch.dtype) -> tuple[Any, Source]:
    """The pipeline on the CPU, and its source with the revision that was loaded.

    ``AutoPipelineForText2Image`` where it knows the class, else ``DiffusionPipeline``.

    Raises:
        UserError: diffusers is missing, or the model cannot be fetched or loaded.
    """
    try:
        from diffusers import AutoPipelineForText2Image, DiffusionPipeline
    except ImportError as error:
        raise UserError(
            f"generating images needs diffusers ({error}); run: pip install diffusers accelerate"
        ) from error
    options: dict[str, Any] = {"use_safetensors": True, "trust_remote_code": False}
    try:
        with quiet_bars():
            folder = source.folder
            if folder is None:
                commit = _fetch_commit(source.spec, revision)
                source = replace(source, revision=commit)
                folder = _download(source.spec, commit, options)
            _refuse_code(folder)
            _refuse_sizes(folder)
            options["dtype"] = dtype
            try:
                return AutoPipelineForText2Image.from_pretrained(str(folder), **options), source
            except ValueError as error:
                if "AutoPipeline can't find" not in str(error):
                    raise
                return DiffusionPipeline.from_pretrained(str(folder), **options), source
    except UserError:
        raise
    except Exception as error:  # whatever diffusers and transformers make of bad files
        advice = (
            f"run: {download_command(source.spec)}"
            if source.folder is None
            else "check that the folder is complete and that your diffusers is as new as it"
        )
        raise UserError(
            f"{source.spec}: the pipeline cannot be loaded ({first_line(error)}); {advice}"
        ) from error


@contextmanager
def quiet_bars() -> Iterator[None]:
    """Hide the progress bars of diffusers and transformers; downloads keep theirs."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    loud = [log for log in (of_diffusers, of_transformers) if log.is_progress_bar_enabled()]
    for log in loud:
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log in loud:
            log.enable_progress_bar()


def _read_index(path: Path) -> dict[str, Any]:
    """The pipeline's index, which names its class and the class of each component.

    Raises:
        UserError: it is not a JSON object, or its class is not one of diffusers.
    """
    index = _read_json(path)
    if not isinstance(index.get("_class_name"), str):
        raise _code(path, "_class_name", "must be the name of a pipeline of diffusers")
    for key in ("custom_pipeline", "_custom_pipeline", "auto_map"):
        if key in index:
            raise _code(path, key, "names code")
    return index


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(path, _LARGEST_JSON))
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{path}: broken JSON ({error}); save it again.") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object; save the pipeline again.")
    return content


def _components(path: Path) -> dict[str, str]:
    """Name of each component of an index -> the name of its class, which is a known one.

    Raises:
        UserError: a class is not one of diffusers or transformers.
    """
    found = {}
    for name, value in _read_index(path).items():
        if not isinstance(value, list) or value == [None, None]:
            continue
        library, kind = value if len(value) == 2 else (None, None)
        if not isinstance(library, str) or not isinstance(kind, str):
            continue  # a number or so of the pipeline's settings, not a component
        known = library in ("diffusers", "transformers") or (
            library.isidentifier() and find_spec(f"diffusers.pipelines.{library}") is not None
        )
        part = path.parent / name if (path.parent / name).is_dir() else path.parent
        if not known or (part / f"{library}.py").exists():
            raise _code(path, name, f"names a class of {library!r}")
        found[name] = kind
    return found


def _refuse_code(folder: Path) -> None:
    """Refuse a pipeline that names code of its own, or whose weights are pickled.

    Raises:
        UserError: it does; file and key, or the file of weights, are named.
    """
    for name, kind in _components(folder / INDEX).items():
        part = folder / name if (folder / name).is_dir() else folder
        if kind.startswith("Auto"):  # asks the component's own configuration for the class
            for file in sorted(part.glob("*.json")):
                if "auto_map" in _read_json(file):
                    raise _code(file, "auto_map", "names code")
        files = list(part.glob("*"))
        pickled = [file for file in files if file.suffix in (".bin", ".pt", ".pth", ".ckpt")]
        if pickled and not any(file.suffix == ".safetensors" for file in files):
            raise UserError(
                f"{pickled[0]}: pickled weights are not loaded, because they can run code; convert "
                f"the pipeline: {_conversion(folder)}"
            )


def _refuse_sizes(folder: Path) -> None:
    """Refuse sizes that the weights do not have: diffusers makes tables and layers of them first.

    Raises:
        UserError: a size of a component is out of all proportion to its weights; it is named.
    """
    from safetensors import safe_open

    for name, kind in _components(folder / INDEX).items():
        part = folder / name
        for path in part.glob("scheduler_config.json"):
            for key, number in _numbers(_read_json(path)):
                if abs(number) > _MOST_STEPS:
                    raise _size(path, key, number, f"at most {_MOST_STEPS:,}")
        shapes = []
        for file in part.glob("*.safetensors"):
            with safe_open(file, "np") as stored:
                shapes += [stored.get_slice(one).get_shape() for one in stored.keys()]  # noqa: SIM118
        for path in part.glob("config.json") if shapes else ():
            config = _read_json(path)
            for key, number in _numbers(config):
                most = _most(key, kind, config, shapes)
                if isinstance(number, int) and abs(number) > most:
                    raise _size(path, key, number, f"at most {most:,} with these weights")


def _numbers(value: Any, key: str = "") -> Iterator[tuple[str, int | float]]:
    """Key and value of the finite numbers in a configuration, those in lists and groups too."""
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else ((key, one) for one in value)
        for name, one in pairs:
            yield from _numbers(one, name)
    elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        yield key, value


def _most(key: str, kind: str, config: dict[str, Any], shapes: list[list[int]]) -> int:
    """The largest whole number that the configuration of a class may give, by its weights."""
    sizes = [1, *(size for shape in shapes for size in shape)]
    if _COUNT.search(key):
        return len(shapes)
    if key in ("sample_size", "pos_embed_max_size"):
        if _NO_TABLE.search(kind):
            return _LONGEST_SIDE
        if key == "pos_embed_max_size" and (count := config.get(key)) in sizes:
            return int(count)  # AuraFlow counts positions, not sides
        patch, heads, width = (
            value if isinstance(value := config.get(name), int) and value > 0 else None
            for name in ("patch_size", "num_attention_heads", "attention_head_dim")
        )
        width = heads * width if heads and width else max(sizes)
        side = math.isqrt(max(sum(map(math.prod, shapes)), _ANY_TABLE) // width)
        return min(side * (patch or 1), _LONGEST_SIDE) if key == "sample_size" else side
    return sys.maxsize if _NO_SIZE.search(key) else max(*sizes, _LONGEST)


def _size(path: Path, key: str, number: int | float, allowed: str) -> UserError:
    return UserError(f"{path}: {key} is {number}, but must be {allowed}; restore the file.")


def _code(path: Path, key: str, problem: str) -> UserError:
    return UserError(
        f"{path}: {key} {problem}, but Python that comes with a model is never run; use a pipeline "
        "of diffusers' and transformers' own classes."
    )


def _cached_commit(spec: str, revision: str | None) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(spec, INDEX, revision=revision)
    return Path(found).parent.name if isinstance(found, str) else None


def _fetch_commit(spec: str, revision: str | None) -> str:
    """Fetch the pipeline's index, the smallest file that proves that the model can be had.

    Raises:
        UserError: it cannot be had, or the index names code, which is not even fetched.
    """
    index = fetch(spec, spec, INDEX, revision)
    if index is None:
        raise UserError(
            f"{spec}: has no {INDEX}, so it is no diffusers pipeline; give another model."
        )
    _components(index)
    return index.parent.name


def _download(spec: str, commit: str, options: dict[str, Any]) -> Path:
    """The folder of a pipeline of the hub; files that diffusers does not need are left there.

    Raises:
        UserError: the hub does not give it, or its weights are pickled.
    """
    from diffusers import DiffusionPipeline

    try:
        with hub_failures(spec, spec, commit):
            return Path(DiffusionPipeline.download(spec, revision=commit, **options))
    except OSError as error:
        if "safetensors" not in str(error):
            raise
        raise UserError(
            f"{spec}: its weights are pickled, which are not loaded, because they can run code; "
            f"convert it, then give FOLDER-safe: {download_command(spec)} --local-dir FOLDER && "
            f"{_conversion(Path('FOLDER'))}"
        ) from None


def _conversion(folder: Path) -> str:
    """The command that saves a pipeline with pickled weights again, as safetensors."""
    return (
        'python -c "from diffusers import DiffusionPipeline as P; '
        f'P.from_pretrained({str(folder)!r}).save_pretrained({f"{folder}-safe"!r})"'
    )
