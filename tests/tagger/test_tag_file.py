"""A file of tags is resumed, has its rows in the order of the images, and is never mixed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from t2ipal.errors import UserError
from t2ipal.tagger.tag_file import KINDS, TagFile
from t2ipal.tagger.tags import Tags

NAMES = ("cat", "dog, hot")
FILES = ["b/é.jpg", "a.jpg", "=1+1.jpg", "b/x,\n.jpg"]
MADE_FROM = {"model": "abc", "top": None}


def tags(file: str) -> Tags:
    value = len(file) / 20
    return Tags(NAMES, np.array([value, 1 - value]), np.array([0.5, 0.5]), Path(file))


def write(path: Path, kind: str, files: list[str], stop: int = 9, **given: object) -> list[str]:
    """Tag the files, but end after ``stop`` of them; what was missing."""
    with TagFile.open(path, kind, NAMES, given or MADE_FROM, files) as out:
        for file in out.missing[:stop]:
            out.add(tags(file), tags(file).tags)
        if stop < len(out.missing):
            raise KeyboardInterrupt
        return out.missing


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("torn", [0, 7])
def test_an_interrupted_file_is_resumed_to_the_same_bytes(tmp_path: Path, kind: str, torn: int):
    whole, cut = tmp_path / f"whole.{kind}", tmp_path / f"cut.{kind}"
    assert write(whole, kind, FILES) == FILES
    with pytest.raises(KeyboardInterrupt):
        write(cut, kind, FILES, stop=2)
    assert not cut.exists()
    partial = cut.with_name(f"{cut.name}.partial")
    content = partial.read_bytes()
    partial.write_bytes(content[: len(content) - torn])
    assert write(cut, kind, FILES) == (FILES[1:] if torn else FILES[2:])
    assert cut.read_bytes() == whole.read_bytes() and not partial.exists()
    assert write(cut, kind, FILES) == []


@pytest.mark.parametrize("kind", KINDS)
def test_further_images_are_added_in_their_place(tmp_path: Path, kind: str):
    grown, whole = tmp_path / f"grown.{kind}", tmp_path / f"whole.{kind}"
    write(grown, kind, FILES[2:])
    assert write(grown, kind, FILES) == FILES[:2]
    write(whole, kind, FILES)
    assert grown.read_bytes() == whole.read_bytes()


def test_what_another_model_or_a_person_wrote_is_kept(tmp_path: Path):
    file = tmp_path / "tags.csv"
    write(file, "csv", FILES)
    before = file.read_bytes()
    with pytest.raises(UserError, match="made with another top; name another file"):
        write(file, "csv", FILES, model="abc", top=3)
    file.with_name("tags.csv.made_from.json").unlink()
    with pytest.raises(UserError, match="made by something else"):
        write(file, "csv", FILES)
    assert file.read_bytes() == before
    with TagFile.open(file, "csv", NAMES, MADE_FROM, FILES, overwrite=True) as out:
        assert out.missing == FILES
