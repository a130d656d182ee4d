"""Published figures, with backbone, supervision and source: the one file that holds them.

``published.yaml`` lies in the package, not in the documentation, because ``t2ipal benchmark`` puts
its rows beside what it has measured, wherever it is installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Gt, Lt

from t2ipal.errors import UserError, nearest, read_settings, settings
from t2ipal.files.yaml_files import read_yaml

NUSWIDE = "nuswide"
Test = Literal["voc2007", "coco2014", "nuswide"]
Protocol = Literal["zero-shot", "few-shot", "partial", "cross-dataset"]


@settings
class Figure:
    """One mAP in per cent.

    Attributes:
        test: voc2007, coco2014 or nuswide.
        setting: shots or share of labels, in words; empty if the protocol has none.
        list: of NUS-WIDE's test images, a key of ``Published.lists``; empty for the others.
    """

    test: Test
    map: Annotated[float, Gt(0), Lt(100)]
    setting: str = ""
    list: str = ""

    def _check(self) -> None:
        if bool(self.list) != (self.test == NUSWIDE):
            raise UserError("figure: those of nuswide, and no others, say their list.")


@settings
class Row:
    """A published method on one backbone, from one source."""

    key: str
    method: str
    backbone: str
    uses: str
    protocol: Protocol
    source: str
    figures: tuple[Figure, ...]

    def figure(self, test: str, list_: str = "") -> Figure | None:
        """Its one figure on these test images; None without one, or with several settings."""
        found = [f for f in self.figures if (f.test, f.list) == (test, list_)]
        return found[0] if len(found) == 1 else None


@settings
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
    return _parse(read_yaml(Path(__file__).with_name("published.yaml")))


def _parse(content: dict[str, Any]) -> Published:
    lists = content["lists"]
    rows = {}
    for key, entry in content["rows"].items():
        row = read_settings(Row, {"key": key, **entry}, f"published {key}.{{}}".format)
        if odd := {f.list for f in row.figures if f.list} - set(lists):
            raise UserError(f"published {key}: unknown list {odd.pop()!r}.")
        rows[key] = row
    measured = {
        name: read_settings(_Measured, entry, f"measured {name}.{{}}".format)
        for name, entry in content["measured"].items()
    }
    return Published(lists, rows, measured)
