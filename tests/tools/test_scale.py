"""The jobs of which tools/scale.py measures memory are jobs of the program."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools.scale import resuming, training

from t2ipal.clip import shards


def test_a_finished_job_of_generating_is_found_finished(tmp_path: Path) -> None:
    plan = resuming(tmp_path, 40)()
    assert plan.tally.images == 40 and not len(plan.to_generate(None))


def test_a_training_job_finds_all_its_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "_IN_MEMORY_BYTES", shards._IN_MEMORY_BYTES)  # and back
    bench = training(tmp_path, 40)()
    assert bench.train_images is not None
    assert len(bench.train_images) + len(bench.valid) == 40
