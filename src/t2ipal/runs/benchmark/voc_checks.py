"""Checks on VOC2007's test images with CLIP's RN50: archives, and figures beside published ones.

Two of the four settings are the published ones; the other two have few captions, so that they
take minutes.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from t2ipal.datasets.fetch import fetch_benchmark
from t2ipal.miniature import official_layouts
from t2ipal.runs.benchmark.proof import Check, Outcome, Setup
from t2ipal.runs.benchmark.run import benchmark
from t2ipal.runs.benchmark.setting import BenchmarkConfig
from t2ipal.runs.doctor import examine_data

_NEAR = 1.0
"""Points of mAP that another precision and other JPEG decoders may make."""


def _data(setup: Setup) -> tuple[Path, Path]:
    """The folder of VOC2007, and MS-COCO's captions; fetched if they are not there."""
    place = setup.folder / "data"
    if setup.rehearsal:
        folder = official_layouts.build("voc2007", place)
        return folder, folder / "annotations" / "captions_train2014.json"
    voc, coco = place / "voc2007", place / "coco2014"
    fetch_benchmark(voc, "voc2007", parts=("test",), say=setup.say)
    fetch_benchmark(coco, "coco2014", parts=("annotations",), say=setup.say)
    return voc / "VOCdevkit", coco / "annotations" / "captions_train2014.json"


def _archives(setup: Setup) -> Outcome:
    """Whether the archives have their checksums and hold the official numbers."""
    folder, captions = _data(setup)
    found = [one for one in examine_data(folder) if "test" in one.topic]
    if setup.rehearsal:
        return Outcome(bool(found), f"{found[0].text}", "any number, in a rehearsal")
    found += [one for one in examine_data(captions.parent) if one.topic == "captions"]
    return Outcome(
        len(found) > 1 and not any(one.missing for one in found),
        "; ".join(one.text for one in found),
        "official checksums and numbers",
    )


def _voc2007(
    name: str, about: str, near: float | None, changes: dict[str, Any], setup: Setup
) -> Outcome:
    """A configuration of VOC2007, perhaps with changes, beside the figure it is compared with.

    Args:
        about: what is unlike the published setting, in words; empty if nothing is.
        near: points of mAP that it may be off; None if the published setting is another.
    """
    config = BenchmarkConfig.find(f"voc2007/{name}")
    config = replace(config, run=replace(config.run, **changes))
    if config.needs_images:
        setup.device()  # thousands of images take days without a GPU
    folder, captions = _data(setup)
    given = None if config.setting.captions == "none" else captions
    if setup.rehearsal:
        config, about = config.rehearsed(), "rehearsed with the miniature"
    result = benchmark(
        config, folder, setup.folder / name,
        captions=given, rehearsal=setup.rehearsal, say=setup.say, progress=not setup.rehearsal,
    )  # fmt: skip
    record = json.loads(result.record.read_text(encoding="utf-8"))
    (point,) = record["points"]
    published = record["published"]
    mean, spread = point["mAP"]["mean"], point["mAP"]["spread"]
    low, high = point["mAP"]["interval"]
    figure = f"mAP {_percent(mean)}" + ("" if spread is None else f" ± {_percent(spread)}")
    figure += f" ({_percent(low)} to {_percent(high)})"
    beside = ", ".join(f"{row['mAP']:g} ({row['source']})" for row in published)
    passed, bound = None, f"published: {beside}"
    if near is not None and not setup.rehearsal:
        passed = abs(100 * mean - published[0]["mAP"]) <= near
        bound += f"; at most {near:g} points away"
    figures = {
        "mAP": point["mAP"], "method": config.setting.method, "about": about,
        "published": published, "images": record["test"]["images"],
        "captions": record["captions"]["labelled"], "seeds": record["seeds"],
        "seconds": record["seconds"], "hashes": record["hashes"],
    }  # fmt: skip
    return Outcome(passed, figure, bound, figures)


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


_FEW = "at most {:,} captions of train2014"
VOC_CHECKS = (
    Check("archives", "the archives of VOC2007 and MS-COCO are what they are taken for", _archives),
    *(
        Check(f"voc-{method}", f"{method} on VOC2007's test images with CLIP's RN50",
              partial(_voc2007, f"rn50-{method}", about, near, changes))
        for method, about, near, changes in (
            ("zero-shot", "", _NEAR, {}),
            ("clip-dpt", "prompts: the published ones are not known", None, {}),
            ("tai-dpt", _FEW.format(5000), None, {"per_class": 250}),
            ("t2i-pal", _FEW.format(2000) + ", SD-Turbo", None,
             {"per_class": 100, "preset": "fast"}),
        )
    ),
)  # fmt: skip
