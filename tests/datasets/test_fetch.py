"""Archives of benchmarks, small ones of the same layout, from a server on the loopback address."""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from loopback_hub import Fault, Hub
from t2ipal.cli import main
from t2ipal.datasets import fetch, official
from t2ipal.miniature import official_layouts

TEST, TRAINVAL = "VOCtest_06-Nov-2007.tar", "VOCtrainval_06-Nov-2007.tar"


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small data sets in the layouts of the benchmarks, unpacked."""
    folder = tmp_path_factory.mktemp("layouts")
    with pytest.MonkeyPatch.context() as patch:
        small: dict[str, Any] = {"TEST_IMAGES": 6, "TRAIN_IMAGES_PER_THING": 2, "CAPTIONS": 8}
        small |= {"MARKED": {"test": 1, "train": 1}, "THINGS": official_layouts.THINGS[:4]}
        for name, value in small.items():
            patch.setattr(official_layouts, name, value)
        for name in ("voc2007", "coco2014", "nuswide"):
            official_layouts.build(name, folder / name)
    return folder


def _lines(path: Path) -> int:
    return len(path.read_text().split())


@pytest.fixture
def voc(hub: Hub, layouts: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A server with VOC2007's two archives, whose checksums are the official ones here."""
    root = layouts / "voc2007" / "VOC2007"
    lists = root / "ImageSets" / "Main"
    server, archives = fetch.SERVERS["voc2007"]
    known = []
    for archive, splits in zip(archives, (("test",), ("trainval", "train", "val")), strict=True):
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as tar:
            for split in splits:
                for path in sorted(lists.glob(f"*{split}.txt")):
                    tar.add(path, f"VOCdevkit/VOC2007/ImageSets/Main/{path.name}")
            for name in (lists / f"{splits[0]}.txt").read_text().split():
                for inside in (f"JPEGImages/{name}.jpg", f"Annotations/{name}.xml"):
                    tar.add(root / inside, f"VOCdevkit/VOC2007/{inside}")
        hub.blobs[archive.path] = content.getvalue()
        digest = hashlib.sha256(content.getvalue()).hexdigest()
        known.append(fetch._Archive(archive.part, archive.path, digest))
    monkeypatch.setitem(fetch.SERVERS, "voc2007", (server, tuple(known)))
    for split in official.OFFICIAL["voc2007"]:
        monkeypatch.setitem(official.OFFICIAL["voc2007"], split, _lines(lists / f"{split}.txt"))
    return hub


def _fetch(hub: Hub, out: Path, *more: str, name: str = "voc2007") -> int:
    return main(["data", "fetch", name, "--out", str(out), "--mirror", hub.store_url, *more])


def _files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_voc2007_is_fetched_unpacked_and_complete(
    voc: Hub, layouts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "voc"
    assert _fetch(voc, out) == 0
    said = capsys.readouterr().out
    assert f"voc2007: {TEST} (0.00 GB), {TRAINVAL} (0.00 GB); needs up to" in said
    assert "are free" in said
    assert not [name for name in _files(out) if name.endswith((".tar", ".part"))]
    assert main(["data", "check", str(out)]) == 0
    said = capsys.readouterr().out
    assert "VOC2007 test: 6 images" in said and "VOC2007 trainval: " in said
    asked = len(voc.requests)
    assert _fetch(voc, out) == 0
    assert "all is there already" in capsys.readouterr().out and len(voc.requests) == asked
    # the same images as in the layout
    image = "VOC2007/JPEGImages/"
    packed = {path.name: path.read_bytes() for path in (layouts / "voc2007" / image).iterdir()}
    for path in (out / "VOCdevkit" / image).iterdir():
        assert path.read_bytes() == packed[path.name]


def test_parts_alone(voc: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _fetch(voc, tmp_path / "voc", "--parts", "test") == 0
    assert not voc.count(TRAINVAL)
    assert main(["data", "check", str(tmp_path / "voc")]) == 0
    assert "not here: trainval" in capsys.readouterr().out
    assert _fetch(voc, tmp_path / "voc", "--parts", "tset") == 2
    assert "no part 'tset' (did you mean 'test'?)" in capsys.readouterr().err


def test_a_broken_connection_is_resumed(voc: Hub, tmp_path: Path) -> None:
    fault = Fault(f"GET /{TEST}", cut=5000, times=3)
    with voc.failing(fault):
        assert _fetch(voc, tmp_path / "voc", "--parts", "test") == 0
    assert voc.ranges == ["bytes=5000-", "bytes=10000-", "bytes=15000-"]


def test_an_interrupted_command_goes_on_where_it_was(
    voc: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "voc"
    with voc.failing(Fault(f"GET /{TEST}", cut=7000, times=1), Fault("GET", cut=0)):
        assert _fetch(voc, out, "--parts", "test") == 2
    assert "broke (peer closed connection" in capsys.readouterr().err
    assert _files(out) == [f"{TEST}.part"]
    voc.ranges.clear()
    assert _fetch(voc, out, "--parts", "test") == 0
    assert voc.ranges == ["bytes=7000-"]
    assert main(["data", "check", str(out)]) == 0


def test_a_wrong_checksum_is_told_and_nothing_is_kept(
    voc: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = voc.blobs[TEST]
    assert isinstance(content, bytes)
    voc.blobs[TEST] = content[:-1] + b"x"
    assert _fetch(voc, tmp_path / "voc", "--parts", "test") == 2
    said = capsys.readouterr().err
    assert "its checksum is " in said and "was deleted; run the same command again" in said
    assert _files(tmp_path) == []


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault(".", 500), "is out of order (it answers 500)"),
        (Fault(".", 404), "refuses (it answers 404); check the address"),
        (Fault("GET", 503), "is out of order (it answers 503)"),
    ],
    ids=["500", "404", "503"],
)
def test_a_server_that_fails_is_one_sentence(
    voc: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: Fault, says: str
) -> None:
    with voc.failing(fault):
        assert _fetch(voc, tmp_path / "voc") == 2
    said = capsys.readouterr().err
    assert says in said and said.count("t2ipal: ") == 1
    assert _files(tmp_path) == []


def test_no_network(voc: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voc.close()
    assert _fetch(voc, tmp_path / "voc") == 2
    assert "cannot be reached (" in capsys.readouterr().err
    assert _files(tmp_path) == []


def test_too_little_disk_is_said_before(
    voc: Hub,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    assert _fetch(voc, tmp_path / "voc") == 2
    assert "voc2007 needs up to 0.00 GB of disk and 0.00 GB are free" in capsys.readouterr().err
    assert not voc.count("^GET") and _files(tmp_path) == []


def _evil_tar(kind: str) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        member = tarfile.TarInfo("../evil" if kind == "path" else "VOCdevkit/evil")
        if kind == "link":
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(member)
    return content.getvalue()


def _evil_zip() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        packed.writestr("../evil", b"evil")
    return content.getvalue()


@pytest.mark.parametrize(
    ("benchmark", "content"),
    [
        ("voc2007", _evil_tar("path")),
        ("voc2007", _evil_tar("link")),
        ("voc2007", b"no archive"),
        ("coco2014", _evil_zip()),
        ("coco2014", b"no archive"),
    ],
    ids=["tar", "link in tar", "no tar", "zip", "no zip"],
)
def test_archives_that_reach_outside_are_refused(
    hub: Hub,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    benchmark: fetch.Benchmark,
    content: bytes,
) -> None:
    server, (first, *_) = fetch.SERVERS[benchmark]
    hub.blobs[first.path] = content
    known = fetch._Archive(first.part, first.path, hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(fetch.SERVERS, benchmark, (server, (known,)))
    assert _fetch(hub, tmp_path / "out", name=benchmark) == 2
    said = capsys.readouterr().err
    assert "cannot be unpacked" in said or "lies outside its folder" in said
    assert _files(tmp_path) == [f"out/{first.name}.part"]


def test_coco2014_is_fetched_and_complete(
    hub: Hub,
    layouts: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = layouts / "coco2014"
    server, archives = fetch.SERVERS["coco2014"]
    known = []
    for archive in archives:
        inside = {"annotations": "annotations"}.get(archive.part, f"{archive.part}2014")
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as packed:
            for path in sorted((root / inside).iterdir()):
                packed.write(path, f"{inside}/{path.name}")
        hub.blobs[archive.path] = content.getvalue()
        digest = hashlib.sha256(content.getvalue()).hexdigest()
        known.append(fetch._Archive(archive.part, archive.path, digest))
    monkeypatch.setitem(fetch.SERVERS, "coco2014", (server, tuple(known)))
    for split in official.OFFICIAL["coco2014"]:
        count = len(list((root / f"{split}2014").iterdir()))
        monkeypatch.setitem(official.OFFICIAL["coco2014"], split, count)
    assert _fetch(hub, tmp_path / "coco", name="coco2014") == 0
    assert main(["data", "check", str(tmp_path / "coco")]) == 1
    said = capsys.readouterr().out
    assert "MISSING captions    captions_train2014.json: 8 captions, officially 414,113" in said
    missing = [line for line in said.splitlines() if line.startswith("MISSING")]
    assert all("captions_" in line for line in missing)  # the images are complete


def test_what_is_fetched_by_hand_is_told_and_checked(
    layouts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("nuswide", "narratives"):
        assert main(["data", "fetch", name, "--out", str(tmp_path)]) == 2
        assert "by hand as docs/protocols.md says" in capsys.readouterr().err
    assert main(["data", "check", str(layouts / "nuswide")]) == 1
    said = capsys.readouterr().out
    assert "the official split has 107,859 images" in said
    assert "officially 507,444" in said
    assert main(["data", "check", str(tmp_path)]) == 2
    assert "holds neither VOC2007, MS-COCO 2014 nor NUS-WIDE" in capsys.readouterr().err
    assert main(["data", "fetch", "voc2012", "--out", str(tmp_path)]) == 2
    assert "did you mean 'voc2007'?" in capsys.readouterr().err
    assert main(["data", "fetch", "voc2007"]) == 2
    assert "--out DIR" in capsys.readouterr().err
    assert main(["data", "check", str(tmp_path), "--parts", "test"]) == 2
