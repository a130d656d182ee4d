"""Official archives of benchmarks: fetched, resumed, compared with their checksums, unpacked."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import urlsplit

from t2ipal.errors import UserError, listed, nearest
from t2ipal.files import append_jsonl, read_jsonl, sha256_file, temporary_path
from t2ipal.files.hub import NotFetched, server_failures
from t2ipal.files.lock import locking

Benchmark = Literal["voc2007", "coco2014"]
FETCHED = "fetched.jsonl"


@dataclass(frozen=True)
class _Archive:
    """An archive of a benchmark; ``path`` is its address below the server's."""

    part: str
    path: str
    sha256: str

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


# Checksums: those of torchvision's data sets of the same names (prototypes, version 0.15).
SERVERS: dict[Benchmark, tuple[str, tuple[_Archive, ...]]] = {
    "voc2007": (
        "https://thor.robots.ox.ac.uk/pascal/VOC/voc2007",
        (
            _Archive(
                "test",
                "VOCtest_06-Nov-2007.tar",
                "6836888e2e01dca84577a849d339fa4f73e1e4f135d312430c4856b5609b4892",
            ),
            _Archive(
                "trainval",
                "VOCtrainval_06-Nov-2007.tar",
                "7d8cd951101b0957ddfd7a530bdc8a94f06121cfc1e511bb5937e973020c7508",
            ),
        ),
    ),
    "coco2014": (
        "http://images.cocodataset.org",
        (
            _Archive(
                "annotations",
                "annotations/annotations_trainval2014.zip",
                "031296bbc80c45a1d1f76bf9a90ead27e94e99ec629208449507a4917a3bf009",
            ),
            _Archive(
                "val",
                "zips/val2014.zip",
                "fe9be816052049c34717e077d9e34aa60814a55679f804cd043e3cbee3b9fde0",
            ),
            _Archive(
                "train",
                "zips/train2014.zip",
                "ede4087e640bddba550e090eae701092534b554b42b05ac33f0300b984b31775",
            ),
        ),
    ),
}


@locking
def fetch_benchmark(
    out: Path,
    benchmark: Benchmark,
    *,
    parts: Sequence[str] = (),
    mirror: str | None = None,
    say: Callable[[str], object] = print,
) -> None:
    """Fetch the archives of a benchmark and unpack them in ``out``; what is there is kept.

    An interrupted download resumes; an archive is unpacked only if its checksum is the official
    one, is then deleted, and is noted in ``fetched.jsonl``.

    Args:
        parts: which archives; all of them if empty.
        mirror: address of another server with the same paths.
        say: told what is to be fetched, how much disk it takes, and what has been done.

    Raises:
        UserError: no such part, too little disk, a server that fails, a wrong checksum, an archive
            with files outside its folder.
    """
    server, archives = SERVERS[benchmark]
    known = [archive.part for archive in archives]
    for part in parts:
        if part not in known:
            raise UserError(
                f"{benchmark} has no part {part!r}{nearest(part, known)}; its parts: "
                f"{listed(known)}."
            )
    note = out / FETCHED
    done = {row["sha256"] for _, row in read_jsonl(note)} if note.exists() else set()
    wanted = [one for one in archives if not parts or one.part in parts]
    wanted = [archive for archive in wanted if archive.sha256 not in done]
    if not wanted:
        say(f"{benchmark}: all is there already, in {out}")
        return
    address = (mirror or server).rstrip("/")
    if urlsplit(address).scheme not in ("http", "https"):
        raise UserError(f"{address}: is no address of a server; write http://HOST or https://HOST.")
    sizes = {archive: _size(f"{address}/{archive.path}") for archive in wanted}
    _announce(benchmark, sizes, out, say)
    for archive, size in sizes.items():
        file = _download(f"{address}/{archive.path}", archive, size, out)
        _unpack(file, archive, out)
        append_jsonl(note, {"archive": archive.name, "sha256": archive.sha256})
        file.unlink()
        say(f"{archive.name} is unpacked in {out}")


def _size(url: str) -> int:
    from huggingface_hub import get_session, hf_raise_for_status

    with server_failures(url, urlsplit(url).netloc):
        answer = get_session().head(url, follow_redirects=True, timeout=30)
        hf_raise_for_status(answer)
    length = answer.headers.get("Content-Length", "")
    if not length.isdigit():
        raise UserError(f"{url}: the server does not tell its size; name another with --mirror.")
    return int(length)


def _announce(
    benchmark: str, sizes: dict[_Archive, int], out: Path, say: Callable[[str], object]
) -> None:
    """Say what is fetched and how much disk it takes; refuse if there is less.

    Photos are compressed already, so archives unpack to about their own size.
    """
    parts = [out / f"{archive.name}.part" for archive in sizes]
    there = sum(part.stat().st_size for part in parts if part.is_file())
    needed = sum(sizes.values()) + max(sizes.values()) - there
    free = shutil.disk_usage(out).free
    names = ", ".join(f"{archive.name} ({_gigabytes(size)})" for archive, size in sizes.items())
    say(
        f"{benchmark}: {names}; needs up to {_gigabytes(needed)} of disk in {out}, where "
        f"{_gigabytes(free)} are free"
    )
    if needed > free:
        raise NotFetched(
            f"{out}: {benchmark} needs up to {_gigabytes(needed)} of disk and "
            f"{_gigabytes(free)} are free; choose another --out, or name some --parts."
        )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


def _download(url: str, archive: _Archive, size: int, out: Path) -> Path:
    """The whole archive, with the right checksum, under its name with ``.part``.

    Raises:
        UserError: the server fails (what has arrived is kept), or the checksum is another.
    """
    from huggingface_hub.file_download import http_get

    partial = out / f"{archive.name}.part"
    if partial.is_file() and partial.stat().st_size > size:
        partial.unlink()
    try:
        with server_failures(url, urlsplit(url).netloc), partial.open("ab") as file:
            http_get(
                url,
                file,
                resume_size=file.tell(),
                expected_size=size,
                displayed_filename=archive.name,
            )
    finally:
        if not partial.stat().st_size:
            partial.unlink()
    if (found := sha256_file(partial)) != archive.sha256:
        partial.unlink()
        raise UserError(
            f"{url}: its checksum is {found[:16]}..., not {archive.sha256[:16]}..., so it is "
            "damaged or another file, and was deleted; run the same command again, or name "
            "another server with --mirror."
        )
    return partial


def _unpack(file: Path, archive: _Archive, out: Path) -> None:
    """Unpack beside its place, then move each file to it.

    Raises:
        UserError: the archive is broken, or names files outside.
    """
    staging = temporary_path(out / archive.name)
    try:
        if archive.name.endswith(".zip"):
            with zipfile.ZipFile(file) as packed:
                for name in packed.namelist():
                    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                        raise UserError(
                            f"{archive.name}: names {name!r}, which lies outside its folder; "
                            "nothing was unpacked."
                        )
                packed.extractall(staging)
        else:
            with tarfile.open(file) as unpacked:
                unpacked.extractall(staging, filter="data")
        for path in sorted(staging.rglob("*")):
            if path.is_file():
                place = out / path.relative_to(staging)
                place.parent.mkdir(parents=True, exist_ok=True)
                path.replace(place)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise UserError(
            f"{archive.name}: cannot be unpacked ({error}); delete it, then run the same command "
            "again."
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
