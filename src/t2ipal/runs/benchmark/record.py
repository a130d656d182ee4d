"""What a finished benchmark leaves: ``record.json`` for machines, ``table.md`` for people."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from t2ipal.files import write_text
from t2ipal.metrics.evaluation import F1
from t2ipal.report.content import mean, spread
from t2ipal.runs.benchmark.published import published
from t2ipal.runs.benchmark.setting import BenchmarkConfig
from t2ipal.runs.measure import Measurement

RECORD, TABLE = "record.json", "table.md"
_REHEARSAL = (
    "A rehearsal on rendered scenes with the packaged miniature models. It shows that the command "
    "works; its figures say nothing about photos, and beside published ones they mean nothing."
)


def write_record(
    out: Path,
    about: Mapping[str, Any],
    config: BenchmarkConfig,
    found: Mapping[str, Sequence[Measurement]],
) -> list[str]:
    """Write both into ``out``; the lines of the table.

    Args:
        about: what the record says beside figures.
        found: name of a point -> a measurement per seed.
    """
    record = {**about, **_figures(config, found)}
    table = _table(record)
    write_text(out / TABLE, table)
    write_text(out / RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return table.splitlines()


def _figures(config: BenchmarkConfig, found: Mapping[str, Sequence[Measurement]]) -> dict[str, Any]:
    """The record's figures, fractions in [0, 1]; null where undefined.

    ``points`` has each point over its seeds, ``averaged`` the mean over all shares of labels, as
    published for partial labels (else null), ``published`` the rows to compare with, on the very
    test images of the setting and in per cent.
    """
    points = [_summary(name, rows) for name, rows in found.items()]
    averaged = None
    if config.setting.averaged:
        each = [mean(values) for values in zip(*(p["mAP"]["each"] for p in points), strict=True)]
        averaged = {"mean": mean(each), "spread": _defined(spread(each)), "each": each}
    rows = [
        {
            "key": row.key,
            "method": row.method,
            "backbone": row.backbone,
            "uses": row.uses,
            "mAP": figure.map,
            "setting": figure.setting,
            "source": row.source,
            **({"list": figure.list} if figure.list else {}),
        }
        for row, figure in config.setting.figures()
    ]
    return {"points": points, "averaged": averaged, "published": rows}


def _summary(point: str, found: Sequence[Measurement]) -> dict[str, Any]:
    """One point over its seeds: means, and of mAP the sample deviation and each seed's figure."""
    evaluations = [one.evaluation for one in found]
    maps = [one.mean_average_precision for one in evaluations]
    lows, highs = zip(*(one.interval for one in evaluations), strict=True)
    aps = np.array([one.average_precision for one in evaluations])  # [S, C]
    with warnings.catch_warnings():  # a class without a positive has no AP with any seed
        warnings.simplefilter("ignore", RuntimeWarning)
        means = np.nanmean(aps, axis=0)
    first = evaluations[0]
    at = [one.threshold for one in evaluations if one.threshold is not None]
    return {
        "point": point,
        "seeds": [one.seed for one in found],
        "mAP": {
            "mean": _defined(mean(maps)),
            "spread": _defined(spread(maps)),
            "each": [_defined(value) for value in maps],
            "interval": [_defined(mean(lows)), _defined(mean(highs))],
        },
        "eleven_points": _defined(mean([one.eleven_points for one in evaluations])),
        "calibration_error": _defined(mean([one.calibration_error for one in evaluations])),
        first.top_k.rule: _f1([one.top_k for one in evaluations]),
        "threshold": _f1(at) if at else None,
        "classes": {
            name: {"AP": _defined(float(ap)), "positives": row.positives, "unknown": row.unknown}
            for (name, row), ap in zip(first.classes.items(), means, strict=True)
        },
        "without_positives": list(first.without_positives),
        "epochs": [one.epoch for one in found],
        "real_images": [one.real_images for one in found],
    }


def _f1(found: Sequence[F1]) -> dict[str, float | None]:
    rows = [TypeAdapter(F1).dump_python(one, by_alias=True) for one in found]
    keys = ("CP", "CR", "CF1", "OP", "OR", "OF1")
    return {k: _defined(mean([math.nan if r[k] is None else r[k] for r in rows])) for k in keys}


def _defined(value: float) -> float | None:
    """JSON knows no nan."""
    return None if math.isnan(value) else value


def _table(record: dict[str, Any]) -> str:
    """The record as Markdown: published rows, then one row a point."""
    test = record["test"]
    lines = [f"# {record['configuration']}", ""]
    if record["rehearsal"]:
        lines += [f"**{_REHEARSAL}**", ""]
    lines += [f"{note}\n" for note in record["notes"]]
    where = f"{test['source']}, {test['images']:,} images"
    if test["skipped"]:
        where += f" ({test['skipped']:,} more cannot be read and are left out)"
    if test.get("list") and not record["rehearsal"]:
        lists = published().lists
        where += f" (NUS-WIDE's list: {lists.get(test['list'], test['list'])})"
    lines += [f"Figures in per cent on {where}; mean and sample deviation over seeds, interval by "]
    lines[-1] += "the bootstrap over images."
    eleven = record["setting"]["benchmark"]["test"] == "voc2007"
    head = ["", "backbone", "mAP", "95 % interval", *(["mAP, 11 points"] if eleven else [])]
    head += ["CF1 / OF1 top-3", "CF1 / OF1 threshold", "calibration error", "source"]
    lines += ["", _row(head), _row(["---", "---", *["---:"] * (len(head) - 3), "---"])]
    gap = ["-"] * (len(head) - 4)
    for row in record["published"]:
        about = f" ({row['setting']})" if row["setting"] else ""
        source = f"published: {row['source']}"
        lines.append(_row([row["method"] + about, row["backbone"], str(row["mAP"]), *gap, source]))
    ours = f"{record['method']}, "
    backbone, by = record["clip"], "rehearsal" if record["rehearsal"] else "measured"
    for point in record["points"]:
        low, high = point["mAP"]["interval"]
        cells = [ours + point["point"], backbone, _spread(point["mAP"])]
        cells += [f"{_percent(low)} to {_percent(high)}"]
        cells += [_percent(point["eleven_points"])] if eleven else []
        cells += [_pair(point["top-3"]), _pair(point["threshold"])]
        lines.append(_row([*cells, _percent(point["calibration_error"]), by]))
    if record["averaged"]:
        name = f"{ours}mean of the above"
        lines.append(_row([name, backbone, _spread(record["averaged"]), *gap, by]))
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _spread(figure: dict[str, Any]) -> str:
    deviation = figure["spread"]
    return _percent(figure["mean"]) + ("" if deviation is None else f" ± {_percent(deviation)}")


def _pair(row: dict[str, float | None] | None) -> str:
    return "-" if row is None else f"{_percent(row['CF1'])} / {_percent(row['OF1'])}"
