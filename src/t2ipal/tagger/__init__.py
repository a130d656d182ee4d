"""The trained model as its user holds it."""

from pathlib import Path

from t2ipal.errors import UserError, nearest

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
