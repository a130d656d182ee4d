"""Every family of pipelines, at random weights, saved and loaded in diffusers' format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from t2ipal.generation.diffusion.settings import Settings
from t2ipal.generation.generate import generate
from t2ipal.generation.store import read_manifest
from tiny_families import FAMILIES, build

SETTINGS = Settings(steps=2, height=16, width=16, device="cpu")
Tree = Callable[[Path], dict[str, bytes]]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_draws_the_same_bytes_in_batches_and_alone(
    tmp_path: Path, captions: list[Any], tree: Tree, family: str
) -> None:
    spec = str(build(family, tmp_path / "generator"))
    few = captions[:4]
    for name, size in (("a", 3), ("b", 1)):
        generate(few, spec, tmp_path / name, settings=SETTINGS, batch_size=size, progress=False)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    rows = read_manifest(tmp_path / "a")
    assert len({row.sha256 for row in rows}) == len(few)
    assert {row.generator for row in rows} == {spec}
    assert rows[0].revision.startswith("sha256:")
    summary = generate(few, spec, tmp_path / "a", settings=SETTINGS, progress=False)
    assert summary.nothing_to_do
