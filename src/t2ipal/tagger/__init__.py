"""The trained model as its user holds it."""

from pathlib import Path

from t2ipal.errors import UserError, nearest
from t2ipal.files import sha256_file, sha256_text

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"

PACKAGED = {"photo": Path(__file__).parent / "models" / "photo"}
"""Name -> folder of the taggers that come with the package; a folder of that name is ``./NAME``."""


def model_folder(model: str | Path, *, typed: bool = False) -> Path | None:
    """The folder of a model: a packaged one or one on disk; None for ``ORG/NAME`` on the hub.

    Args:
        typed: by hand, so that where there is a folder ``ORG``, a mistyped folder is meant.

    Raises:
        UserError: it is neither there nor such a name.
    """
    path, text = PACKAGED.get(str(model), Path(model)), str(model)
    if path.is_dir():
        return path
    named = text.count("/") == 1 and not text.startswith((".", "/", "~"))
    if named and not (typed and path.parent.is_dir()):
        return None
    raise UserError(
        f"{model}: no such folder{nearest(text, PACKAGED)}; name a model folder such as RUN/model, "
        f"or {' or '.join(PACKAGED)}, the tagger of this package."
    )


def from_hub(name: str) -> Path:
    """The folder of a model on the hub, downloaded if it is not here yet.

    Raises:
        UserError: there is no such model, or the hub cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=[CONFIG, WEIGHTS, CARD]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        first = str(error).strip().split("\n")[0]
        raise UserError(
            f"{name}: neither a folder here nor a model on the hub that can be reached ({first})."
        ) from None


def model_digest(model: str | Path) -> str:
    """64 hex digits that change with the files of a model.

    Raises:
        UserError: there is no such model.
    """
    folder = model_folder(model) or from_hub(str(model))
    found = [folder / name for name in (CONFIG, WEIGHTS)]
    return sha256_text(*(sha256_file(path) for path in found if path.is_file()))
