"""Options behind the name of a data set: ``NAME?key=value&key=value``."""

from __future__ import annotations

from collections.abc import Collection

from t2ipal.errors import UserError, nearest


def split_options(
    spec: str, rest: str, known: Collection[str], owner: str
) -> tuple[str, dict[str, str]]:
    """The name and the options of ``rest``, the part of ``spec`` that may have options.

    Raises:
        UserError: an option that is not ``known`` to the ``owner``.
    """
    name, _, text = rest.partition("?")
    options = dict(part.partition("=")[::2] for part in filter(None, text.split("&")))
    for key in options:
        if key not in known:
            raise UserError(
                f"{spec}: unknown option {key!r}{nearest(key, known)}; {owner} has "
                f"{', '.join(known)}."
            )
    return name, options
