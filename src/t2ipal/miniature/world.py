"""What exists in the miniature's world, as ``world.yaml`` lists it: classes, companions, places."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class _Thing:
    """One class of the world: its key, the words of captions for it, and the names of its icons."""

    name: str
    words: tuple[str, ...]
    icons: tuple[str, ...]


_FILE: dict[str, Any] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text("utf-8"))

THINGS = tuple(
    _Thing(name, tuple(thing["words"]), tuple(thing["icons"]))
    for name, thing in _FILE["things"].items()
)
VOC, DISTRACTORS = THINGS[:20], THINGS[20:]
INDEX: dict[str, int] = {thing.name: i for i, thing in enumerate(THINGS)}

CIRCLES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = tuple(
    (tuple(circle["things"]), tuple(circle["places"])) for circle in _FILE["circles"]
)
"""Things that occur together, and the places where they do."""

PLACES: dict[str, tuple[str, ...]] = {
    name: tuple(place["words"]) for name, place in _FILE["places"].items()
}
"""A place's words in a caption."""

GROUND: dict[str, tuple[Colour, Colour, float]] = {
    name: (tuple(upper), tuple(lower), share)
    for name, place in _FILE["places"].items()
    for upper, lower, share in [place["ground"]]
}
"""A place's upper colour, its lower colour, and where they meet as a share of the height."""
