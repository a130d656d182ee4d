"""tools/ablation.py: every switch is one, and its figures are what they say."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from conftest import TinyRun
from t2ipal.errors import UserError
from t2ipal.method.methods import method_config
from t2ipal.runs.fitting import methods_of
from tools import ablation

DEFAULT = method_config("t2i-pal")


def test_every_switch_changes_its_settings_and_no_other() -> None:
    seen = {(DEFAULT.identity, ablation.Images())}
    for settings in (s for group in ablation.SWITCHES.values() for s in group.values()):
        method, images = ablation.switched(DEFAULT, settings)
        assert (method.identity, images) not in seen, settings
        seen.add((method.identity, images))
        assert method.train is not None and DEFAULT.train is not None
        before, after = (
            {
                **_flat(asdict(method.head)),
                **_flat(asdict(method.train), "train."),
                **_flat(asdict(images), "images."),
            }
            for method, images in ((DEFAULT, ablation.Images()), (method, images))
        )
        assert {k: v for k, v in after.items() if before[k] != v} == settings


def _flat(mapping: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in mapping.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def test_an_unknown_setting_and_a_bad_value_are_refused() -> None:
    with pytest.raises(UserError, match=r"no setting 'adapter.omega'"):
        ablation.switched(DEFAULT, {"adapter.omega": 1})
    with pytest.raises(UserError, match="per_class"):
        ablation.switched(DEFAULT, {"prototypes.per_class": 0})


def test_the_interval_is_students() -> None:
    mean, half = ablation.interval([1.0, 2.0, 4.0, 5.0, 8.0])
    assert mean == 4.0
    # deviation sqrt(7.5), five values, t(0.975; 4) = 2.776 (any table)
    assert half == pytest.approx(2.776 * math.sqrt(7.5 / 5), rel=1e-3)
    assert math.isnan(ablation.interval([3.0])[1])


def test_the_table_is_made_once_and_read_back(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench_of = ablation.workbenches(tiny_run.config, tiny_run.folder, tmp_path, lambda line: None)
    default = methods_of(tiny_run.config)("t2i-pal")
    said: list[str] = []

    def lines() -> list[str]:
        fresh = ablation.Ablation(bench_of, tmp_path, 16, said.append)
        return list(
            ablation.table(fresh, default, ["fusion", "test images", "generated images"], [0, 1])
        )

    first = lines()
    groups = [ablation.SWITCHES[name] for name in ("fusion", "test images", "generated images")]
    rows = (tmp_path / "measurements.jsonl").read_text().splitlines()
    assert len(rows) == len(said) == 2 * (1 + sum(map(len, groups)))
    assert len(first) == 3 + sum(map(len, groups))
    assert first[2].split("|")[2] != first[-1].split("|")[2]  # another input size, other figures
    assert first[2].startswith("| **t2i-pal, its defaults** |") and "±" not in first[2]
    assert all(line.count("±") == len(ablation.TESTS) for line in first[3:])
    monkeypatch.setattr(type(bench_of(ablation.Images())), "fit", None)  # nothing is fitted again
    assert lines() == first
