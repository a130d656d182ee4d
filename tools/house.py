"""The structure of the package in figures, read from its source.

    python tools/house.py          # the figures
    python tools/house.py --rooms  # and each room with the rooms it imports

A *room* is a folder of modules inside the package, or a module that lies loose in its root. An
*arrow* leads from one room to another that it imports, also inside functions and for type
checking. A *circle* is a set of rooms that reach one another. A *doubled name* is a base name that
several modules share. A name is *public* if a module defines it at its top level as a class or a
function without a leading underscore.
"""

from __future__ import annotations

import argparse
import ast
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "t2ipal"


@dataclass(frozen=True)
class House:
    """What the source says.

    Attributes:
        rooms: names of the rooms, such as ``captions/nouns``; a loose module has a ``.py``.
        loose: modules that lie loose in the root, ``__init__`` and ``__main__`` among them.
        arrows: room -> rooms that it imports.
        circles: groups of rooms that import one another, directly or not.
        doubled: base name -> modules of that name, where there are several.
        public: module -> its public top-level names.
        lines: of Python.
    """

    rooms: tuple[str, ...]
    loose: tuple[str, ...]
    arrows: dict[str, set[str]]
    circles: list[list[str]]
    doubled: dict[str, list[str]]
    public: dict[str, list[str]]
    lines: int


def survey(package: Path = PACKAGE) -> House:
    """Read the package."""
    modules = {_dotted(path, package): path for path in sorted(package.rglob("*.py"))}
    trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in modules.items()}
    rooms = {name: _room(path, package) for name, path in modules.items()}
    arrows: dict[str, set[str]] = defaultdict(set)
    for name, tree in trees.items():
        for target in _imported(tree, package.name):
            here, there = rooms[name], rooms.get(target, "")
            if here and there and here != there:
                arrows[here].add(there)
    bases = defaultdict(list)
    for path in modules.values():
        if not path.stem.startswith("__"):
            bases[path.stem].append(path.relative_to(package).as_posix())
    public = {
        path.relative_to(package).as_posix(): names
        for name, path in modules.items()
        if (names := _public(trees[name]))
    }
    return House(
        rooms=tuple(sorted({room for room in rooms.values() if room})),
        loose=tuple(path.name for path in modules.values() if path.parent == package),
        arrows={room: arrows[room] for room in sorted(arrows)},
        circles=_circles(arrows),
        doubled={stem: paths for stem, paths in sorted(bases.items()) if len(paths) > 1},
        public=public,
        lines=sum(len(path.read_text(encoding="utf-8").splitlines()) for path in modules.values()),
    )


def _dotted(path: Path, package: Path) -> str:
    parts = (package.name, *path.relative_to(package).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _room(path: Path, package: Path) -> str:
    """The room of a module; empty for the package's own ``__init__`` and ``__main__``."""
    if path.parent != package:
        return path.parent.relative_to(package).as_posix()
    return "" if path.stem.startswith("__") else path.name


def _imported(tree: ast.Module, package: str) -> set[str]:
    """Dotted names that the module imports from the package; of ``from a import b`` both."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in found if name.partition(".")[0] == package}


def _public(tree: ast.Module) -> list[str]:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    names = {node.name for node in tree.body if isinstance(node, kinds)}
    return sorted(name for name in names if not name.startswith("_"))


def _circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected groups of more than one room."""

    def reached(start: str) -> set[str]:
        found: set[str] = set()
        waiting = [start]
        while waiting:
            for room in arrows.get(waiting.pop(), set()) - found:
                found.add(room)
                waiting.append(room)
        return found

    beyond = {room: reached(room) for room in list(arrows)}
    groups = {
        tuple(sorted(other for other in rooms if room in beyond.get(other, set())))
        for room, rooms in beyond.items()
        if room in rooms
    }
    return [list(group) for group in sorted(groups)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rooms", action="store_true", help="each room and what it imports")
    parser.add_argument("--names", action="store_true", help="the public names of each module")
    given = parser.parse_args()
    house = survey()
    if given.rooms:
        for room in house.rooms:
            print(f"{room:24} -> {', '.join(sorted(house.arrows.get(room, ())))}")
    if given.names:
        for module, names in house.public.items():
            print(f"{module:40} {len(names):3}  {', '.join(names)}")
    print(f"rooms         {len(house.rooms)}")
    print(f"loose modules {len(house.loose)}  ({', '.join(house.loose)})")
    print(f"arrows        {sum(map(len, house.arrows.values()))}")
    print(f"circles       {len(house.circles)}")
    for circle in house.circles:
        print(f"  {' <-> '.join(circle)}")
    print(f"doubled names {len(house.doubled)}")
    for stem, paths in house.doubled.items():
        print(f"  {stem}: {', '.join(paths)}")
    counted = Counter({module: len(names) for module, names in house.public.items()})
    print(f"public names  {counted.total()}")
    print(f"lines         {house.lines}")


if __name__ == "__main__":
    main()
