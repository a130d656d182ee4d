"""Docstrings as Markdown for the documentation site; an extension of griffe (``mkdocs.yml``)."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":\w+:`~?([^`]+)`")  # :func:`t2ipal.captions.labelled.label_captions`


class Markdown(griffe.Extension):
    """Turn cross-references of reStructuredText into code, ``::`` before a block into ``:``, and
    keep brackets from being read as links (``miniature[:test][:N]``)."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = "\n".join(map(_line, obj.docstring.value.splitlines()))


def _line(line: str) -> str:
    if line.lstrip().startswith((">>>", "...")):
        return line
    line = re.sub(r"::$", ":", _ROLE.sub(r"`\1`", line))
    parts = line.split("`")  # what lies between two ticks is code
    parts[::2] = [part.replace("][", "]\\[") for part in parts[::2]]
    return "`".join(parts)
