"""Sets of images in and out: folders with metadata, sidecar texts, webdataset shards."""

from __future__ import annotations

import csv
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from t2ipal.cli import main
from t2ipal.errors import UserError
from t2ipal.files.broken import Broken
from t2ipal.files.folders import LeftOut
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
    keys = [f"{number // 4:06}/{row.id}" for number, row in enumerate(rows)]
    assert [s.key for s in samples] == keys
    assert [s.caption for s in samples] == [row.caption for row in rows]
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
    assert (sample.key, sample.caption) == ("a/d/1", "a dog")


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
    assert "1 sample without an image ('t.tar: 1')" in complaint(
        tar_of(tmp_path / "t.tar", **{"1_txt": b"a dog"})
    )
    assert "1 image without a caption ('u.tar: 1')" in complaint(
        tar_of(tmp_path / "u.tar", **{"1_png": b"x"})
    )
    assert "cannot be read as an image" in complaint(
        tar_of(tmp_path / "v.tar", **{"1_png": b"x", "1_txt": b"a dog"})
    )
    source = folder_of(tmp_path / "in", "none")
    assert "3 images without a caption ('three.webp'," in complaint(source)
    (source / "metadata.jsonl").write_text('{"file_name": "a/one.png"}\n')
    assert "1 image without a caption ('metadata.jsonl:1')" in complaint(source)
    (source / "metadata.jsonl").write_text('{"file": "a/one.png", "text": "a dog"}\n')
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


# --- what is left out, broken or too large -------------------------------------------------------


def png(seed: int = 0) -> bytes:
    encoded = io.BytesIO()
    picture(seed).save(encoded, format="PNG")
    return encoded.getvalue()


def shard(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def sample(key: str, text: str, seed: int = 0) -> dict[str, bytes]:
    return {f"{key}.png": png(seed), f"{key}.txt": text.encode()}


def keys_of(source: Path, left_out: LeftOut | None = None, broken: Broken | None = None) -> Any:
    return {one.key: one.caption for one in read_samples(source, left_out, broken)}


def test_keys_may_begin_anew_in_every_shard(tmp_path: Path) -> None:
    for number, text in enumerate(("a dog", "a cat")):
        shard(tmp_path / "in" / f"{number}.tar", sample("000", text, number))
    assert keys_of(tmp_path / "in") == {"0/000": "a dog", "1/000": "a cat"}
    _, rows = import_images(tmp_path / "in", VOCABULARY, tmp_path / "out")
    assert [row.labels for row in rows] == [("dog",), ("cat",)]


@pytest.mark.parametrize("suffix, mode", [("tar.gz", "w:gz"), ("tgz", "w:gz"), ("tar", "w:bz2")])
def test_compressed_shards(tmp_path: Path, suffix: str, mode: str) -> None:
    path = shard(tmp_path / f"a.{suffix}", sample("1", "a dog"), mode)
    assert keys_of(path) == {"a/1": "a dog"}


def test_the_main_image_of_a_sample_is_taken_and_hidden_members_are_not(tmp_path: Path) -> None:
    members = {"1.mask.png": png(1), **sample("1", "a dog"), "._1.png": b"x", "2.txt": b"no image"}
    left_out = LeftOut()
    (one,) = read_samples(shard(tmp_path / "a.tar", members), left_out)
    assert np.array_equal(np.asarray(one.image()), np.asarray(picture(0)))
    assert str(left_out) == "left out: 1 hidden file, 1 sample without an image ('a.tar: 2')"


def test_sidecars_of_every_name(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "b.png", "c.png", "d.png", "e.png"):
        picture(0).save(tmp_path / name)
    (tmp_path / "a.jpg.txt").write_text("a dog\non grass\n")
    (tmp_path / "a.png.txt").write_bytes(b"\xef\xbb\xbfa cat")
    (tmp_path / "b.caption").write_text("a boat", encoding="utf-16")
    (tmp_path / "c.json").write_text('{"prompt": "a bus"}')
    (tmp_path / "d.txt").write_text(" \n")
    left_out = LeftOut()
    assert keys_of(tmp_path, left_out) == {
        "a.jpg": "a dog on grass", "a.png": "a cat", "b.png": "a boat", "c.png": "a bus",
    }  # fmt: skip
    assert str(left_out) == "left out: 2 images without a caption ('d.png', 'e.png')"


def test_a_text_beside_two_images_is_of_neither(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "b.png"):
        picture(0).save(tmp_path / name)
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("a dog")
    with pytest.raises(UserError, match=r"a\.txt: lies beside 'a.jpg', 'a.png'; .*a\.jpg\.txt"):
        keys_of(tmp_path)
    broken = Broken(skip=True)
    assert keys_of(tmp_path, broken=broken) == {"b.png": "a dog"}
    assert [Path(name).name for name in broken.reasons] == ["a.jpg", "a.png"]


def test_metadata_may_leave_images_out_and_lie_in_sub_folders(tmp_path: Path) -> None:
    for name in ("train/0.png", "train/1.png", "test/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture(0).save(tmp_path / name)
    (tmp_path / "train" / "metadata.jsonl").write_text('{"file_name": "0.png", "text": "a dog"}\n')
    table = b"\xef\xbb\xbffile_name;caption\n2.png;a cat\n"
    (tmp_path / "test" / "metadata.csv").write_bytes(table)
    left_out = LeftOut()
    assert keys_of(tmp_path, left_out) == {"train/0.png": "a dog", "test/2.png": "a cat"}
    assert "1 image that" in str(left_out) and "does not list ('train/1.png')" in str(left_out)


def test_links_and_names_of_any_bytes_come_in(tmp_path: Path) -> None:
    real, source = tmp_path / "real", tmp_path / "in"
    for folder in (real, source):
        folder.mkdir()
    picture(0).save(real / "0.png")
    (real / "0.txt").write_text("a dog")
    (source / "album").symlink_to(real)
    for name in (b"caf\xe9", b'-line\nbreak\t"%s'):
        for suffix, data in ((b".png", png()), (b".txt", b"a cat")):
            Path(os.fsdecode(os.path.join(os.fsencode(source), name + suffix))).write_bytes(data)
    found = keys_of(source)
    assert set(found) == {"album/0.png", "caf\\xe9.png", '-line\\x0abreak\\x09"%s.png'}
    _, rows = import_images(source, VOCABULARY, tmp_path / "out")
    assert read_manifest(tmp_path / "out") == rows and len(rows) == 3


def test_broken_images_are_left_out_and_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = folder_of(tmp_path / "in", "txt")
    (source / "a" / "one.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    verb = ["import", str(source), "--classes", "voc2007", "--out", str(out)]
    assert main(verb) == 2
    assert "--skip-broken" in capsys.readouterr().err
    assert main([*verb, "--skip-broken"]) == 0
    said = capsys.readouterr().out
    assert f"left out: 1 image that cannot be read, listed in {out / 'broken.jsonl'}" in said
    assert "left out: 1 image whose caption names no class ('b/two.jpg')" in said
    assert "read 2 images with captions" in said
    (row,) = map(json.loads, (out / "broken.jsonl").read_text().splitlines())
    assert row["file"].endswith("one.png") and "no format" in row["reason"]
    assert [row.labels for row in read_manifest(out)] == [("cat", "sofa")]


def sparse(path: Path) -> Path:
    """A tar of which one member is said to hold 8 GB of zeros."""
    header = bytearray(tarfile.TarInfo("1.png").tobuf(tarfile.GNU_FORMAT))
    header[156:157] = b"S"
    size = 8 * 2**30
    header[386:398], header[398:410] = b"%011o\0" % size, b"%011o\0" % 0
    header[483:495] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)  # type: ignore[attr-defined]
    header[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(header))[0]  # type: ignore[attr-defined]
    path.write_bytes(bytes(header) + bytes(1024))
    return path


def test_small_files_that_unpack_to_large_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"8,589,934,592 bytes, more than 256 MB"):
        keys_of(sparse(tmp_path / "a.tar"))
    zeros = {**sample("0", "a dog"), "1.png": bytes(2**20), "1.txt": b"a cat"}
    path = shard(tmp_path / "b.tar", zeros, "w:gz")
    monkeypatch.setattr("t2ipal.generation.samples._MEMBER_BYTES", 2**19)
    with pytest.raises(UserError, match="1,048,576 bytes"):
        keys_of(path)
    broken = Broken(skip=True)
    assert keys_of(path, broken=broken) == {"b/0": "a dog"} and len(broken) == 1


def test_a_caption_is_no_longer_than_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("t2ipal.generation.samples._TEXT_BYTES", 50)
    long = sample("0", "a dog") | sample("1", "a cat " * 20)
    with pytest.raises(UserError, match="its text has 120 bytes"):
        keys_of(shard(tmp_path / "a.tar", long))


def test_halves_of_surrogate_pairs_in_a_caption_are_replaced(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "a.png")
    row = json.dumps({"file_name": "a.png", "text": "a dog \ud800"})
    (tmp_path / "metadata.jsonl").write_text(row + "\n")
    assert keys_of(tmp_path) == {"a.png": "a dog ?"}


def test_a_damaged_shard_does_not_end_in_silence(tmp_path: Path) -> None:
    members = {**sample("0", "a dog"), **sample("1", "a cat")}
    path = shard(tmp_path / "a.tar", members)
    data = bytearray(path.read_bytes())
    place = data.index(b"1.png")
    data[place : place + 512] = b"\xff" * 512
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match="no whole tar file"):
        keys_of(path)
    zipped = shard(tmp_path / "b.tar.gz", members, "w:gz").read_bytes()
    (tmp_path / "b.tar.gz").write_bytes(zipped[: len(zipped) // 2])
    with pytest.raises(UserError, match="no whole tar file"):
        keys_of(tmp_path / "b.tar.gz")


def test_pipes_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.tar")
    with pytest.raises(UserError, match="no such file"):
        keys_of(tmp_path / "a.tar")
    with pytest.raises(UserError, match="no image in this folder"):
        keys_of(tmp_path)
    picture(0).save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(UserError, match="without a caption"):
        keys_of(tmp_path)


def test_pack_names_what_is_in_its_way(tmp_path: Path, captions: Any, noise: Any) -> None:
    rows = generate(captions, noise(), tmp_path / "set", progress=False)
    pack(tmp_path / "set", tmp_path / "tars", per_shard=1)
    with pytest.raises(UserError, match=r"000001\.tar: would lie among the new shards"):
        pack(tmp_path / "set", tmp_path / "tars", per_shard=rows.images)
    gone = tmp_path / "set" / read_manifest(tmp_path / "set")[0].file
    gone.unlink()
    with pytest.raises(UserError, match=rf"{gone.name}: cannot be read \(No such file"):
        pack(tmp_path / "set", tmp_path / "again")


def test_pack_refuses_an_empty_set_and_a_replaced_image(
    tmp_path: Path, captions: Any, noise: Any
) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "images.jsonl").touch()
    with pytest.raises(UserError, match="lists no image"):
        pack(tmp_path / "none", tmp_path / "tars")
    generate(captions, noise(), tmp_path / "set", progress=False)
    first, second, *_ = sorted((tmp_path / "set").glob("images/*/*.png"))
    second.write_bytes(first.read_bytes())
    with pytest.raises(UserError, match=f"{second.name}: is not the image .* was changed"):
        pack(tmp_path / "set", tmp_path / "tars")
    assert not list(tmp_path.glob("tars/*.tar"))


def test_a_name_with_a_zero_byte_is_no_image(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "b.png")
    row = json.dumps({"file_name": "a\0.png", "text": "a dog"})
    (tmp_path / "metadata.jsonl").write_text(row + "\n")
    (sample,) = read_samples(tmp_path)
    with pytest.raises(UserError, match=r"cannot be read .embedded null byte"):
        sample.image()
