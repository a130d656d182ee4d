"""generate() with an inspector: what is unseen is rejected, what is doubtful is written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from t2ipal.errors import UserError
from t2ipal.files import read_jsonl
from t2ipal.generation.generate import generate
from t2ipal.generation.screening import Finding
from t2ipal.generation.store import read_manifest
from t2ipal.generation.summary import _ClassCount

Tree = Callable[[Path], dict[str, bytes]]


class Brightness:
    """Sees a dog where the first pixel is bright in red, and a cat where it is in green."""

    def __init__(self, limit: int = 128) -> None:
        self.limit = limit
        self.looked = 0

    @property
    def asked(self) -> dict[str, Any]:
        return {"limit": self.limit}

    def inspect(self, images: Sequence[Image.Image], captions: Sequence[Any]) -> list[Finding]:
        self.looked += len(images)
        return [self._one(image, row) for image, row in zip(images, captions, strict=True)]

    def _one(self, image: Image.Image, row: Any) -> Finding:
        red, green, _ = np.asarray(image)[0, 0]
        seen = {"dog"} if red >= self.limit else set()
        seen |= {"cat"} if green >= self.limit else set()
        labels = set(row.labels)
        return Finding(tuple(sorted(labels - seen)), tuple(sorted(seen - labels)))


def run(captions: Sequence[Any], generator: Any, out: Path, **options: Any) -> Any:
    options = {"inspector": Brightness(), "max_retries": 40} | options
    return generate(captions, generator, out, progress=False, **options)


def first_pixel(path: Path) -> tuple[int, ...]:
    return tuple(np.asarray(Image.open(path))[0, 0].tolist())


def test_unseen_images_are_retried_and_kept_to_be_looked_at(
    tmp_path: Path, captions: Any, noise: Any
) -> None:
    summary = run(captions, noise(), tmp_path)
    rows = read_manifest(tmp_path)
    assert len(rows) == len(captions)
    for row in rows:
        red, green, _ = first_pixel(tmp_path / row.file)
        assert red >= 128 and row.missing == () and row.seen == ("dog",)
        assert row.added == (("cat",) if green >= 128 else ())
        assert [entry.reason for entry in row.rejected] == ["unseen"] * row.attempt
        for entry in row.rejected:
            assert first_pixel(tmp_path / entry.file)[0] < 128
        assert row.settings["inspector"] == {"limit": 128}
    rejected = sum(row.attempt for row in rows)
    assert summary.rejected == {"unseen": rejected} and rejected > 2
    added = sum(bool(row.added) for row in rows)
    assert summary.classes == {
        "cat": _ClassCount(0, 0, added, 0, 0),
        "dog": _ClassCount(10, 0, 0, rejected, 0),
    }
    assert "rejected and retried with the next seed" in "\n".join(summary.lines())
    assert "found unasked" in "\n".join(summary.lines())


def test_one_label_that_is_seen_is_enough_and_the_other_is_doubtful(
    tmp_path: Path, captions: Any, noise: Any
) -> None:
    both = [replace(row, labels=("dog", "cat")) for row in captions]
    run(both, noise(), tmp_path)
    for row in read_manifest(tmp_path):
        red, green, _ = first_pixel(tmp_path / row.file)
        wanted = {"dog": red < 128, "cat": green < 128}
        assert set(row.missing) == {name for name, gone in wanted.items() if gone}
        assert len(row.missing) < 2


@pytest.mark.parametrize("batch_size", [1, 3, 40])
def test_batches_and_a_killed_run_change_nothing(
    tmp_path: Path, captions: Any, noise: Any, tree: Tree, batch_size: int
) -> None:
    run(captions, noise(), tmp_path / "a")

    class Dying(noise):  # type: ignore[misc]
        def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> Any:
            if self.generated >= 6:
                raise KeyboardInterrupt
            return super().generate(prompts, seeds)

    with pytest.raises(KeyboardInterrupt):
        run(captions, Dying(), tmp_path / "b", batch_size=2)
    run(captions, noise(), tmp_path / "b", batch_size=batch_size)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    again, inspector = noise(), Brightness()
    assert run(captions, again, tmp_path / "b", inspector=inspector).nothing_to_do
    assert again.calls == [] and inspector.looked == 0


def test_what_is_never_seen_is_a_failure_and_the_rest_goes_on(
    tmp_path: Path, captions: Any, noise: Any
) -> None:
    summary = run(captions, noise(), tmp_path, max_retries=0)
    failed = [row for _, row in read_jsonl(tmp_path / "failed.jsonl")]
    assert 0 < len(failed) == summary.failed < 10
    for row in failed:
        ((entry),) = row["rejected"]
        assert entry["reason"] == "unseen" and (tmp_path / entry["file"]).exists()


def test_another_inspector_makes_other_images(tmp_path: Path, captions: Any, noise: Any) -> None:
    run(captions, noise(), tmp_path)
    for inspector in (Brightness(64), None):
        with pytest.raises(UserError, match="generated with inspector"):
            run(captions, noise(), tmp_path, inspector=inspector)
    run(captions, noise(), tmp_path, inspector=None, overwrite=True)
    assert not list((tmp_path / "rejected").iterdir())
    assert all(row.missing == row.added == row.rejected == () for row in read_manifest(tmp_path))


def test_new_labels_take_what_is_doubtful_along(tmp_path: Path, captions: Any, noise: Any) -> None:
    both = [replace(row, labels=("dog", "cat")) for row in captions]
    run(both, noise(), tmp_path)
    before = read_manifest(tmp_path)
    run(captions, noise(), tmp_path)
    for old, new in zip(before, read_manifest(tmp_path), strict=True):
        assert new.missing == tuple(name for name in old.missing if name == "dog")
        assert new.sha256 == old.sha256
