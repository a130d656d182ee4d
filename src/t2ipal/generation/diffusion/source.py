"""Where a text-to-image pipeline comes from: a folder or the Hugging Face hub, and which revision.

``locate`` answers without a network and without loading anything, so that a finished run can be
recognised as finished; ``load_pipeline`` then loads with diffusers.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2ipal.errors import UserError, nearest
from t2ipal.files import sha256_file
from t2ipal.generation.diffusion.quiet import quiet_bars

if TYPE_CHECKING:
    import torch

INDEX = "model_index.json"
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
    return Source(spec, folder, folder_digest(folder))


def folder_digest(folder: Path) -> str:
    """``sha256:`` and 16 hex digits over the index and every file of the components it names.

    Raises:
        UserError: the index is not a JSON object.
    """
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{folder / INDEX}: broken JSON ({error}); save it again.") from None
    if not isinstance(index, dict):
        raise UserError(f"{folder / INDEX}: expected a JSON object; save the pipeline again.")
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
            f"drawing images needs diffusers ({error}); run: pip install 't2ipal[generate]'"
        ) from error
    options: dict[str, Any] = {"torch_dtype": dtype}
    if source.folder is None:
        source = replace(source, revision=_fetch_commit(source.spec, revision))
        options["revision"] = source.revision
    place = str(source.folder or source.spec)
    try:
        with quiet_bars(), warnings.catch_warnings():
            # diffusers renames the argument from 0.42 on; the old name is the one all versions take
            warnings.filterwarnings("ignore", category=FutureWarning, message=".*torch_dtype.*")
            try:
                return AutoPipelineForText2Image.from_pretrained(place, **options), source
            except ValueError as error:
                if "AutoPipeline can't find" not in str(error):
                    raise
                return DiffusionPipeline.from_pretrained(place, **options), source
    except (OSError, ValueError, ImportError, AttributeError) as error:
        advice = (
            f"run: hf download {source.spec}"
            if source.folder is None
            else "check that the folder is complete and that your diffusers is as new as it"
        )
        raise UserError(
            f"{source.spec}: the pipeline cannot be loaded ({_first_line(error)}); {advice}"
        ) from error


def _cached_commit(spec: str, revision: str | None) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(spec, INDEX, revision=revision)
    return Path(found).parent.name if isinstance(found, str) else None


def _fetch_commit(spec: str, revision: str | None) -> str:
    """Fetch the pipeline's index, the smallest file that proves that the model can be had."""
    from huggingface_hub import errors, hf_hub_download

    at = f" at revision {revision}" if revision else ""
    try:
        return Path(hf_hub_download(spec, INDEX, revision=revision)).parent.name
    except errors.GatedRepoError:
        reason = "asks for its licence to be accepted; do so on its page, then run: hf auth login"
    except errors.RepositoryNotFoundError:
        reason = "is not on the hub, or is private; check the name, or run: hf auth login"
    except errors.RevisionNotFoundError:
        reason = "is not on the hub; check the revision"
    except errors.LocalEntryNotFoundError:
        option = f" --revision {revision}" if revision else ""
        reason = (
            "is not in the local cache and the hub cannot be reached; where there is a network, "
            f"run: hf download {spec}{option}"
        )
    except errors.EntryNotFoundError:
        reason = f"has no {INDEX}, so it is no diffusers pipeline; give another model"
    except OSError as error:
        reason = f"cannot be fetched ({_first_line(error)}); run: hf download {spec}"
    raise UserError(f"{spec}{at} {reason}")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
