"""A disk that fills up: one sentence, what is finished is kept, the next start completes it."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ray_workers import Noise
from small_disk import small_disk
from t2ipal.captions.labelled import LabelledCaption
from t2ipal.clip import features
from t2ipal.clip.backbone import Backbone
from t2ipal.clip.clip_settings import ClipSettings
from t2ipal.clip.features import FeatureCache
from t2ipal.errors import UserError
from t2ipal.files import sha256_file
from t2ipal.generation.generate import generate
from t2ipal.generation.store import ImageStore
from tiny_clip import build_tiny_clip

CAPTIONS = [LabelledCaption(f"c{n}", f"dog {n}", ("dog",), (), {}) for n in range(40)]


def tree(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("kilobytes", [100, 148, 200])
def test_images(kilobytes: int, tmp_path: Path) -> None:
    generate(CAPTIONS, Noise(), tmp_path / "whole", batch_size=3, progress=False)
    with small_disk(tmp_path / "disk", f"{kilobytes}k") as resize:
        out = tmp_path / "disk" / "drawn"
        with pytest.raises(UserError, match=r"cannot be written \(No space left on device\)"):
            generate(CAPTIONS, Noise(), out, batch_size=3, progress=False)
        kept = ImageStore(out).rows()
        assert 0 < len(kept) < 40 and all(ImageStore(out).has(row) for row in kept)
        resize("4m")
        summary = generate(CAPTIONS, Noise(), out, batch_size=3, progress=False)
        assert summary.reused == sum(not row.failed for row in kept)
        assert tree(out) == tree(tmp_path / "whole")


def test_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "_SHARD_ITEMS", 4)
    backbone = Backbone.load(
        ClipSettings(clip=str(build_tiny_clip(tmp_path / "clip")), device="cpu")
    )
    files = [tmp_path / f"{number}.png" for number in range(22)]
    for number, file in enumerate(files):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file)
    hashes = [sha256_file(file) for file in files]
    FeatureCache(tmp_path / "whole", backbone).embed_images(files, hashes, batch_size=2)
    with small_disk(tmp_path / "disk", "60k") as resize:
        out = tmp_path / "disk" / "features"
        with pytest.raises(UserError, match=r"cannot be written .*again: finished shards"):
            FeatureCache(out, backbone).embed_images(files, hashes, batch_size=2)
        assert 0 < len(tree(out)) < 6
        assert tree(out).items() <= tree(tmp_path / "whole").items()
        resize("4m")
        computed = FeatureCache(out, backbone).embed_images(files, hashes, batch_size=2)
        assert 0 < computed < 22 and tree(out) == tree(tmp_path / "whole")


def test_half_a_row_leaves_no_trace(tmp_path: Path) -> None:
    """Where a disk takes some bytes of a row, and all of another thread's just after it."""
    generate(CAPTIONS[:4], Noise(), tmp_path / "whole", progress=False)
    rows = list(ImageStore(tmp_path / "whole").rows())
    with small_disk(tmp_path / "disk", "16k") as resize:
        store = ImageStore(tmp_path / "disk" / "out")
        store.begin()
        store.append(rows[0])
        threads, refused = [], []

        def fill() -> None:
            try:
                while True:
                    store.append(rows[1])
            except UserError as error:
                refused.append(error)

        for _ in range(3):
            threads.append(threading.Thread(target=fill))
            threads[-1].start()
        for thread in threads:
            thread.join()
        content = store.journal.read_bytes()
        assert len(refused) == 3 and content.endswith(b"\n")
        resize("1m")
        store.append(rows[2])
        assert {row.id for row in store.rows()} == {row.id for row in rows[:3]}
