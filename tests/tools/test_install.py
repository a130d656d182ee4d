"""Trained models are installed whole, without a trace of the machine that trained them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tools.miniature.install import install

from t2ipal.errors import UserError
from t2ipal.miniature import weights


def test_installing_replaces_the_model_and_forgets_where_it_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "MODELS", tmp_path / "models")
    (tmp_path / "models" / "generator").mkdir(parents=True)
    (tmp_path / "models" / "generator" / "old.txt").write_text("old")
    trained = tmp_path / "trained"
    (trained / "vae").mkdir(parents=True)
    (trained / "model_index.json").write_text("{}")
    (trained / "vae" / "config.json").write_text('{"_name_or_path": "elsewhere/vae", "a": 1}')
    installed = install("generator", trained)
    assert installed == weights.path("generator")
    assert sorted(p.name for p in installed.rglob("*")) == [
        "config.json",
        "model_index.json",
        "vae",
    ]
    assert json.loads((installed / "vae" / "config.json").read_text()) == {"a": 1}


def test_a_folder_without_the_model_is_refused_and_the_old_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "MODELS", tmp_path / "models")
    (tmp_path / "models" / "clip").mkdir(parents=True)
    with pytest.raises(UserError, match="holds no trained clip"):
        install("clip", tmp_path)
    assert (tmp_path / "models" / "clip").is_dir()
    with pytest.raises(UserError, match="the packaged miniature clip is missing"):
        weights.path("clip")
