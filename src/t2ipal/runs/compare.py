"""The table of methods: every method and ablation on the same features, over several seeds."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2ipal.files import append_jsonl, read_jsonl, sha256_text, write_text
from t2ipal.method.items import ItemSet
from t2ipal.method.methods import MethodConfig, method_config
from t2ipal.metrics.evaluation import Evaluation
from t2ipal.metrics.gap import ModalityGap, modality_gap
from t2ipal.report.content import MethodResult, mean, spread
from t2ipal.runs.workbench import Workbench, items_digest

METHODS = ("zero-shot", "clip-dpt", "tai-dpt", "t2i-pal")
ABLATIONS = (
    "t2i-pal/no-adapter",
    "t2i-pal/no-prototypes",
    "t2i-pal/no-heatmap",
    "t2i-pal/captions",
    "t2i-pal/images",
    "t2i-pal/standardised",
)
# Needs labelled images to be what its paper is, so it is compared where there are some.
WITH_REAL_IMAGES = ("dualcoop", "dualcoop/real")
CEILING = "t2i-pal on real images"

_NOTES = {
    "zero-shot": "CLIP, prompt ensemble",
    "clip-dpt": "CLIP, global + local",
    "tai-dpt": "prompts tuned on captions",
    "t2i-pal": "captions + drawn images",
    "dualcoop": "positive and negative prompts, images alone",
    "dualcoop/real": "on the labelled real images alone",
    "t2i-pal/captions": "prompts alone, captions alone",
    "t2i-pal/images": "drawn images alone",
    "t2i-pal/standardised": "branches standardised per image",
    CEILING: "labelled real images: the ceiling",
}

Configure = Callable[[str], MethodConfig]


def method_names(*, ablations: bool = True, real_images: bool = False) -> tuple[str, ...]:
    """The rows of a table, in order; the method that it is about is the last whole one."""
    rows = [*METHODS, *(ABLATIONS if ablations else ())]
    if real_images:
        whole, part = WITH_REAL_IMAGES
        rows.insert(METHODS.index("t2i-pal"), whole)
        rows.append(part)
    return tuple(rows)


@dataclass(frozen=True)
class Judged:
    """One method with one seed: what it scored, and on what it was chosen."""

    name: str
    seed: int
    evaluation: Evaluation
    best_epoch: int | None
    valid_map: float | None

    def to_json(self) -> dict[str, Any]:
        """A row of the log of judged methods."""
        return {
            "method": self.name,
            "seed": self.seed,
            "best_epoch": self.best_epoch,
            "valid_map": self.valid_map,
            "evaluation": self.evaluation.to_json(),
        }

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Judged:
        """The inverse of :meth:`to_json`."""
        evaluation = Evaluation.from_json(row["evaluation"])
        return cls(row["method"], row["seed"], evaluation, row["best_epoch"], row["valid_map"])


@dataclass(frozen=True)
class Comparison:
    """The finished table.

    Attributes:
        rows: one a method, in the order of the table.
        gap: distances between captions, drawn images and test images.
        computed: how many (method, seed) pairs were fitted now rather than read back.
    """

    rows: tuple[MethodResult, ...]
    gap: ModalityGap
    computed: int

    def row(self, name: str) -> MethodResult:
        """The row of a method."""
        return next(row for row in self.rows if row.name == name)

    def lines(self) -> list[str]:
        """The table for the terminal: mean and sample deviation over the seeds, in per cent."""
        width = max(len(row.name) for row in self.rows)
        lines = [f"{'method':<{width}}   mAP            CF1@3  OF1@3"]
        group = "method"
        for row in self.rows:
            if row.group != group:
                lines.append("")
                group = row.group
            deviation = spread(row.mean_ap)
            error = f"+-{100 * deviation:4.1f}" if deviation == deviation else "      "
            lines.append(
                f"{row.name:<{width}}  {100 * mean(row.mean_ap):5.1f} {error}   "
                f"{100 * mean(row.cf1):5.1f}  {100 * mean(row.of1):5.1f}   {row.note}"
            )
        return lines

    def to_json(self) -> dict[str, Any]:
        """For ``compare.json``."""
        return {
            "methods": [
                {"name": row.name, "group": row.group, "map": list(row.mean_ap), "note": row.note}
                for row in self.rows
            ],
            "modality_gap": self.gap.to_json(),
        }


def compare(
    bench: Workbench,
    test: ItemSet,
    folder: str | Path,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    real: ItemSet | None = None,
    configure: Configure = method_config,
    methods: Sequence[str] = (*METHODS, *ABLATIONS),
    say: Callable[[str], None] = lambda line: None,
) -> Comparison:
    """Fit and judge every method with every seed; pairs already judged are read back.

    Args:
        bench: the run's features.
        test: labelled test images; nothing is chosen on them.
        folder: where ``judged.jsonl`` (a row a pair) and ``compare.json`` are kept.
        real: labelled real training images for the ceiling row, none of them among ``test``.
        configure: method name to its configuration.
    """
    folder = Path(folder)
    journal = folder / "judged.jsonl"
    known = _read(journal)
    data = sha256_text(bench.digest, items_digest(test), items_digest(real))
    rows, computed = [], 0
    names = [*methods, *([CEILING] if real is not None else [])]
    for name in names:
        method = configure("t2i-pal/images" if name == CEILING else name)
        judged = []
        for seed in seeds if method.train is not None else seeds[:1]:
            key = sha256_text(data, name, str(seed), method.identity)
            if key not in known:
                fitted = bench.fit(method, seed, real=real if name == CEILING else None)
                result = fitted.result
                found = Judged(
                    name,
                    seed,
                    bench.evaluate(fitted.head, test),
                    result.best_epoch if result else None,
                    result.valid_map if result else None,
                )
                known[key] = found
                computed += 1
                append_jsonl(journal, {"key": key, **found.to_json()})
                value = 100 * found.evaluation.mean_average_precision
                say(f"  {name}, seed {seed}: mAP {value:.1f}")
            judged.append(known[key])
        group = "ceiling" if name == CEILING else "ablation" if "/" in name else "method"
        rows.append(
            MethodResult.of(
                name,
                [entry.evaluation for entry in judged],
                note=_NOTES.get(name, name.rpartition("/")[2].replace("no-", "without ")),
                group=group,  # type: ignore[arg-type]
            )
        )
    comparison = Comparison(tuple(rows), gap_of(bench, test), computed)
    write_text(folder / "compare.json", json.dumps(comparison.to_json(), indent=1) + "\n")
    return comparison


def gap_of(bench: Workbench, test: ItemSet) -> ModalityGap:
    """The modality gap of a run: captions, drawn images (where there are) and test images."""
    sets = {"captions": bench.train_captions, "synthetic": bench.train_images, "real": test}
    return modality_gap(
        {name: items.global_.numpy() for name, items in sets.items() if items is not None}
    )


def _read(journal: Path) -> dict[str, Judged]:
    if not journal.exists():
        return {}
    return {row["key"]: Judged.from_json(row) for _, row in read_jsonl(journal)}
