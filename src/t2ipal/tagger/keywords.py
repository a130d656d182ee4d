"""Tags as keywords in people's photo libraries: sidecars, or with exiv2 in the photos themselves.

Keywords that are there stay, in their order; new ones follow. What is added is noted first, in
``.t2ipal-keywords.jsonl`` in the folder of the photos, so that :func:`undo` takes away that and
nothing else.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from t2ipal.errors import UserError
from t2ipal.files import append_jsonl, atomic_path, read_jsonl, write_jsonl, write_text
from t2ipal.files.names import fold
from t2ipal.files.tables import refuse_special, text_lines

JOURNAL = ".t2ipal-keywords.jsonl"

Kind = Literal["txt", "xmp", "iptc"]

_X, _RDF, _DC = (
    "adobe:ns:meta/",
    "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "http://purl.org/dc/elements/1.1/",
)
_EMPTY = (
    f'<x:xmpmeta xmlns:x="{_X}"><rdf:RDF xmlns:rdf="{_RDF}"><rdf:Description rdf:about="" '
    f'xmlns:dc="{_DC}"/></rdf:RDF></x:xmpmeta>'
)
for _prefix, _address in (("x", _X), ("rdf", _RDF), ("dc", _DC)):
    ET.register_namespace(_prefix, _address)
_UTF_8 = "\x1b%G"  # ISO 2022's mark, with which IPTC says that texts are UTF-8


def require_exiv2() -> str:
    """The program that changes metadata in photos.

    Raises:
        UserError: it is not installed.
    """
    found = shutil.which("exiv2")
    if found is None:
        raise UserError(
            "--embed needs the program exiv2 (apt install exiv2, brew install exiv2); without "
            "--embed keywords go into sidecar files."
        )
    return found


def add_keywords(
    image: Path, words: Sequence[str], kind: Kind, *, embed: bool, journal: Path | None
) -> tuple[Path, list[str]]:
    """Add keywords to one photo.

    Args:
        kind: ``txt`` (``photo.txt``, separated by commas, as trainers of image models read it),
            ``xmp`` (dc:subject, in ``photo.jpg.xmp``, or in ``photo.xmp`` if that is there) or
            ``iptc`` (in the photo alone).
        embed: write into the photo itself; its pixels and its time stay as they are.
        journal: where to note what is added; None changes nothing and only tells.

    Returns:
        The file, and the keywords that were not there.

    Raises:
        UserError: the file's metadata cannot be read or written, or a ``photo.txt`` holds
            something else than keywords.
    """
    target = image if embed else _sidecar(image, kind)
    there = _keywords(target, kind, embed)
    known = set(map(fold, there))
    new = [word for word in dict.fromkeys(words) if fold(word) not in known]
    if new and journal is not None:
        row = {
            "file": os.path.abspath(target),
            "kind": kind,
            "embed": embed,
            "created": not target.exists(),
            "added": new,
        }
        append_jsonl(journal, row)
        _write(target, [*there, *new], kind, embed)
    return target, new


def undo(journal: Path) -> int:
    """Take away what :func:`add_keywords` added, and the files it made that hold nothing else.

    Returns:
        The number of files that were changed.

    Raises:
        UserError: the journal or a file cannot be read or written; what was undone is noted.
    """
    if not journal.is_file():
        raise UserError(f"{journal.parent}: holds no {JOURNAL}, so no keywords were added here.")
    rows = [row for _, row in read_jsonl(journal)]
    changed = 0
    try:
        while rows:
            changed += _taken_away(rows[-1])
            rows.pop()
    finally:  # what is undone is not undone again: words may have been added by hand since
        if rows:
            write_jsonl(journal, rows)
        else:
            journal.unlink()
    return changed


def _taken_away(row: dict[str, Any]) -> bool:
    """Take away what a row of the journal says was added; whether its file is still there."""
    path, kind, embed = Path(row["file"]), row["kind"], row["embed"]
    if not path.exists():
        return False
    added = set(map(fold, row["added"]))
    there = _keywords(path, kind, embed)
    left = [word for word in there if fold(word) not in added]
    if row["created"] and not left:
        path.unlink()
    elif left != there:
        _write(path, left, kind, embed)
    return True


def _sidecar(image: Path, kind: Kind) -> Path:
    if kind == "txt":
        return image.with_suffix(".txt")
    beside = image.with_suffix(".xmp")
    return beside if beside.exists() else image.with_name(f"{image.name}.xmp")


def _keywords(path: Path, kind: Kind, embed: bool) -> list[str]:
    """The keywords that a file holds."""
    if not path.exists():
        return []
    refuse_special(path)
    if embed and kind == "iptc":
        found = _exiv2(path, "-q", "-K", "Iptc.Application2.Keywords", "-P", "v").splitlines()
        return [word for word in found if word]
    if kind == "txt":
        lines = [line for _, line in text_lines(path) if line.strip()]
        words = [word.strip() for word in ",".join(lines).split(",")]
        if len(lines) > 1 or any(not word or word[0].isdigit() for word in words if lines):
            raise UserError(
                f"{path}: is no line of keywords between commas, so it is left alone; take xmp."
            )
        return [word for word in words if word]
    text = _exiv2(path, "-q", "-p", "X") if embed else path.read_text(encoding="utf-8-sig")
    items = _parse(path, text or _EMPTY).iterfind(f".//{{{_DC}}}subject//{{{_RDF}}}li")
    return [item.text.strip() for item in items if item.text and item.text.strip()]


def _write(path: Path, words: Sequence[str], kind: Kind, embed: bool) -> None:
    words = [" ".join(word.split()) for word in words]
    if embed:
        _embed(path, words, kind)
    elif kind == "txt":
        write_text(path, ", ".join(words) + "\n")
    else:
        text = path.read_text(encoding="utf-8-sig") if path.exists() else _EMPTY
        write_text(path, _with_subject(_parse(path, text), words))


def _embed(path: Path, words: Sequence[str], kind: Kind) -> None:
    """Change a copy of the photo and put it in its place."""
    if kind == "iptc":
        commands = ["del Iptc.Application2.Keywords"]
        if not all(map(str.isascii, words)):
            commands.append(f"set Iptc.Envelope.CharacterSet String {_UTF_8}")
        commands += [f"add Iptc.Application2.Keywords String {word}" for word in words]
    else:
        commands = ["del Xmp.dc.subject"]
        commands += [f"set Xmp.dc.subject XmpBag {word}" for word in words]
    with atomic_path(path) as temporary:
        shutil.copy2(path, temporary)
        _exiv2(temporary, "-k", *(part for one in commands for part in ("-M", one)), name=path)


def _exiv2(path: Path, *options: str, name: Path | None = None) -> str:
    """What exiv2 prints about a file."""
    done = subprocess.run(
        [require_exiv2(), *options, os.path.abspath(path)], capture_output=True, check=False
    )
    if done.returncode not in (0, 1, 253) or (name and done.returncode):
        first = done.stderr.decode(errors="replace").strip().split("\n")[0]
        raise UserError(f"{name or path}: exiv2 cannot change it ({first}); use sidecars.")
    try:
        return done.stdout.decode()
    except UnicodeDecodeError:  # IPTC of old programs
        return done.stdout.decode("cp1252", "replace")


def _parse(path: Path, text: str) -> ET.Element:
    """An XMP packet; namespaces keep their prefixes when it is written again."""
    text = text.strip("\ufeff\x00 \r\n")
    try:
        for _, (prefix, address) in ET.iterparse(io.StringIO(text), ["start-ns"]):
            if not re.fullmatch(r"ns\d+|", prefix):  # which ElementTree keeps for itself
                ET.register_namespace(prefix, address)
        return ET.fromstring(text, ET.XMLParser(target=ET.TreeBuilder(insert_comments=True)))
    except ET.ParseError as error:
        raise UserError(f"{path}: is no XMP ({error}); mend or remove it.") from None


def _with_subject(root: ET.Element, words: Sequence[str]) -> str:
    """The packet with exactly these keywords in its first description."""
    descriptions = list(root.iter(f"{{{_RDF}}}Description"))
    for description in descriptions:
        for subject in description.findall(f"{{{_DC}}}subject"):
            description.remove(subject)
    if words:
        if not descriptions:
            rdf = root if root.tag == f"{{{_RDF}}}RDF" else root.find(f".//{{{_RDF}}}RDF")
            parent = ET.SubElement(root, f"{{{_RDF}}}RDF") if rdf is None else rdf
            descriptions = [ET.SubElement(parent, f"{{{_RDF}}}Description")]
            descriptions[0].set(f"{{{_RDF}}}about", "")
        bag = ET.SubElement(ET.SubElement(descriptions[0], f"{{{_DC}}}subject"), f"{{{_RDF}}}Bag")
        for word in words:
            ET.SubElement(bag, f"{{{_RDF}}}li").text = word
    ET.indent(root, " ")
    return ET.tostring(root, encoding="unicode", xml_declaration=False) + "\n"
