from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from t2ipal.errors import UserError
from t2ipal.files import sha256_file, to_json_line
from t2ipal.generation.store import ImageRow, ImageStore, Rejected, image_id, read_manifest
from t2ipal.parallel.sharding import Shard

Tree = Callable[[Path], dict[str, bytes]]


def make_row(store: ImageStore, number: int, **changes: Any) -> ImageRow:
    """A row whose image is saved."""
    id = image_id(f"c{number}", 0)
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    file, sha256 = store.save(Image.fromarray(pixels), id)
    values = {
        "id": id,
        "caption_id": f"c{number}",
        "copy": 0,
        "caption": 'two dogs, "outside" a café',
        "labels": ("dog", "person"),
        "unknown": ("cat",),
        "seed": 2**32 - 1,
        "attempt": 1,
        "generator": "noise",
        "revision": "abc",
        "settings": {"steps": 3, "guidance": None},
        "file": file,
        "sha256": sha256,
        "rejected": (Rejected(5, "black"),),
        "missing": ("person",),
        "added": (),
        "fingerprint": "0f" * 16,
    }
    return ImageRow(**{**values, **changes})


def test_rows_come_back_as_they_were_written(tmp_path: Path, tree: Tree) -> None:
    store = ImageStore(tmp_path)
    rows = [make_row(store, number) for number in range(3)]
    failed = make_row(store, 3, file="", sha256="")
    store.finish([rows[0], failed, *rows[1:]])
    assert read_manifest(tmp_path) == rows
    assert list(ImageStore(tmp_path).rows()) == [*rows, failed]
    for row in rows:
        assert sha256_file(tmp_path / row.file) == row.sha256
        assert row.file == f"images/{row.id[:2]}/{row.id}.png"
        assert not row.failed
    assert failed.failed
    # a second time without failures: their list goes, nothing hidden stays
    store.finish(rows)
    assert {name for name in tree(tmp_path) if not name.startswith("images/")} == {"images.jsonl"}


def test_an_image_that_was_edited_or_replaced_is_not_the_one_of_its_row(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    rows = [make_row(store, number) for number in range(4)]
    store.finish(rows)
    again = ImageStore(tmp_path)
    again.rows()
    assert all(map(again.has, rows))
    paths = [tmp_path / row.file for row in rows]
    paths[0].write_bytes(paths[1].read_bytes())
    paths[1].write_bytes(b"")
    paths[2].unlink()
    os.mkfifo(paths[2])
    assert [again.has(row) for row in rows] == [False, False, False, True]
    (tmp_path / "images.jsonl").unlink()  # of an unfinished job every image is compared
    unfinished = ImageStore(tmp_path)
    unfinished.rows()
    assert unfinished.has(rows[3]) and not unfinished.has(replace(rows[3], sha256="0" * 64))


def test_a_row_of_a_name_or_a_fingerprint_that_cannot_be_is_refused(tmp_path: Path) -> None:
    row = make_row(ImageStore(tmp_path), 0)
    for changes in ({"file": "a\0b.png"}, {"fingerprint": "0f"}, {"fingerprint": "g" * 32}):
        with pytest.raises(UserError, match=r"lies outside|32 hex digits"):
            replace(row, **changes)


def test_the_journal_forgives_a_torn_last_line_only(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    store.begin()
    rows = [make_row(store, number) for number in range(3)]
    for row in rows[:2]:
        store.append(row)
    whole = store.journal.read_bytes()
    torn = to_json_line(rows[2]).encode()
    for cut in (1, len(torn) // 2, len(torn) - 1):
        store.journal.write_bytes(whole + torn[:cut])
        assert list(ImageStore(tmp_path).rows()) == rows[:2]
        assert store.journal.read_bytes() == whole
    store.append(rows[2])
    assert list(ImageStore(tmp_path).rows()) == rows
    store.journal.write_bytes(b'{"id": \n' + whole)
    with pytest.raises(UserError, match=r"images\.partial\.jsonl:1: broken JSON"):
        store.rows()


def test_captions_with_any_line_break_of_unicode_come_back(tmp_path: Path) -> None:
    """Captions from web pages hold them, and they break a text into lines, but not JSON lines."""
    store = ImageStore(tmp_path)
    store.begin()
    row = replace(make_row(store, 0), caption="a dog\u2028on\x85the\x0bgrass\u2029or\x1cnot\n")
    store.append(row)
    assert list(ImageStore(tmp_path).rows()) == [row]
    store.finish([row])
    assert read_manifest(tmp_path) == [row]


def test_a_journal_that_is_no_list_of_rows_is_named(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    for content, sentence in ((b"[1]\n", "JSON object"), (b"\xff\n", "broken JSON")):
        store.journal.write_bytes(content)
        with pytest.raises(UserError, match=rf"images\.partial\.jsonl:1: .*{sentence}"):
            store.rows()


def test_has_wants_a_whole_image(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    row = make_row(store, 0)
    path = tmp_path / row.file
    content = path.read_bytes()
    assert store.has(row)
    for broken in (content[:-1], content[:10], b"", content[:-4] + bytes(4)):
        path.write_bytes(broken)
        assert not store.has(row)
    path.unlink()
    assert not store.has(row)


def test_begin_sweeps_up_what_a_killed_process_left(tmp_path: Path, tree: Tree) -> None:
    store = ImageStore(tmp_path)
    row = make_row(store, 0)
    folder = (tmp_path / row.file).parent
    (folder / f".{row.id}.123.partial.png").write_bytes(b"half")
    (tmp_path / ".images.123.partial.jsonl").write_bytes(b"half")
    store.begin()
    assert set(tree(tmp_path)) == {row.file, "images.partial.jsonl"}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"file": "../elsewhere.png"}, "outside"),
        ({"file": "images/../../elsewhere.png"}, "outside"),
        ({"file": "/etc/hostname"}, "outside"),
        ({"file": "..\\elsewhere.png"}, "outside"),
        ({"seed": "5"}, "'seed' must be a whole number, not '5'"),
        ({"copy": True}, "'copy' must be a whole number, not True"),
        ({"labels": "dog"}, "'labels' must be a list, not 'dog'"),
        ({"rejected": ["black"]}, "an entry of 'rejected' must be a mapping"),
        ({"rejected": [{"seed": 1}]}, "'reason' is missing"),
        ({"extra": 1}, "unknown key 'extra'"),
        ({"captoin": ""}, r"unknown key 'captoin' \(did you mean 'caption'\?\)"),
        ({"sha256": None}, "'sha256' must be text"),
    ],
)
def test_broken_rows_are_named(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    store = ImageStore(tmp_path)
    good = json.loads(to_json_line(make_row(store, 0)))
    lines = [json.dumps(good), json.dumps({**good, **change})]
    store.manifest.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=sentence) as caught:
        read_manifest(tmp_path)
    assert "images.jsonl:2" in str(caught.value)


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    row = json.loads(to_json_line(make_row(store, 0)))
    for name in row:
        rest = {key: value for key, value in row.items() if key != name}
        store.manifest.write_text(json.dumps(rest) + "\n")
        with pytest.raises(UserError, match=f"'{name}' is missing"):
            read_manifest(tmp_path)


def test_missing_and_unfinished_manifests(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no image manifest"):
        read_manifest(tmp_path / "nothing")
    store = ImageStore(tmp_path)
    store.begin()
    with pytest.raises(UserError, match="images are still missing"):
        read_manifest(tmp_path)


def test_what_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "images").write_text("a file where the folder should be")
    with pytest.raises(UserError, match="cannot be written"):
        make_row(ImageStore(tmp_path), 0)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        ImageStore(tmp_path / "file").begin()


def test_ids_are_stable_and_distinct() -> None:
    assert image_id("c0", 0) == "36476b1b2fdea3ad1f62"
    assert len({image_id(f"c{number}", copy) for number in range(50) for copy in range(4)}) == 200


def test_the_last_shard_removes_what_a_killed_one_left_half_written(tmp_path: Path) -> None:
    store = ImageStore(tmp_path, Shard(0, 2))
    store.begin()
    row = make_row(store, 0)
    left = (tmp_path / row.file).with_name(".left.123.partial.png")
    left.touch()
    ImageStore(tmp_path, Shard(1, 2)).begin()
    assert left.exists()  # another process may be writing it
    store.append(row)
    store.finish([row])
    assert not left.exists() and read_manifest(tmp_path) == [row]


@pytest.mark.parametrize("file", ["thesis.doc", "images/thesis.doc", "images/ab", "images.jsonl"])
def test_only_files_of_a_store_are_deleted(file: str, tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    rows = [make_row(store, 0), make_row(store, 1)]
    (tmp_path / "images" / "ab").mkdir(exist_ok=True)
    with suppress(IsADirectoryError):
        (tmp_path / file).write_text("years of work")
    with pytest.raises(UserError, match=f"{file}: is named in the manifest but was not written"):
        store.discard([rows[0], replace(rows[1], file=file)])
    assert (tmp_path / file).exists() and (tmp_path / rows[0].file).exists()


def test_nothing_is_deleted_through_a_link(tmp_path: Path) -> None:
    row = make_row(ImageStore(tmp_path / "elsewhere"), 0)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "images").symlink_to(tmp_path / "elsewhere" / "images")
    with pytest.raises(UserError, match="lies elsewhere through a link"):
        ImageStore(tmp_path / "own").discard([row])
    assert (tmp_path / "elsewhere" / row.file).exists()
