"""One walk through folders: which pictures lie there, and which files were left out and why."""

from __future__ import annotations

import glob
import hashlib
import itertools
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from t2ipal.errors import UserError, listed
from t2ipal.files.pictures import is_picture, why_left_out

_COMMON = (".jpg", ".jpeg", ".png", ".webp")
_PLURAL = re.compile(r"\b(image|file|folder|link|sample)s\b")
_SYSTEM_FOLDERS = frozenset({"@eadir", "__macosx", "$recycle.bin", "lost+found", "__pycache__"})


class LeftOut:
    """What was not taken: files and folders of a walk, samples of a data set.

    Attributes:
        reasons: why -> how many.
    """

    def __init__(self) -> None:
        self.reasons: Counter[str] = Counter()
        self._names: dict[str, list[str]] = {}

    def add(self, reason: str, name: str = "") -> None:
        """Count one more; the first few names are remembered."""
        self.reasons[reason] += 1
        if name and len(names := self._names.setdefault(reason, [])) < 3:
            names.append(name)

    def __str__(self) -> str:
        """``left out: 7 .heic (pip install pillow-heif), 2 hidden files``; empty if nothing was."""
        found = []
        for why, n in self.reasons.most_common():
            names = self._names.get(why, [])
            more = f" and {n - len(names)} more" if n > len(names) else ""
            why = _PLURAL.sub(r"\1", why, count=1) if n == 1 else why
            found.append(f"{n} {why}" + (f" ({listed(names)}{more})" if names else ""))
        return f"left out: {', '.join(found)}" if found else ""


def find_images(
    paths: Iterable[str | Path], left_out: LeftOut | None = None, *, recursive: bool = True
) -> Iterator[Path]:
    """The pictures that paths, folders and glob patterns name, folders in sorted order.

    A file that is named outright is taken whatever it is called. In folders, files are taken that
    Pillow can read; symbolic links are followed and a folder that a link leads back to is entered
    once; hidden files and folders, and those that systems put beside pictures (``@eaDir``,
    ``._*``, checkpoints of notebooks), are left out. A picture that is reached twice is taken once.

    Args:
        left_out: counts what is not taken.
        recursive: enter sub-folders.

    Raises:
        UserError: a path does not exist, or a pattern matches nothing.
    """
    walk = _Walk(LeftOut() if left_out is None else left_out, recursive)
    for text in paths:
        path = Path(text)
        if path.is_dir():
            yield from walk.folder(path)
        elif path.exists():
            if walk.first(os.path.realpath(path)):
                yield path
        else:
            found = sorted(glob.glob(str(text), recursive=True))
            if not found:
                raise UserError(f"{text}: no such file, folder or pattern; check the path.")
            for name in found:
                if os.path.isdir(name):
                    yield from walk.folder(Path(name))
                elif walk.takes(Path(name)) and walk.first(os.path.realpath(name)):
                    yield Path(name)


def common_folder(paths: Iterable[str | Path]) -> Path:
    """The deepest folder that holds all that the paths, folders and glob patterns name."""
    found = []
    for text in paths:
        path = Path(text)
        if not path.exists():  # a pattern: what stands before its first wildcard
            plain = itertools.takewhile(lambda part: not glob.has_magic(part), path.parts)
            path = Path(*plain)
        found.append(os.path.abspath(path if path.is_dir() else path.parent))
    return Path(os.path.commonpath(found))


def hidden(name: str) -> bool:
    """Whether a file or folder of this name is one that people do not look at."""
    return name.startswith((".", "~$")) or name.lower() in _SYSTEM_FOLDERS


class _Walk:
    """One walk; remembers what it took, so that nothing is taken twice whatever leads to it."""

    def __init__(self, left: LeftOut, recursive: bool) -> None:
        self._left = left
        self._recursive = recursive
        self._files: set[bytes] = set()
        self._folders: set[str] = set()

    def folder(self, folder: Path) -> Iterator[Path]:
        """The pictures of a folder, then those of its sub-folders."""
        real = os.path.realpath(folder)
        if real in self._folders:
            self._left.add("folders reached again through a link")
            return
        self._folders.add(real)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            self._left.add(f"folders that cannot be read ({error.strerror})", str(folder))
            return
        inner = [entry.name for entry in entries if os.path.isdir(entry.path)]
        names = set(inner)
        for entry in entries:
            path = folder / entry.name
            if entry.name in names or not self.takes(path):
                continue
            linked = entry.is_symlink()
            if self.first(os.path.realpath(path) if linked else os.path.join(real, entry.name)):
                yield path
        for name in inner if self._recursive else ():
            if hidden(name):
                self._left.add("hidden folders")
            else:
                yield from self.folder(folder / name)

    def takes(self, path: Path) -> bool:
        """Whether a file in a folder is a picture; if people would think so, why it is none."""
        if hidden(path.name):
            if path.suffix.lower() in _COMMON:
                self._left.add("hidden files")
        elif path.is_symlink() and not path.exists():
            self._left.add("dead links", path.name)
        elif not path.is_file():
            self._left.add("pipes, sockets or devices", path.name)
        elif is_picture(path):
            return True
        elif (why := why_left_out(path)) is not None:
            self._left.add(why)
        return False

    def first(self, real: str) -> bool:
        """Whether the file, by its real path, was not taken before."""
        key = hashlib.blake2b(os.fsencode(real), digest_size=16).digest()
        if key in self._files:
            self._left.add("images listed twice")
            return False
        self._files.add(key)
        return True
