"""The first lines of a configuration: its command, what was published, and what was measured."""

from __future__ import annotations

from t2ipal.runs.benchmark.published import Published
from t2ipal.runs.benchmark.setting import BenchmarkConfig

NOT_RUN = "not run"
_FOLDERS = {"voc2007": "VOCdevkit", "coco2014": "COCO", "nuswide": "NUS-WIDE"}


def header(config: BenchmarkConfig, figures: Published) -> list[str]:
    """The three comment lines that ``configs/NAME.yaml`` must start with."""
    setting = config.setting
    return [
        f"# t2ipal benchmark configs/{config.name}.yaml --data {_FOLDERS[setting.test]}",
        f"# Published mAP: {published_words(config, figures)}",
        f"# Measured mAP: {figures.measured.get(config.name, NOT_RUN)}",
    ]


def published_words(config: BenchmarkConfig, figures: Published) -> str:
    """Figures and sources of the rows to compare with, in one line."""
    words = []
    for row, figure in config.setting.figures():
        about = [f"{row.method}, {row.backbone}"]
        about += [figure.setting] if figure.setting else []
        about += [figures.lists[figure.list]] if figure.list else []
        words.append(f"{figure.map} ({'; '.join([*about, row.source])})")
    return ", ".join(words) or "none for this setting"
