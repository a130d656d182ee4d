"""docs/benchmarks.md from the published figures and the configurations.

    python -m tools.comparison_page [--check]

With what `src/t2ipal/runs/benchmark/published.yaml` and `configs/` say, it writes the page and the
first three lines of every configuration anew; `--check` only tells what would change.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from t2ipal.files import write_text
from t2ipal.runs.benchmark.published import Published, Row, published
from t2ipal.runs.benchmark.setting import BenchmarkConfig

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
PAGE = ROOT / "docs" / "benchmarks.md"
NOT_RUN = "not run"
FOLDERS = {"voc2007": "VOCdevkit", "coco2014": "COCO", "nuswide": "NUS-WIDE"}
TITLES = {"voc2007": "VOC2007", "coco2014": "MS-COCO 2014", "nuswide": "NUS-WIDE"}

INTRODUCTION = """\
# Published figures, and this project's beside them

Written by `python -m tools.comparison_page` from `src/t2ipal/runs/benchmark/published.yaml` and `configs/`;
change those. All figures are mAP in per cent, the mean over classes of non-interpolated average precision unless the
source says otherwise. Test images: VOC2007 test (4,952), MS-COCO val2014 (40,504), NUS-WIDE in one of several lists.

**NUS-WIDE's lists are not comparable with each other**, so each has a column of its own.

{measured} "not run" means just that. How to run one: [protocols.md](protocols.md)."""  # noqa: E501
NOTHING_MEASURED = "**This project has run none of its settings on real data yet**:"
SOMETHING_MEASURED = "This project's own figures stand in the last table;"


def header(config: BenchmarkConfig, figures: Published) -> list[str]:
    """The three comment lines that ``configs/NAME.yaml`` must start with."""
    setting = config.setting
    return [
        f"# t2ipal benchmark configs/{config.name}.yaml --data {FOLDERS[setting.test]}",
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


def page(figures: Published, configs: Sequence[BenchmarkConfig]) -> str:
    """The whole page."""
    state = SOMETHING_MEASURED if figures.measured else NOTHING_MEASURED
    rows = list(figures.rows.values())
    parts = [
        INTRODUCTION.format(measured=state),
        "## Without labelled real images",
        table(figures, [row for row in rows if row.protocol == "zero-shot"]),
        "## Few labelled images",
        "On MS-COCO, 16 novel classes: not the few-shot protocol of this project's configurations, "
        "which has all classes of a\nbenchmark.",
        table(figures, [row for row in rows if row.protocol == "few-shot"]),
        "## Part of the labels of the train images",
        table(figures, [row for row in rows if row.protocol == "partial"]),
        "## This project's configurations",
        markdown(
            ("configuration", "published", "measured"),
            (
                (
                    f"[{config.name}](../configs/{config.name}.yaml)",
                    published_words(config, figures),
                    measured(figures, config),
                )
                for config in configs
            ),
        ),
    ]
    return "\n\n".join(parts) + "\n"


def measured(figures: Published, config: BenchmarkConfig) -> str:
    """The measured figure with its record, or that there is none."""
    found = figures.measured.get(config.name)
    return NOT_RUN if found is None else f"[{found}](../{found.record})"


def table(figures: Published, rows: Sequence[Row]) -> str:
    """Rows with a column for each list of test images, and a line for each setting."""
    titles = {(test, ""): TITLES[test] for test in ("voc2007", "coco2014")}
    titles |= {("nuswide", k): f"{TITLES['nuswide']}, {v}" for k, v in figures.lists.items()}
    shown = [figure for row in rows for figure in row.figures]
    columns = [key for key in titles if key in {(figure.test, figure.list) for figure in shown}]
    settings = any(figure.setting for figure in shown)
    head = ["method", "backbone", "uses", *(["setting"] if settings else [])]
    head += [titles[key] for key in columns]

    def lines() -> Iterator[list[str]]:
        for row in rows:
            for setting in dict.fromkeys(figure.setting for figure in row.figures):
                found = {(f.test, f.list): f"{f.map}" for f in row.figures if f.setting == setting}
                cells = [row.method, row.backbone, row.uses, *([setting] if settings else [])]
                yield [*cells, *(found.get(key, "-") for key in columns), row.source]

    return markdown((*head, "source"), lines(), numbers=len(columns))


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: int = 0) -> str:
    """A table; the last columns but one, ``numbers`` of them, stand right."""
    plain = len(head) - numbers - 1
    rule = ["---"] * plain + ["---:"] * numbers + ["---"]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def outputs() -> dict[Path, str]:
    """Every file this script writes, with its text."""
    figures = published()
    configs = [BenchmarkConfig.read(path) for path in sorted(CONFIGS.rglob("*.yaml"))]
    texts = {PAGE: page(figures, configs)}
    for config in configs:
        path = CONFIGS / f"{config.name}.yaml"
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        texts[path] = "\n".join(header(config, figures)) + "\n" + "".join(lines[3:])
    return texts


def main(arguments: Sequence[str]) -> int:
    changed = 0
    for path, text in outputs().items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        changed += 1
        print(path.relative_to(ROOT))
        if "--check" not in arguments:
            write_text(path, text)
    print(f"{changed} files {'would change' if '--check' in arguments else 'written'}")
    return 1 if changed and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
