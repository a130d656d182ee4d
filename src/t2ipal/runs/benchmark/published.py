"""Published figures, with backbone, supervision and source: the one file that holds them.

``published.yaml`` lies in the package, not in the documentation, because ``t2ipal benchmark`` puts
its rows beside what it has measured, wherever it is installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from t2ipal.errors import UserError, nearest
from t2ipal.method.checks import from_mapping

NUSWIDE = "nuswide"
TESTS = ("voc2007", "coco2014", NUSWIDE)
PROTOCOLS = ("zero-shot", "few-shot", "partial", "cross-dataset")


@dataclass(frozen=True)
class Figure:
    """One mAP in per cent.

    Attributes:
        test: voc2007, coco2014 or nuswide.
        setting: shots or share of labels, in words; empty if the protocol has none.
        list: of NUS-WIDE's test images, a key of ``Published.lists``; empty for the others.
    """

    test: str
    map: float
    setting: str = ""
    list: str = ""

    def __post_init__(self) -> None:
        if self.test not in TESTS:
            raise UserError(f"figure: test must be one of {', '.join(TESTS)}, not {self.test!r}.")
        if not 0 < self.map < 100:
            raise UserError(f"figure: map must be per cent, not {self.map!r}.")
        if bool(self.list) != (self.test == NUSWIDE):
            raise UserError("figure: those of nuswide, and no others, say their list.")


@dataclass(frozen=True)
class Row:
    """A published method on one backbone, from one source."""

    key: str
    method: str
    backbone: str
    uses: str
    protocol: str
    source: str
    figures: tuple[Figure, ...]

    def figure(self, test: str, list_: str = "") -> Figure | None:
        """Its one figure on these test images; None without one, or with several settings."""
        found = [f for f in self.figures if (f.test, f.list) == (test, list_)]
        return found[0] if len(found) == 1 else None


@dataclass(frozen=True)
class _Measured:
    """What this project measured with a configuration; ``record`` is the path of its record."""

    map: float
    record: str
    spread: float | None = None

    def __str__(self) -> str:
        return f"{self.map:.1f}" + ("" if self.spread is None else f" ± {self.spread:.1f}")


@dataclass(frozen=True)
class Published:
    """The whole file.

    Attributes:
        lists: NUS-WIDE's lists of test images: key -> words.
        rows: key -> row, in the file's order.
        measured: name of a configuration -> what was measured with it.
    """

    lists: dict[str, str]
    rows: dict[str, Row]
    measured: dict[str, _Measured]

    def row(self, key: str) -> Row:
        """The row of a key.

        Raises:
            UserError: there is none.
        """
        if key not in self.rows:
            raise UserError(f"no published row {key!r}{nearest(key, self.rows)}.")
        return self.rows[key]


@cache
def published() -> Published:
    """The file, read once."""
    text = (
        resources.files("t2ipal").joinpath("runs", "benchmark", "published.yaml").read_text("utf-8")
    )
    return _parse(yaml.safe_load(text))


def _parse(content: dict[str, Any]) -> Published:
    """The mapping of the file, checked.

    Raises:
        UserError: an unknown key, test, protocol or list.
    """
    lists = content["lists"]
    rows = {}
    for key, entry in content["rows"].items():
        figures = tuple(
            from_mapping(Figure, one, f"published {key}.figures") for one in entry["figures"]
        )
        row = Row(key=key, **{**entry, "figures": figures})
        if row.protocol not in PROTOCOLS:
            raise UserError(f"published {key}: protocol must be one of {', '.join(PROTOCOLS)}.")
        if odd := {f.list for f in figures if f.list} - set(lists):
            raise UserError(f"published {key}: unknown list {odd.pop()!r}.")
        rows[key] = row
    measured = {
        name: from_mapping(_Measured, entry, f"measured {name}")
        for name, entry in content["measured"].items()
    }
    return Published(lists, rows, measured)
