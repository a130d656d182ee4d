"""Sets of images in and out: folders with metadata, sidecar texts, webdataset shards."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from t2ipal.cli import main
from t2ipal.errors import UserError
from t2ipal.generation.exchange import import_images, pack
from t2ipal.generation.generate import generate
from t2ipal.generation.samples import read_samples
from t2ipal.generation.store import read_manifest
from t2ipal.vocabulary import Vocabulary

VOCABULARY = Vocabulary.load("voc2007")
TEXTS = {"a/one.png": "two dogs", "b/two.jpg": "a red sky", "three.webp": "a cat on an orange sofa"}
Tree = Callable[[Path], dict[str, bytes]]


def picture(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def folder_of(path: Path, form: str) -> Path:
    for seed, name in enumerate(TEXTS):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        picture(seed).save(path / name)
        if form == "txt":
            (path / name).with_suffix(".txt").write_text(TEXTS[name] + "\n")
    rows = [{"file_name": name, "text": text} for name, text in TEXTS.items()]
    if form == "jsonl":
        (path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if form == "csv":
        with (path / "metadata.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, ["file_name", "caption"])
            writer.writeheader()
            writer.writerows({"file_name": n, "caption": t} for n, t in TEXTS.items())
    return path


@pytest.mark.parametrize("form", ["txt", "jsonl", "csv"])
def test_folders_come_in(tmp_path: Path, form: str) -> None:
    source = folder_of(tmp_path / "in", form)
    captions, rows = import_images(source, VOCABULARY, tmp_path / "out")
    assert {row.id: row.caption for row in captions} == TEXTS
    found = {row.caption_id: row.labels for row in read_manifest(tmp_path / "out")}
    assert found == {"a/one.png": ("dog",), "three.webp": ("cat", "sofa")}
    assert rows == read_manifest(tmp_path / "out")
    one = next(row for row in rows if row.caption_id == "a/one.png")
    image = Image.open(tmp_path / "out" / one.file)
    assert np.array_equal(np.asarray(image), np.asarray(picture(0)))


def test_a_second_import_reads_no_image_and_changes_nothing(
    tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = folder_of(tmp_path / "in", "txt")
    import_images(source, VOCABULARY, tmp_path / "out")
    before = tree(tmp_path / "out")
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    monkeypatch.setattr("t2ipal.generation.samples.Sample.image", None)
    import_images(source, VOCABULARY, tmp_path / "out")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == stamps
    monkeypatch.undo()
    (source / "a" / "one.txt").write_text("a boat")
    (source / "three.webp").unlink()
    _, rows = import_images(source, VOCABULARY, tmp_path / "out")
    assert [row.labels for row in rows] == [("boat",)]
    assert len(list((tmp_path / "out").rglob("*.png"))) == 1 and before


def test_a_cut_off_import_resumes(tmp_path: Path, tree: Tree) -> None:
    source = folder_of(tmp_path / "in", "txt")
    import_images(source, VOCABULARY, tmp_path / "whole")
    good = (source / "three.webp").read_bytes()
    (source / "three.webp").write_bytes(good[:30])
    with pytest.raises(UserError, match=r"three\.webp: cannot be read as an image"):
        import_images(source, VOCABULARY, tmp_path / "out")
    with pytest.raises(UserError, match="images are still missing"):
        read_manifest(tmp_path / "out")
    (source / "three.webp").write_bytes(good)
    import_images(source, VOCABULARY, tmp_path / "out")
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_a_generated_set_goes_out_and_comes_back(
    tmp_path: Path, captions: Any, noise: Any, tree: Tree
) -> None:
    generate(captions, noise(), tmp_path / "set", progress=False)
    shards = pack(tmp_path / "set", tmp_path / "tars", per_shard=4)
    assert [path.name for path in shards] == ["000000.tar", "000001.tar", "000002.tar"]
    first = tree(tmp_path / "tars")
    pack(tmp_path / "set", tmp_path / "tars", per_shard=4)
    assert tree(tmp_path / "tars") == first
    rows = read_manifest(tmp_path / "set")
    samples = list(read_samples(tmp_path / "tars"))
    assert [(s.key, s.caption) for s in samples] == [(row.id, row.caption) for row in rows]
    for sample, row in zip(samples, rows, strict=True):
        image = Image.open(tmp_path / "set" / row.file)
        assert np.array_equal(np.asarray(sample.image()), np.asarray(image))
    _, back = import_images(tmp_path / "tars", VOCABULARY, tmp_path / "back")
    assert len(back) == len(rows)  # every text names a class
    assert {row.sha256 for row in back} == {row.sha256 for row in rows}


def tar_of(path: Path, **members: bytes) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name.replace("__", "/").replace("_", "."))
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def test_captions_in_json_are_read(tmp_path: Path) -> None:
    encoded = io.BytesIO()
    picture(0).save(encoded, format="PNG")
    path = tar_of(tmp_path / "a.tar", d__1_png=encoded.getvalue(), d__1_json=b'{"prompt": "a dog"}')
    (sample,) = read_samples(path)
    assert (sample.key, sample.caption) == ("d/1", "a dog")


def test_bad_sources_are_named(tmp_path: Path, captions: Any, noise: Any) -> None:
    def complaint(source: Path, out: Path = tmp_path / "out") -> str:
        with pytest.raises(UserError) as caught:
            import_images(source, VOCABULARY, out)
        return str(caught.value)

    (tmp_path / "empty").mkdir()
    assert "no image in this folder" in complaint(tmp_path / "empty")
    assert "neither a folder" in complaint(tmp_path / "nothing")
    assert "no such file" in complaint(tmp_path / "nothing.tar")
    (tmp_path / "bad.tar").write_bytes(b"not a tar file" * 90)
    assert "bad.tar: is no whole tar file" in complaint(tmp_path / "bad.tar")
    assert "1: has no image" in complaint(tar_of(tmp_path / "t.tar", **{"1_txt": b"a dog"}))
    assert "1: has no caption" in complaint(tar_of(tmp_path / "u.tar", **{"1_png": b"x"}))
    assert "cannot be read as an image" in complaint(
        tar_of(tmp_path / "v.tar", **{"1_png": b"x", "1_txt": b"a dog"})
    )
    source = folder_of(tmp_path / "in", "none")
    assert "three.webp: has no caption: write three.txt" in complaint(source)
    (source / "metadata.jsonl").write_text('{"file_name": "a/one.png"}\n')
    assert "metadata.jsonl:1: needs file_name and text" in complaint(source)
    (source / "metadata.jsonl").write_text('{"file_name": "../x.png", "text": "a dog"}\n')
    assert "lies outside the folder" in complaint(source)
    (source / "metadata.jsonl").write_text('{"file_name": "a/one.png", "text": "a dog"}\n' * 2)
    assert "is there twice" in complaint(source, tmp_path / "twice")
    (source / "metadata.jsonl").write_text('{"file_name": "a/one.png", "text": "red"}\n')
    assert "none of the 1 captions names a class" in complaint(source)
    generate(captions, noise(), tmp_path / "set", progress=False)
    assert "holds generated images" in complaint(source, tmp_path / "set")
    with pytest.raises(UserError, match="at least 1, not 0"):
        pack(tmp_path / "set", tmp_path / "tars", per_shard=0)


def test_the_verbs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = folder_of(tmp_path / "in", "jsonl")
    out = str(tmp_path / "out")
    assert main(["import", str(source), "--classes", "voc2007", "--out", out]) == 0
    assert "2 images are in" in capsys.readouterr().out
    assert len((tmp_path / "out" / "captions.jsonl").read_text().splitlines()) == 3
    assert main(["pack", out, "--out", str(tmp_path / "tars")]) == 0
    assert "wrote 1 shard to" in capsys.readouterr().out
