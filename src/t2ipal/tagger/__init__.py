"""The trained model as its user holds it."""

from pathlib import Path

from t2ipal.errors import UserError, nearest
from t2ipal.files import sha256_file, sha256_text
from t2ipal.files.hub import hub_failures

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


def from_hub(name: str, revision: str | None = None) -> Path:
    """The folder of a model on the hub, downloaded if it is not here yet.

    Args:
        name: ``ORG/NAME``, or ``ORG/NAME@REVISION``.
        revision: branch, tag or commit; the newest if omitted.

    Raises:
        UserError: there is no such model, or the hub cannot be reached.
    """
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
    folder = model_folder(model) or from_hub(str(model))
    found = [folder] if folder.is_file() else [folder / name for name in (CONFIG, WEIGHTS)]
    return sha256_text(*(sha256_file(path) for path in found if path.is_file()))
