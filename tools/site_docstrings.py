"""Docstrings as Markdown for the documentation site; an extension of griffe (``mkdocs.yml``)."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":\w+:`~?([^`]+)`")  # :func:`t2ipal.captions.labelled.label_captions`


class Markdown(griffe.Extension):
    """Turn cross-references of reStructuredText into code, and ``::`` before a block into ``:``."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            text = _ROLE.sub(r"`\1`", obj.docstring.value)
            obj.docstring.value = re.sub(r"::$", ":", text, flags=re.MULTILINE)
