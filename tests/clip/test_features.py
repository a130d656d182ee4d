"""The feature cache: same features, computed once, never mixed up, whole after any interruption."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load, save_file
from torch import Tensor

from t2ipal.clip import features, image_reader, shards
from t2ipal.clip.backbone import Backbone
from t2ipal.clip.clip_settings import ClipSettings
from t2ipal.clip.dense import ImageFeatures
from t2ipal.clip.features import FeatureCache, image_items
from t2ipal.datasets.labelled_images import LabelledImages
from t2ipal.errors import UserError
from t2ipal.files import sha256_file
from t2ipal.files.broken import Broken
from t2ipal.files.pictures import load_image

TEXTS = ["a dog", "a person riding a bicycle down the street.", "two cats", "a dog"]


def draw_images(folder: Path, count: int) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    files = []
    for number in range(count):
        pixels = torch.randint(0, 256, (70, 80, 3), generator=generator, dtype=torch.uint8)
        files.append(folder / f"{number:03}.png")
        Image.fromarray(pixels.numpy()).resize((64, 64)).save(files[-1])
    return files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return draw_images(tmp_path_factory.mktemp("images"), 11)


@contextmanager
def counting(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Count the batches that go through the vision tower, and their sizes."""
    sizes: list[int] = []
    original = backbone.encode_image

    def encode(pixels: Tensor) -> ImageFeatures:
        sizes.append(len(pixels))
        return original(pixels)

    with monkeypatch.context() as patch:
        patch.setattr(backbone, "encode_image", encode)
        yield sizes


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_features_are_the_backbones(tiny_vit: Backbone, files: list[Path], tmp_path: Path) -> None:
    bank = FeatureCache(tmp_path, tiny_vit).images(files, batch_size=4)
    pixels = torch.stack([tiny_vit.preprocess(load_image(file)) for file in files])
    direct = tiny_vit.encode_image(pixels)
    assert bank.global_.dtype == torch.float32 and bank.local.dtype == torch.float16
    torch.testing.assert_close(bank.global_, F.normalize(direct.global_, dim=-1), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        bank.local.float(), F.normalize(direct.local, dim=-1), atol=1e-3, rtol=0
    )
    assert bank.grid == (8, 8) and bank.local.shape == (11, 64, 32) and bank.computed == 11


def test_only_what_is_missing_is_computed(
    tiny_vit: Backbone, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FeatureCache(tmp_path, tiny_vit)
    with counting(tiny_vit, monkeypatch) as sizes:
        first = cache.images(files[:5], batch_size=4)
        assert sizes == [4, 4] and first.computed == 5
        again = FeatureCache(tmp_path, tiny_vit).images(files[:5], batch_size=4)
        assert sizes == [4, 4] and again.computed == 0
        more = cache.images(files[::-1], batch_size=4)  # another order, six new ones
        assert sizes == [4] * 4 and more.computed == 6
    assert torch.equal(again.global_, first.global_) and torch.equal(again.local, first.local)
    assert torch.equal(more.global_.flip(0)[:5], first.global_)
    assert torch.equal(more.local.flip(0)[:5], first.local)
    # the same images, whoever was computed beside them
    alone = FeatureCache(tmp_path / "alone", tiny_vit).images(files, batch_size=4)
    assert torch.equal(alone.global_, more.global_.flip(0))


def test_broken_images_are_left_out_and_change_no_other(
    tiny_vit: Backbone, files: list[Path], tmp_path: Path
) -> None:
    whole = FeatureCache(tmp_path / "whole", tiny_vit).images(files)
    empty, cut, twin, gone = (tmp_path / f"{name}.png" for name in ("e", "cut", "twin", "gone"))
    empty.touch()
    cut.write_bytes(files[0].read_bytes()[:100])
    shutil.copy(cut, twin)
    mixed = [empty, *files[:3], cut, *files[3:], twin, gone]
    targets = np.arange(len(mixed), dtype=np.int8)[:, None]
    images = LabelledImages("set", tuple(mixed), targets)
    with pytest.raises(UserError, match=r"gone\.png: .*not found.*--skip-broken"):
        FeatureCache(tmp_path / "mixed", tiny_vit).images(mixed)
    cache = FeatureCache(tmp_path / "mixed", tiny_vit, broken=Broken(skip=True))
    with pytest.raises(UserError, match=r"e\.png: .*(empty|read)"):
        cache.images(mixed)
    kept = cache.readable(images, crops=2)
    assert kept.files == tuple(files) and kept.skipped == 4
    assert kept.targets[:, 0].tolist() == [1, 2, 3, *range(5, 13)]
    assert set(cache.broken.reasons) == {str(path) for path in (empty, cut, twin, gone)}
    assert torch.equal(cache.images(kept.files).global_, whole.global_)
    again = FeatureCache(tmp_path / "mixed", tiny_vit, broken=Broken(skip=True))
    assert again.readable(images, crops=2).files == kept.files
    assert again.embed_images(kept.files, crops=2) == 0
    with pytest.raises(UserError, match="none of its images"):
        cache.readable(images.take([0, 4]))


def test_a_file_is_hashed_once_however_often_it_is_asked_for(
    tiny_vit: Backbone, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[Path] = []

    def counted(path: Path) -> str:
        hashed.append(path)
        return sha256_file(path)

    monkeypatch.setattr(image_reader, "sha256_file", counted)
    cache = FeatureCache(tmp_path / "cache", tiny_vit, broken=Broken(skip=True))
    labelled = LabelledImages("test", tuple(files), np.zeros((len(files), 1), np.int8))
    kept = cache.readable(cache.readable(labelled, crops=2, progress=False), progress=False)
    image_items(cache, kept.files, kept.targets, crops=2, progress=False)
    assert sorted(hashed) == sorted(files)
    changed = shutil.copy(files[0], tmp_path / "changed.png")
    first = cache.reader.hashes([changed])
    shutil.copy(files[1], changed)
    assert cache.reader.hashes([changed]) == [sha256_file(files[1])] != first


def test_the_hash_is_the_image(
    tiny_vit: Backbone, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FeatureCache(tmp_path / "cache", tiny_vit)
    copy = tmp_path / "copy.png"
    shutil.copy(files[0], copy)
    bank = cache.images([files[0], copy, files[1]])
    assert bank.computed == 2 and torch.equal(bank.global_[0], bank.global_[1])
    assert not torch.equal(bank.global_[0], bank.global_[2])
    with counting(tiny_vit, monkeypatch) as sizes:
        # known hashes: the files need not even be there
        gone = [tmp_path / "gone.png", tmp_path / "too.png"]
        same = cache.images(gone, [sha256_file(files[1]), sha256_file(files[0])])
        assert sizes == []
    assert torch.equal(same.global_, bank.global_[[2, 0]])
    with pytest.raises(ValueError, match="2 files but 1 hashes"):
        cache.images(gone, ["0"])


def test_nothing_is_reused_across_backbones_or_preprocessing(
    tiny_vit: Backbone,
    tiny_resnet: Backbone,
    tiny_vit_folder: Path,
    files: list[Path],
    tmp_path: Path,
) -> None:
    squash = Backbone.load(ClipSettings(clip=str(tiny_vit_folder), resize_mode="squash"))
    larger = Backbone.load(ClipSettings(clip=str(tiny_vit_folder), image_size=96))
    grids = {}
    for backbone in (tiny_vit, tiny_resnet, squash, larger):
        bank = FeatureCache(tmp_path, backbone).images(files[:3])
        assert bank.computed == 3
        grids[id(backbone)] = bank.grid
    assert list(grids.values()) == [(8, 8), (2, 2), (8, 8), (12, 12)]
    assert FeatureCache(tmp_path, tiny_vit).images(files[:3]).computed == 0
    # captions do not pass the preprocessing
    assert FeatureCache(tmp_path, tiny_vit).captions(TEXTS).computed == 3
    assert FeatureCache(tmp_path, squash).captions(TEXTS).computed == 0
    assert FeatureCache(tmp_path, tiny_resnet).captions(TEXTS).computed == 3


class Killed(BaseException):
    """Stands for SIGKILL: nothing is written after it."""


def test_an_interrupted_run_ends_with_the_same_bytes(
    tiny_vit: Backbone, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "_SHARD_ITEMS", 6)  # batches of 3: shards of 6 and 5 images
    FeatureCache(tmp_path / "calm", tiny_vit).images(files, batch_size=3)
    undisturbed = snapshot(tmp_path / "calm")
    assert len(undisturbed) == 2

    for dies_at in range(4):
        folder = tmp_path / f"killed{dies_at}"
        run_until_killed(folder, tiny_vit, files, dies_at, monkeypatch)
        bank = FeatureCache(folder, tiny_vit).images(files, batch_size=3)
        assert bank.computed == (11 if dies_at < 2 else 5)
        assert snapshot(folder) == undisturbed


def run_until_killed(
    folder: Path,
    backbone: Backbone,
    files: list[Path],
    dies_at: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Embed until batch ``dies_at``, which never comes back, as if the process had been killed."""
    original = backbone.encode_image
    calls = itertools.count()
    with monkeypatch.context() as patch:

        def encode(pixels: Tensor) -> ImageFeatures:
            if next(calls) == dies_at:
                patch.setattr(shards.ShardFolder, "write", lambda *_: None)
                raise Killed
            return original(pixels)

        patch.setattr(backbone, "encode_image", encode)
        with pytest.raises(Killed):
            FeatureCache(folder, backbone).images(files, batch_size=3)
    # killed in the middle of writing a file, an hour ago
    folder.mkdir(exist_ok=True)
    left = folder / f".images-{backbone.image_space}-x.1.partial.safetensors"
    left.write_bytes(b"half")
    os.utime(left, (time.time() - 3600,) * 2)


def test_what_was_computed_before_a_bad_image_is_kept(
    tiny_vit: Backbone, files: list[Path], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_text("no image")
    cache = FeatureCache(tmp_path / "cache", tiny_vit)
    with pytest.raises(UserError, match=r"bad\.png: cannot be read as an image"):
        cache.images([*files[:4], bad, *files[4:]], batch_size=2)
    assert cache.images(files, batch_size=2).computed == 7
    with pytest.raises(UserError, match=r"absent\.png"):
        cache.images([tmp_path / "absent.png"])
    for nothing in (cache.images, cache.captions):
        with pytest.raises(UserError, match="there are no"):
            nothing([])


@pytest.mark.parametrize("damage", ["cut", "header", "offsets", "foreign"])
def test_damaged_shards_are_found_and_rebuilt(
    damage: str,
    tiny_vit: Backbone,
    files: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(features, "_SHARD_ITEMS", 4)
    before = FeatureCache(tmp_path, tiny_vit).images(files[:8], batch_size=4)
    whole = snapshot(tmp_path)
    path = sorted(tmp_path.iterdir())[0]
    content = path.read_bytes()
    path.unlink()  # not written in place: the bank above is mapped from the file
    if damage == "cut":
        path.write_bytes(content[:-10])
    elif damage == "header":
        path.write_bytes(content[:20] + b"\0" + content[21:])
    elif damage == "offsets":
        tensors = load(content)
        tensors["offsets"][1] = 1000
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        save_file(tensors, path, header["__metadata__"])
    else:
        path.write_bytes(content.replace(shards.FORMAT.encode(), b"t2ipal-features-0"))
    after = FeatureCache(tmp_path, tiny_vit).images(files[:8], batch_size=4)
    assert after.computed == 4
    assert torch.equal(after.global_, before.global_) and torch.equal(after.local, before.local)
    assert snapshot(tmp_path) == whole


@pytest.mark.parametrize("where", ["tensors", "keys"])
def test_a_turned_bit_is_found_where_asked_for(
    where: str, tiny_vit: Backbone, files: list[Path], tmp_path: Path
) -> None:
    FeatureCache(tmp_path, tiny_vit).embed_images(files, batch_size=4)
    whole = snapshot(tmp_path)
    path = next(tmp_path.iterdir())
    content = bytearray(path.read_bytes())
    # in the middle of the local features, or in the hash that names the first image
    place = (
        len(content) // 2 if where == "tensors" else content.index(sha256_file(files[0]).encode())
    )
    content[place] ^= 1
    path.write_bytes(content)
    assert FeatureCache(tmp_path, tiny_vit).embed_images(files[1:], batch_size=4) == 0
    again = FeatureCache(tmp_path, tiny_vit, verify=True)
    assert again.embed_images(files, batch_size=4) == 11
    assert snapshot(tmp_path) == whole
    assert FeatureCache(tmp_path, tiny_vit, verify=True).embed_images(files, batch_size=4) == 0


def test_large_banks_are_mapped_from_disk(
    tiny_vit: Backbone, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FeatureCache(tmp_path, tiny_vit)
    in_memory = cache.images(files)
    monkeypatch.setattr(shards, "_IN_MEMORY_BYTES", 0)
    mapped = cache.images(files)
    assert torch.equal(mapped.local, in_memory.local)
    assert all(path.suffix == ".safetensors" for path in tmp_path.iterdir())


def test_embedding_alone_returns_a_count(
    tiny_resnet: Backbone, files: list[Path], tmp_path: Path
) -> None:
    cache = FeatureCache(tmp_path, tiny_resnet)
    assert cache.embed_images(files) == 11
    assert cache.embed_images(files) == 0 and cache.images(files).computed == 0


def test_captions(tiny_vit: Backbone, tmp_path: Path) -> None:
    bank = FeatureCache(tmp_path, tiny_vit).captions(TEXTS, batch_size=2)
    direct = tiny_vit.encode_text(TEXTS)
    assert bank.computed == 3 and torch.equal(bank.mask, direct.mask)
    torch.testing.assert_close(bank.global_, F.normalize(direct.global_, dim=-1), atol=1e-5, rtol=0)
    expected = F.normalize(direct.local, dim=-1) * direct.mask[:, :, None]
    torch.testing.assert_close(bank.local.float(), expected, atol=1e-3, rtol=0)
    assert not bank.local[~bank.mask].any()

    again = FeatureCache(tmp_path, tiny_vit).captions([*TEXTS[::-1], "a horse"], batch_size=2)
    assert again.computed == 1
    assert torch.equal(again.global_[:4].flip(0), bank.global_)
    assert torch.equal(again.local[:4].flip(0), bank.local)
    # the same features, whatever stands beside a caption
    apart = FeatureCache(tmp_path / "apart", tiny_vit).captions(["two cats"], batch_size=2)
    assert torch.equal(apart.global_[0], bank.global_[2])
    assert apart.local.shape[1] == len("two cats") + 2


def test_captions_that_are_too_long_are_cut_and_told(
    tiny_vit: Backbone, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bank = FeatureCache(tmp_path, tiny_vit).captions(["a dog", "a very long caption " * 20])
    assert bank.mask.sum(dim=1).tolist() == [7, 77]
    assert "1 captions fill all 77 tokens" in caplog.text


def test_a_full_disk_is_one_sentence(
    tiny_vit: Backbone, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards, "save_file", full)
    with pytest.raises(UserError, match="No space left"):
        FeatureCache(tmp_path, tiny_vit).images(files[:2])
    assert list(tmp_path.iterdir()) == []


def test_an_image_that_is_not_the_one_of_its_hash_is_refused(tiny_vit, tmp_path):
    files = draw_images(tmp_path / "images", 2)
    hashes = [sha256_file(file) for file in files]
    files[1].write_bytes(files[0].read_bytes())
    with pytest.raises(UserError, match=r"001\.png: is not the image .* was changed or replaced"):
        FeatureCache(tmp_path / "cache", tiny_vit).embed_images(files, hashes, progress=False)
    broken = Broken(skip=True)
    cache = FeatureCache(tmp_path / "other", tiny_vit, broken=broken)
    assert cache.embed_images(files, hashes, progress=False) == 1 and len(broken) == 1
