"""Keywords are added to those that are there, told before, and taken away again without a trace."""

from __future__ import annotations

import os
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from PIL import Image

from t2ipal.errors import UserError
from t2ipal.tagger.keywords import JOURNAL, Kind, add_keywords, undo

WAYS: list[tuple[Kind, bool]] = [("txt", False), ("xmp", False), ("xmp", True), ("iptc", True)]
exiv2 = pytest.mark.skipif(shutil.which("exiv2") is None, reason="exiv2 is not installed")
WITH = [pytest.param(*way, marks=exiv2 if way[1] else ()) for way in WAYS]

FOREIGN = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:darktable="http://darktable.sf.net/" darktable:xmp_version="5">
<!-- edited by hand -->
<dc:subject><rdf:Seq><rdf:li>Holiday &amp; sea</rdf:li></rdf:Seq></dc:subject>
<darktable:history><rdf:Seq/></darktable:history>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>
"""


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    Image.effect_noise((48, 32), 60).convert("RGB").save(path)
    return path


@pytest.mark.parametrize(("kind", "embed"), WITH)
def test_keywords_are_added_once_and_undone(photo: Path, kind: Kind, embed: bool):
    before, pixels = photo.read_bytes(), Image.open(photo).tobytes()
    journal = photo.parent / JOURNAL
    told = add_keywords(photo, ["cat", "café"], kind, embed=embed, journal=None)
    assert told[1] == ["cat", "café"] and photo.read_bytes() == before and not journal.exists()
    assert add_keywords(photo, ["cat", "café"], kind, embed=embed, journal=journal) == told
    assert add_keywords(photo, ["Café", "dog"], kind, embed=embed, journal=journal)[1] == ["dog"]
    assert add_keywords(photo, ["cat", "dog"], kind, embed=embed, journal=journal)[1] == []
    assert Image.open(photo).tobytes() == pixels
    assert undo(journal) == 2
    assert [path.name for path in photo.parent.iterdir()] == ["photo.jpg"]
    assert embed or photo.read_bytes() == before
    assert add_keywords(photo, ["cat", "café", "dog"], kind, embed=embed, journal=None)[1] == [
        "cat",
        "café",
        "dog",
    ]


@pytest.mark.parametrize("name", ["photo.xmp", "photo.jpg.xmp"])
def test_a_sidecar_of_another_program_keeps_all_that_it_says(photo: Path, name: str):
    sidecar = photo.with_name(name)
    sidecar.write_text(FOREIGN, encoding="utf-8")
    journal = photo.parent / JOURNAL
    target, new = add_keywords(
        photo, ["holiday & Sea", "cat <3"], "xmp", embed=False, journal=journal
    )
    assert (target, new) == (sidecar, ["cat <3"])
    text = sidecar.read_text(encoding="utf-8")
    ET.fromstring(text)
    assert text.index("Holiday &amp; sea") < text.index("cat &lt;3")
    for kept in ('darktable:xmp_version="5"', "<darktable:history>", "edited by hand"):
        assert kept in text
    undo(journal)
    left = sidecar.read_text(encoding="utf-8")
    assert "Holiday &amp; sea" in left and "cat" not in left and "edited by hand" in left


@exiv2
def test_other_programs_find_the_keywords(photo: Path):
    journal = photo.parent / JOURNAL
    add_keywords(photo, ["dining table"], "xmp", embed=False, journal=journal)
    sidecar = photo.with_name("photo.jpg.xmp")
    for kind in ("xmp", "iptc"):
        add_keywords(photo, ["dining table"], kind, embed=True, journal=journal)
    for path, keys in ((sidecar, ["Xmp.dc.subject"]), (photo, ["Xmp.dc.subject", "Iptc.App"])):
        shown = subprocess.run(["exiv2", "-pa", path], capture_output=True, text=True).stdout
        for key in keys:
            assert any(key in line and "dining table" in line for line in shown.splitlines())


def test_what_holds_no_keywords_is_left_alone(photo: Path):
    for content in ("0 0.5 0.5 0.1 0.1\n", "A cat sits.\nA dog barks.\n", "cat,,dog"):
        photo.with_suffix(".txt").write_text(content)
        with pytest.raises(UserError, match=r"photo\.txt: is no line of keywords"):
            add_keywords(photo, ["cat"], "txt", embed=False, journal=photo.parent / JOURNAL)
        assert photo.with_suffix(".txt").read_text() == content
    photo.with_suffix(".xmp").write_text("<x:xmpmeta")
    with pytest.raises(UserError, match=r"photo\.xmp: is no XMP"):
        add_keywords(photo, ["cat"], "xmp", embed=False, journal=photo.parent / JOURNAL)
    photo.with_suffix(".xmp").unlink()
    os.mkfifo(photo.with_suffix(".xmp"))
    with pytest.raises(UserError, match=r"photo\.xmp: is a pipe"):
        add_keywords(photo, ["cat"], "xmp", embed=False, journal=photo.parent / JOURNAL)
    with pytest.raises(UserError, match="so no keywords were added here"):
        undo(photo.parent / "else" / JOURNAL)


def test_without_exiv2_a_sentence_says_what_to_install(photo: Path, monkeypatch):
    monkeypatch.setenv("PATH", str(photo.parent))
    with pytest.raises(UserError, match="exiv2"):
        add_keywords(photo, ["cat"], "iptc", embed=True, journal=photo.parent / JOURNAL)
