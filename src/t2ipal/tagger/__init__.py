"""The trained model as its user holds it: where it is saved, and what it says of itself there."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from t2ipal.errors import UserError, nearest
from t2ipal.files import check, sha256_file, sha256_text
from t2ipal.files.hub import hub_failures
from t2ipal.files.tables import parse_json, read_json
from t2ipal.vocabulary import Vocabulary

FORMAT = 3
CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"

PACKAGED = {"photo": Path(__file__).parent / "models" / "photo"}
"""Name -> folder of the taggers that come with the package; a folder of that name is ``./NAME``."""


def model_folder(model: str | Path, *, typed: bool = False) -> Path | None:
    """The folder of a model, packaged or on disk, or its ONNX file; None for ``ORG/NAME``.

    Args:
        typed: by hand, so that where there is a folder ``ORG``, a mistyped folder is meant.

    Raises:
        UserError: it is neither there nor such a name.
    """
    path, text = PACKAGED.get(str(model), Path(model)), str(model)
    if path.is_dir() or path.is_file():
        return path
    named = text.count("/") == 1 and not text.startswith((".", "/", "~"))
    named &= path.suffix.lower() != ".onnx"
    if named and not (typed and path.parent.is_dir()):
        return None
    raise UserError(
        f"{model}: no such folder or file{nearest(text, PACKAGED)}; name a model folder such as "
        f"RUN/model, an ONNX file, or {' or '.join(PACKAGED)}, the tagger of this package."
    )


def _from_hub(name: str, revision: str | None = None) -> Path:
    """The folder of a model on the hub, downloaded if it is not here yet."""
    from huggingface_hub import snapshot_download

    repo, _, at = name.partition("@")
    revision = revision or at or None
    with hub_failures(name, repo, revision):
        patterns = [CONFIG, WEIGHTS, CARD]
        return Path(snapshot_download(repo, revision=revision, allow_patterns=patterns))


def model_digest(model: str | Path) -> str:
    """64 hex digits that change with the files of a model.

    Raises:
        UserError: there is no such model.
    """
    folder = model_folder(model) or _from_hub(str(model))
    found = [folder] if folder.is_file() else [folder / name for name in (CONFIG, WEIGHTS)]
    return sha256_text(*(sha256_file(path) for path in found if path.is_file()))


def saved_vocabulary(model: str | Path) -> Vocabulary:
    """The classes of a saved model, without loading it.

    Raises:
        UserError: there is no such model, or it is damaged.
    """
    config, place = read_config(model)
    return Vocabulary.from_dict(config.get("vocabulary", {}), str(place))


def read_config(model: str | Path, revision: str | None = None) -> tuple[dict[str, Any], Path]:
    """The configuration of a model, downloaded if it is on the hub, and the file it stands in.

    Args:
        model: as :func:`model_folder` takes it, or ``ORG/NAME@REVISION``.
        revision: branch, tag or commit on the hub; the newest if omitted.

    Raises:
        UserError: there is no such model, or a damaged one.
    """
    folder = model_folder(model)
    if folder is not None and revision is not None:
        raise UserError(f"{model}: a folder has no revisions; leave out {revision!r}.")
    folder = folder or _from_hub(str(model), revision)
    path = folder / CONFIG
    if folder.is_file():
        from t2ipal.tagger.onnx_model import CONFIG_KEY, onnx_metadata

        path = folder
        config = parse_json(onnx_metadata(folder)[CONFIG_KEY], path)
    elif not path.exists():
        raise UserError(
            f"{folder}: holds no {CONFIG}, so it is no saved tagger; name a folder that "
            "'t2ipal train' or 't2ipal run' wrote, such as RUN/model."
        )
    else:
        config = read_json(path)
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise UserError(f"{path}: is no tagger of format {FORMAT}; update t2ipal or train again.")
    if not folder.is_file():
        check(_Saved, config, lambda keys: str(path))
    return config, path


@dataclass(frozen=True)
class _SavedClip:
    """The entry ``backbone`` of a saved model; its settings are checked when they are made."""

    spec: str
    digest: str
    image_size: int
    pool_positions: bool = True


@dataclass(frozen=True)
class _Saved:
    """What a saved model says; what is in the parts is checked by those that read them."""

    vocabulary: dict[str, Any]
    backbone: _SavedClip
    head: dict[str, Any]
    thresholds: dict[str, Any]
    about: dict[str, Any] = field(default_factory=dict)
