"""Damaged files through every reader: refused in a sentence, or read; nothing else.

A file that some reader takes is changed in its bytes or, if it is JSON, in its values. The reader
is then called in a process that goes through many of them; what raises anything but an error that
:mod:`t2ipal.cli.door` has a sentence for, takes 20 seconds or 2 GB, or ends the process, is kept.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import random
import resource
import shutil
import signal
import struct
import tarfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from t2ipal.cli.door import sentence

Reader = Callable[[Path], object]
BLOCK = 200  # damaged inputs in a row of the journal, and in a process
_SECONDS, _MEGABYTES = 20, 2000
_WORDS = (
    b"NaN", b"-1", b"1e999", b"9" * 5000, b"[" * 3000, b'{"a":' * 3000, b"\x00", b"\xff\xfe",
    b"\xef\xbb\xbf", b"\r", b"\n\n", b'"', b"'", b"\\ud800", b"\xed\xa0\x80", b"../", b"/dev/zero",
    b"null", b"true", b"{}", b"[]", b"0x", b"!!python/object:os.system x", b"&a [*a]", b"<<: *x",
    b"\x1b[31m", "\u202e\u2028\x85".encode(), b",", b"\t", b"x" * 70_000, b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff", b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"\0" * 600,
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1e308, float("nan"), float("inf"), 10**30, 10**9, 2**31, "", "x", "\ud800",
    "a\0b", "../x", "/etc/passwd", "x" * 70_000, [], {}, [[]], [0], {"a": []}, "\u202e", 0.5, "1",
    "hf-hub:a/b", [1, 2, 3], "\x1b[31m",
)  # fmt: skip


def damage(content: bytes, chance: random.Random) -> bytes:
    """The bytes with one to four changes."""
    for _ in range(chance.choice((1, 1, 2, 4))):
        content = _value_changed(content, chance) or _bytes_changed(content, chance)
    return content


def _value_changed(content: bytes, chance: random.Random) -> bytes | None:
    """One value of JSON, or of one of its lines, replaced, removed or doubled; None if not JSON."""
    if content[:1] not in (b"{", b"[") or chance.random() < 0.4:
        return None
    lines = content.split(b"\n")
    rows = [number for number, line in enumerate(lines) if line[:1] in (b"{", b"[")]
    whole = len(rows) != sum(map(bool, lines))
    row = chance.choice(rows)
    try:
        value = json.loads(content if whole else lines[row])
    except (ValueError, RecursionError):
        return None
    holders: list[Any] = []
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict | list) and node:
            holders.append(node)
            waiting += node.values() if isinstance(node, dict) else node
    if holders:
        holder = chance.choice(holders)
        key = chance.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        action = chance.randrange(5)
        if action == 0:
            del holder[key]
        elif action == 1 and isinstance(holder, dict):
            holder[chance.choice(("a", "", "id", "\ud800", str(key) + "x"))] = holder.pop(key)
        elif action == 2 and isinstance(holder, list):
            holder.append(holder[key])
        else:
            holder[key] = chance.choice(_VALUES)
    text = json.dumps(value).encode()
    if whole:
        return text
    lines[row] = text
    return b"\n".join(lines)


def _bytes_changed(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content) + 1)
    end = min(len(content), at + chance.choice((1, 1, 2, 4, 16, 200)))
    match chance.randrange(8):
        case 0:
            return content[:at]
        case 1:
            return content[:at] + content[end:]
        case 2:
            return content[:at] + content[at:end] * chance.choice((2, 3, 50)) + content[end:]
        case 3 | 4:
            return content[:at] + chance.choice(_WORDS) + content[chance.choice((at, end)) :]
        case 5:
            return content[:at] + chance.randbytes(end - at) + content[end:]
        case 6:
            other = chance.randrange(len(content) + 1)
            return content[:at] + content[other : other + end - at] + content[end:]
        case _:
            if at == len(content):
                return content + b"\0"
            return (
                content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :]
            )


@dataclass(frozen=True)
class Target:
    """Files that a reader takes: name -> bytes, which of them are damaged, and the reader."""

    files: dict[str, bytes]
    damaged: tuple[str, ...]
    read: Reader


def damage_all(
    count: int, seed: int, done: set[Any], scratch: Path, found: Path
) -> Iterator[dict[str, Any]]:
    """Damage ``count`` inputs, the readers in turn; a row per block of them.

    Args:
        found: folder in which the inputs are kept that were a fault.
    """
    made = {name: make(scratch) for name, make in MAKERS.items()}
    targets = [(name, one) for name, several in made.items() for one in several]
    for number in range(-(-count // BLOCK)):
        name, target = targets[number % len(targets)]
        if ("inputs", seed, name, number) in done:
            continue
        yield {
            "stage": name,
            "number": number,
            **_block(name, target, number, seed, scratch, found),
        }


def _block(
    name: str, target: Target, number: int, seed: int, scratch: Path, found: Path
) -> dict[str, Any]:
    """Go through a block in processes of their own, a new one behind each that ended."""
    faults, refused, megabytes, start = list[str](), 0, 0, 0
    while start < BLOCK:
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(read)
            try:
                _go_through(target, name, number, seed, start, scratch, write)
            finally:
                os._exit(0)
        os.close(write)
        at, last = start, time.monotonic()
        with os.fdopen(read, "rb") as stream:
            os.set_blocking(read, True)
            while True:
                signal.signal(signal.SIGALRM, partial(_kill, pid))
                signal.setitimer(signal.ITIMER_REAL, 20 * _SECONDS)  # a busy machine is no hang
                try:
                    row = pickle.load(stream)
                except EOFError:
                    break
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                at, last = row["at"] + 1, time.monotonic()
                refused += row["refused"]
                megabytes = max(megabytes, row["megabytes"])
                if row["fault"]:
                    faults.append(_kept(found, name, target, seed, number, row["at"], row["fault"]))
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status:
            why = f"ended by {status} after {time.monotonic() - last:.0f} s"
            faults.append(_kept(found, name, target, seed, number, at, why))
            at += 1
        start = at
    return {
        "what": f"block {number}", "attempts": BLOCK, "faults": faults, "hits": refused,
        "megabytes": megabytes,
    }  # fmt: skip


def _kill(pid: int, *_: object) -> None:
    os.kill(pid, signal.SIGKILL)


def _kept(found: Path, name: str, target: Target, seed: int, number: int, at: int, why: str) -> str:
    found.mkdir(exist_ok=True)
    place = found / f"{name}-{seed}-{number}-{at}"
    place.mkdir(exist_ok=True)
    file, content = _damaged(target, seed, number, at)
    (place / Path(file).name).write_bytes(content)
    (place / "why.txt").write_text(why, errors="replace")
    return f"{place.name}: {' '.join(why.split())[-250:]}"


def _damaged(target: Target, seed: int, number: int, at: int) -> tuple[str, bytes]:
    chance = random.Random(f"{seed} {number} {at}")
    file = chance.choice(target.damaged)
    return file, damage(target.files[file], chance)


def _go_through(
    target: Target, name: str, number: int, seed: int, start: int, scratch: Path, write: int
) -> None:
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    folder = scratch / f"{name}-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    for file, content in target.files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000
    for at in range(start, BLOCK):
        file, content = _damaged(target, seed, number, at)
        (folder / file).write_bytes(content)
        began = time.process_time()
        refused, fault = try_reader(target.read, folder)
        past = time.process_time() - began
        megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000
        if past > _SECONDS:
            fault = f"took {past:.0f} s"
        if megabytes > max(_MEGABYTES, before):
            fault = fault or f"{megabytes} MB"
        row = {"at": at, "refused": refused, "fault": fault, "megabytes": megabytes}
        os.write(write, pickle.dumps(row))
        restored = folder / file
        if not restored.is_file() or restored.read_bytes() == content:
            restored.parent.mkdir(parents=True, exist_ok=True)
            restored.write_bytes(target.files[file])
        if megabytes > _MEGABYTES:
            break
    shutil.rmtree(folder, ignore_errors=True)


def try_reader(read: Reader, folder: Path) -> tuple[bool, str]:
    """Whether the reader refused the files of a folder, and what it should not have done."""
    try:
        read(folder)
    except Exception as error:
        said = sentence(error)
        if said is None:
            return False, "".join(traceback.format_exception(error))[-1500:]
        return True, "" if said.strip() and len(said) < 5000 else f"says {said[:100]!r}"
    return False, ""


# --- what there is to read ----------------------------------------------------------------------


def _one(files: dict[str, bytes], read: Reader, *damaged: str) -> Target:
    return Target(files, damaged or tuple(files), read)


def _captions(scratch: Path) -> list[Target]:
    from t2ipal.captions.sources import read_captions

    rows = [{"id": n, "image_id": n // 2, "caption": f"a dog and {n} cats"} for n in range(6)]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    karpathy = {"images": [{"imgid": 1, "sentences": [{"raw": "a dog"}, {"raw": "a cat"}]}]}
    files = {
        "c.txt": "a dog\nan \u00fcber cat\n\nthree buses\n".encode(),
        "c.csv": b'id,caption\n1,"a dog, a ""cat"""\n2,a bus\n',
        "token.txt": b"1.jpg#0\ta dog\n1.jpg#1\ta cat\n",
        "c.jsonl": lines,
        "coco.json": json.dumps({"annotations": rows, "images": []}).encode(),
        "k.json": json.dumps(karpathy).encode(),
        "list.json": json.dumps(["a dog", {"text": "a cat"}]).encode(),
        "by.json": json.dumps({"1.jpg": ["a dog", "a cat"]}).encode(),
        "c.txt.gz": gzip.compress(b"a dog\na cat\n" * 20),
        "wide.txt": "a dog\na cat\n".encode("utf-16"),
    }

    def read(name: str, folder: Path) -> None:
        read_captions(folder / name)

    return [_one({name: content}, partial(read, name)) for name, content in files.items()]


def _labelled(scratch: Path) -> list[Target]:
    from t2ipal.captions.labelled import label_captions, read_labelled
    from t2ipal.files import to_json_line

    rows = label_captions(["an orange cat by a bus stop", "a dog", "two people"], "coco2014")
    content = "".join(map(to_json_line, rows)).encode()
    return [_one({"c.jsonl": content}, lambda folder: read_labelled(folder / "c.jsonl"))]


def _classes(scratch: Path) -> list[Target]:
    from t2ipal.captions.labelled import label_captions
    from t2ipal.vocabulary import Vocabulary

    files = {
        "k.yaml": b"- dog\n- {name: person, synonyms: [man, woman]}\n- name: bus\n  readable: x\n",
        "m.yaml": b"title: mine\nclasses:\n- dog\n- bow_(weapon)\n",
        "k.txt": b"dog\ncat\n\nbus stop\n",
        "k.csv": b"name,synonyms\ndog,puppy\ncat,kitten\n",
        "k.json": b'["dog", {"name": "cat", "synonyms": ["kitten"]}]',
    }

    def read(name: str, folder: Path) -> None:
        label_captions(["a dog and a cat", "no man"], Vocabulary.load(folder / name))

    return [_one({name: content}, partial(read, name)) for name, content in files.items()]


def _configurations(scratch: Path) -> list[Target]:
    from t2ipal.runs.config import RunConfig
    from t2ipal.runs.folder import changed_settings, made_from

    config = RunConfig(classes="voc2007", compose=5, generator="miniature")
    config.write(scratch / "config.yaml")
    content = (scratch / "config.yaml").read_bytes()
    notes = json.dumps({"captions.jsonl": "0" * 64, "model": "1" * 64}).encode()

    def read(folder: Path) -> None:
        found = RunConfig.read(folder / "config.yaml")
        changed_settings(found, folder, overwrite=True)
        made_from(folder)

    return [
        _one({"config.yaml": content, "made_from.json": notes}, read, "config.yaml"),
        _one({"config.yaml": content, "made_from.json": notes}, read, "made_from.json"),
    ]


def _manifests(scratch: Path) -> list[Target]:
    from t2ipal.captions.labelled import LabelledCaption
    from t2ipal.generation.exchange import pack
    from t2ipal.generation.job import Identity, Plan
    from t2ipal.generation.store import ImageRow, ImageStore, read_manifest

    captions = [LabelledCaption(f"c{n}", f"dog {n}", ("dog",), (), {}) for n in range(3)]
    identity = Identity("noise", "1", {"steps": 1}, 0)
    store = ImageStore(scratch / "store")
    plan = Plan(captions, 1, store, identity, 0)
    rows = [
        ImageRow(
            job.id, job.caption.id, 0, job.caption.caption, ("dog",), (),
            identity.image_seed(job.caption.id, 0, 0), 0, "noise", "1",
            {"steps": 1, "device": "cpu"},
            *store.save(_picture(), job.id), (), (), (), "0" * 32,
        )
        for job in plan.jobs(plan.to_generate(None))
    ]  # fmt: skip
    store.finish(rows)
    files = {
        path.relative_to(store.folder).as_posix(): path.read_bytes()
        for path in store.folder.rglob("*")
        if path.is_file()
    }
    shutil.rmtree(store.folder)
    images = tuple(name for name in files if name.endswith(".png"))

    def packed(folder: Path) -> None:
        read_manifest(folder)
        pack(folder, folder / "out")

    def planned(folder: Path) -> None:
        store = ImageStore(folder)
        plan = Plan(captions, 1, store, identity, 0)
        store.discard(plan.rows.numbered(number) for number, _ in plan.foreign.values())

    journal = {**files, "images.partial.jsonl": files["images.jsonl"]}
    return [
        _one(files, packed, "images.jsonl"),
        _one(files, packed, *images),
        _one(files, planned, "images.jsonl"),
        _one(journal, planned, "images.partial.jsonl"),
    ]


def _picture(side: int = 24) -> Any:
    from PIL import Image

    chance = random.Random(side)
    return Image.frombytes("RGB", (side, side), chance.randbytes(3 * side * side))


_KINDS: dict[str, dict[str, Any]] = {
    "PNG": {}, "JPEG": {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"},
    "GIF": {}, "WEBP": {}, "BMP": {}, "TIFF": {"compression": "tiff_lzw"}, "PPM": {}, "TGA": {},
    "ICO": {}, "PCX": {}, "JPEG2000": {}, "DDS": {}, "SGI": {}, "QOI": {}, "AVIF": {}, "ICNS": {},
}  # fmt: skip


def _pictures(scratch: Path) -> list[Target]:
    from t2ipal.files.pictures import load_image, why_unreadable

    def read(folder: Path) -> None:
        (why_unreadable([folder / "picture"]))
        load_image(folder / "picture", max_megapixels=20)

    targets = []
    for kind, options in _KINDS.items():
        stream = io.BytesIO()
        try:
            _picture().save(stream, kind, **options)
        except (OSError, KeyError, ValueError):  # this Pillow cannot write it
            continue
        targets.append(_one({"picture": stream.getvalue()}, read))
    return targets


def _png() -> bytes:
    stream = io.BytesIO()
    _picture().save(stream, "PNG")
    return stream.getvalue()


def _labelled_images(scratch: Path) -> list[Target]:
    from t2ipal.datasets.read import read_labelled_images
    from t2ipal.files.broken import Broken
    from t2ipal.vocabulary import Vocabulary

    vocabulary, png = Vocabulary.of(["dog", "cat"]), _png()
    voc, wide = Vocabulary.load("voc2007"), Vocabulary.load("nuswide")
    coco = {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 24, "height": 24} for n in (1, 2)],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [{"id": 7, "image_id": 1, "category_id": 2, "bbox": [0, 0, 9, 9]}],
    }

    def read(spec: str, classes: Vocabulary) -> Reader:
        def reader(folder: Path) -> None:
            broken = Broken()
            found = read_labelled_images(spec.format(folder), classes, broken=broken)
            found.readable(broken)

        return reader

    xml = (
        b"<annotation><filename>000001.jpg</filename><object><name>dog</name><difficult>0"
        b"</difficult><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
        b"</object></annotation>"
    )
    stream = io.BytesIO()
    _picture().save(stream, "JPEG")
    tables = [f"Groundtruth/TrainTestLabels/Labels_{name}_Test.txt" for name in wide.names]
    root = "VOC2007"
    devkit = {
        f"{root}/ImageSets/Main/test.txt": b"000001\n",
        f"{root}/Annotations/000001.xml": xml,
        f"{root}/JPEGImages/000001.jpg": stream.getvalue(),
    }
    return [
        _one(
            {"labels.csv": b"image,labels\n1.png,dog|cat\n2.png,\n", "1.png": png, "2.png": png},
            read("{}", vocabulary), "labels.csv",
        ),
        _one(
            {"labels.csv": b"image,dog,cat\n1.png,1,0\n2.png,-1,\n", "1.png": png, "2.png": png},
            read("{}", vocabulary), "labels.csv",
        ),
        _one(
            {"c.json": json.dumps(coco).encode(), "1.png": png, "2.png": png},
            read("{}/c.json", vocabulary), "c.json",
        ),
        _one(
            {"labels.csv": b"image,labels\n1.png,dog\n", "1.png": png},
            read("{}", vocabulary), "1.png",
        ),
        _one(devkit, read("voc2007:{}", voc), *list(devkit)[:2]),
        _one(
            {
                "ImageList/TestImagelist.txt": b"a\\1.jpg\nb\\2.jpg\n",
                "ConceptsList/Concepts81.txt": "\n".join(wide.names).encode(),
                **{f"Flickr/{name}": stream.getvalue() for name in ("a/1.jpg", "b/2.jpg")},
                **dict.fromkeys(tables, b"1\n0\n"),
            },
            read("nuswide:{}", wide), "ImageList/TestImagelist.txt",
            "ConceptsList/Concepts81.txt", tables[0],
        ),
    ]  # fmt: skip


def _imports(scratch: Path) -> list[Target]:
    from t2ipal.files.broken import Broken
    from t2ipal.generation.samples import read_samples

    png = _png()

    def archive(mode: str) -> bytes:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode=mode) as tar:  # type: ignore[call-overload]
            for key in ("a", "b"):
                told = json.dumps({"caption": "a cat"}).encode()
                for name, data in ((f"{key}.png", png), (f"{key}.json", told)):
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
        return stream.getvalue()

    def read(name: str) -> Reader:
        def reader(folder: Path) -> None:
            for sample in read_samples(folder / name, broken=Broken(max_megapixels=20)):
                sample.image(20)

        return reader

    listed = b'{"file_name": "1.png", "text": "a dog"}\n{"file_name": "2.png", "text": "a cat"}\n'
    table = b"file_name,text\n1.png,a dog\n2.png,a cat\n"
    images = {"1.png": png, "2.png": png}
    return [
        _one({"a.tar": archive("w")}, read("a.tar")),
        _one({"a.tar.gz": archive("w:gz")}, read("a.tar.gz")),
        _one({"a.tar.xz": archive("w:xz")}, read("a.tar.xz")),
        _one({"a.tar.bz2": archive("w:bz2")}, read("a.tar.bz2")),
        _one({"metadata.jsonl": listed, **images}, read(""), "metadata.jsonl"),
        _one({"metadata.csv": table, **images}, read(""), "metadata.csv"),
        _one({"1.txt": b"a dog", "2.json": b'{"caption": "a cat"}', **images}, read("")),
    ]


def _taggers(scratch: Path) -> list[Target]:
    """The packaged tagger, its CLIP loaded once: what a model folder says is what is damaged."""
    from t2ipal.clip.backbone import Backbone
    from t2ipal.tagger import PACKAGED
    from t2ipal.tagger.tagger import Tagger

    folder = PACKAGED["photo"]
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    backbones: dict[Any, Any] = {}
    load = Backbone.load

    def loaded(settings: Any, **more: Any) -> Any:
        key = (settings.clip, settings.image_size, settings.resize_mode, settings.local_grid, *more)
        if key not in backbones:
            if len(backbones) > 8:
                backbones.clear()
            backbones[key] = load(settings, **more)
        return backbones[key]

    def read(folder: Path) -> None:
        Backbone.load = loaded  # type: ignore[method-assign]
        tagger = Tagger.from_pretrained(folder, device="cpu")
        scores = tagger.predict(_picture())
        json.dumps(dict(scores), allow_nan=False)

    return [_one(files, read, name) for name in ("config.json", "model.safetensors")]


def _clips(scratch: Path) -> list[Target]:
    from t2ipal.clip.load import find
    from t2ipal.miniature.weights import path

    folder = Path(path("clip"))
    files = {one.name: one.read_bytes() for one in folder.iterdir() if one.is_file()}
    weights = [name for name in files if name.endswith(".safetensors")]
    header = 8 + struct.unpack("<Q", files[weights[0]][:8])[0]

    def read(folder: Path) -> None:
        source = find(str(folder))
        source.load_tokenizer()([("a dog")])

    def load(folder: Path) -> None:
        find(str(folder)).load()

    head = {**files, weights[0]: files[weights[0]][: header + 4000]}
    return [
        _one(files, read, *(name for name in files if name.endswith(".json"))),
        _one(head, load, weights[0], "open_clip_config.json"),
    ]


def _generators(scratch: Path) -> list[Target]:
    from t2ipal.generation.diffusion.source import _refuse_code, locate
    from t2ipal.miniature.weights import path

    folder = Path(path("generator"))
    files = {
        one.relative_to(folder).as_posix(): one.read_bytes()[:20_000]
        for one in folder.rglob("*")
        if one.is_file()
    }

    def read(folder: Path) -> None:
        locate(str(folder))
        _refuse_code(folder)

    return [_one(files, read, *(name for name in files if name.endswith(".json")))]


def _features(scratch: Path) -> list[Target]:
    import torch

    from t2ipal.clip.shards import Item, ShardFolder

    torch.manual_seed(0)
    items = [Item(f"key{n}", torch.randn(8), torch.randn(4, 8).half()) for n in range(3)]
    folder = ShardFolder(scratch / "shards", "images-x")
    folder.write(items, (2, 2))
    files = {path.name: path.read_bytes() for path in (scratch / "shards").iterdir()}
    shutil.rmtree(scratch / "shards")

    def read(folder: Path) -> None:
        shards = ShardFolder(folder, "images-x")
        shards.refresh()
        places = shards.find(item.key for item in items)
        if (places >= 0).any():
            shards.gather(places[places >= 0])

    return [_one(files, read)]


def _journals(scratch: Path) -> list[Target]:
    from t2ipal.runs.measure import _read_journal

    path = scratch.parent / "given" / "r" / "measurements.jsonl"
    if not path.exists():
        return []
    return [
        _one(
            {"measurements.jsonl": path.read_bytes()},
            lambda folder: _read_journal(folder / "measurements.jsonl"),
        )
    ]


MAKERS: dict[str, Callable[[Path], list[Target]]] = {
    "captions": _captions,
    "labelled captions": _labelled,
    "class lists": _classes,
    "configurations": _configurations,
    "manifests and journals": _manifests,
    "pictures": _pictures,
    "labelled images": _labelled_images,
    "imports": _imports,
    "tagger folders": _taggers,
    "CLIP folders": _clips,
    "generator folders": _generators,
    "feature shards": _features,
    "measurements": _journals,
}
