"""The structure that tools/house.py measures, and its limits."""

from __future__ import annotations

from pathlib import Path

from tools.house import survey


def test_structure() -> None:
    house = survey()
    assert house.circles == []
    assert house.doubled == {}
    assert len(house.rooms) <= 18
    assert len(house.loose) <= 6


def test_a_made_package(tmp_path: Path) -> None:
    for name, text in {
        "__init__.py": "",
        "a.py": "from made.b import one\n\n\ndef shown(): ...\n\n\ndef _hidden(): ...\n",
        "b/__init__.py": "",
        "b/one.py": "def later():\n    import made.a\n",
        "c/one.py": "from made import b\n\nCONSTANT = 1\n\n\nclass Two: ...\n",
    }.items():
        path = tmp_path / "made" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    house = survey(tmp_path / "made")
    assert house.rooms == ("a.py", "b", "c")
    assert house.loose == ("__init__.py", "a.py")
    assert house.arrows == {"a.py": {"b"}, "b": {"a.py"}, "c": {"b"}}
    assert house.circles == [["a.py", "b"]]
    assert house.doubled == {"one": ["b/one.py", "c/one.py"]}
    assert house.public == {"a.py": ["shown"], "b/one.py": ["later"], "c/one.py": ["Two"]}
    assert house.lines == 15
