"""What a finished benchmark leaves: ``record.json`` for machines, ``table.md`` for people."""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from t2ipal.metrics.evaluation import F1
from t2ipal.report.content import mean, spread
from t2ipal.runs.benchmark.published import published
from t2ipal.runs.benchmark.setting import BenchmarkConfig
from t2ipal.runs.measure import Measurement, defined

REHEARSAL = (
    "A rehearsal on drawn scenes with the packaged miniature models. It shows that the command "
    "works; its figures say nothing about photos, and beside published ones they mean nothing."
)
_F1 = ("CP", "CR", "CF1", "OP", "OR", "OF1")


def hardware() -> dict[str, Any]:
    """What it ran on."""
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.system(),
        "gpus": gpus,
    }


def summary(point: str, found: Sequence[Measurement]) -> dict[str, Any]:
    """One point over its seeds: means, and of mAP the sample deviation and each seed's figure."""
    maps = [one.evaluation.mean_average_precision for one in found]
    lows, highs = zip(*(one.interval for one in found), strict=True)
    aps = np.array([one.evaluation.average_precision for one in found])  # [S, C]
    with warnings.catch_warnings():  # a class without a positive has no AP with any seed
        warnings.simplefilter("ignore", RuntimeWarning)
        means = np.nanmean(aps, axis=0)
    first = found[0].evaluation
    at = [one.evaluation.threshold for one in found if one.evaluation.threshold is not None]
    return {
        "point": point,
        "seeds": [one.seed for one in found],
        "mAP": {
            "mean": defined(mean(maps)),
            "spread": defined(spread(maps)),
            "each": [defined(value) for value in maps],
            "interval": [defined(mean(lows)), defined(mean(highs))],
        },
        "eleven_points": defined(mean([one.eleven_points for one in found])),
        "calibration_error": defined(mean([one.calibration_error for one in found])),
        first.top_k.rule: _f1([one.evaluation.top_k for one in found]),
        "threshold": _f1(at) if at else None,
        "classes": {
            name: {"AP": defined(float(ap)), "positives": positives, "unknown": unknown}
            for name, ap, positives, unknown in zip(
                first.names, means, first.positives, first.unknown, strict=True
            )
        },
        "without_positives": list(first.without_positives),
        "epochs": [one.epoch for one in found],
        "real_images": [one.real_images for one in found],
    }


def _f1(found: Sequence[F1]) -> dict[str, float | None]:
    rows = [one.to_json() for one in found]
    return {key: defined(mean([np.nan if r[key] is None else r[key] for r in rows])) for key in _F1}


def published_rows(config: BenchmarkConfig) -> list[dict[str, Any]]:
    """The published rows to compare with, on the very test images of the setting."""
    return [
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


def averaged(points: Sequence[dict[str, Any]], config: BenchmarkConfig) -> dict[str, Any] | None:
    """The mean over all shares of labels, as published for partial labels; None elsewhere."""
    if not config.setting.averaged:
        return None
    each = [mean(values) for values in zip(*(p["mAP"]["each"] for p in points), strict=True)]
    return {"mean": mean(each), "spread": defined(spread(each)), "each": each}


def table(record: dict[str, Any]) -> str:
    """The record as Markdown: published rows, then one row a point."""
    test = record["test"]
    lines = [f"# {record['configuration']}", ""]
    if record["rehearsal"]:
        lines += [f"**{REHEARSAL}**", ""]
    lines += [f"{note}\n" for note in record["notes"]]
    where = f"{test['source']}, {test['images']:,} images"
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
