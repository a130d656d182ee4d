"""The table of methods: every method and ablation on the same features, over several seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from t2ipal.datasets.labelled_images import LabelledImages
from t2ipal.method.methods import MethodConfig
from t2ipal.metrics.gap import ModalityGap, modality_gap
from t2ipal.report.content import Group, MethodResult, mean, spread
from t2ipal.runs.fitting import RealItems, own_method
from t2ipal.runs.measure import Experiment, Measurement

METHODS = ("zero-shot", "clip-dpt", "tai-dpt", "t2i-pal")
ABLATIONS = (
    "t2i-pal/no-adapter",
    "t2i-pal/no-prototypes",
    "t2i-pal/no-heatmap",
    "t2i-pal/captions",
    "t2i-pal/images",
    "t2i-pal/standardised",
)
# What can be had without any images, generated or real; the last of METHODS is then the prompts.
ABLATIONS_WITHOUT_IMAGES = ("clip-dpt/standardised", "tai-dpt/standardised")
# Needs labelled images to be what its paper is, so it is compared if there are some.
WITH_REAL_IMAGES = ("dualcoop", "dualcoop/real")
CEILING = "t2i-pal on real images"

_NOTES = {
    "zero-shot": "CLIP, prompt ensemble",
    "clip-dpt": "CLIP, global + local",
    "tai-dpt": "prompts tuned on captions",
    "t2i-pal": "captions + generated images",
    "dualcoop": "positive and negative prompts, images alone",
    "dualcoop/real": "on the labelled real images alone",
    "t2i-pal/captions": "prompts alone, captions alone",
    "t2i-pal/images": "generated images alone",
    "t2i-pal/standardised": "branches standardised per image",
    "clip-dpt/standardised": "branches standardised per image",
    "tai-dpt/standardised": "branches standardised per image",
    CEILING: "labelled real images: the ceiling",
}


@dataclass(frozen=True)
class Comparison:
    """The finished table.

    Attributes:
        rows: one per method, in the order of the table.
        gap: distances between captions, generated images (if there are any) and test images.
        also: the further test images, in words.
    """

    rows: tuple[MethodResult, ...]
    gap: ModalityGap
    also: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The table for the terminal: mean and sample deviation over the seeds, in per cent."""
        width = max(len(row.name) for row in self.rows)
        columns = "".join(f"   mAP {i}      " for i in range(2, 2 + len(self.also)))
        lines = [f"{'method':<{width}}   mAP         {columns}   CF1@3  OF1@3"]
        group = "method"
        for row in self.rows:
            if row.group != group:
                lines.append("")
                group = row.group
            figures = "".join(f"  {_figure(values)}" for values in (row.mean_ap, *row.others))
            lines.append(
                f"{row.name:<{width}}{figures}   "
                f"{100 * mean(row.cf1):5.1f}  {100 * mean(row.of1):5.1f}   {row.note}"
            )
        for number, source in enumerate(self.also, start=2):
            lines.append(f"mAP {number}: on {source}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """For ``compare.json``."""
        return {
            "methods": [
                {"name": row.name, "group": row.group, "map": list(row.mean_ap), "note": row.note}
                | ({"also": [list(values) for values in row.others]} if self.also else {})
                for row in self.rows
            ],
            **({"also": list(self.also)} if self.also else {}),
            "modality_gap": [asdict(pair) for pair in self.gap.pairs],
        }


def _figure(values: Sequence[float]) -> str:
    """Mean and sample deviation in per cent, 12 characters."""
    deviation = spread(values)
    error = f"+-{100 * deviation:4.1f}" if deviation == deviation else "      "
    return f"{100 * mean(values):5.1f} {error}"


_GAP_ITEMS = 5  # fewer say nothing about how sets are told apart


def compare(
    experiment: Experiment,
    configure: Callable[[str], MethodConfig],
    *,
    seeds: Sequence[int] = (0, 1, 2),
    ablations: bool = True,
    real: RealItems | None = None,
    ceiling: RealItems | None = None,
) -> Comparison:
    """Measure every method with every seed; pairs measured before are read back.

    Args:
        experiment: the run's features and test images.
        configure: method name to its configuration.
        ablations: T2I-PAL without one part each, too.
        real: labelled real images that every trained method trains on too.
        ceiling: labelled real training images for the row of the ceiling.
    """
    rows = []
    images = real is not None or experiment.bench.train_images is not None
    about = own_method(images=images)
    for name in _method_names(ablations=ablations, real=real is not None, images=images):
        group: Group = "ablation" if "/" in name and name != about else "method"
        found = experiment.measure_seeds(configure(name), seeds, real=real)
        rows.append(_row(name, group, found))
    if ceiling is not None:
        method = configure("t2i-pal/images")
        found = experiment.measure_seeds(method, seeds, name=CEILING, real=ceiling, alone=True)
        rows.append(_row(CEILING, "ceiling", found))
    bench = experiment.bench
    sets = {
        "captions": bench.train_captions,
        "synthetic": bench.train_images,
        "real": experiment.test,
    }
    features = {
        name: items.global_.numpy()
        for name, items in sets.items()
        if items is not None and len(items) >= _GAP_ITEMS
    }
    gap = modality_gap(features) if len(features) > 1 else ModalityGap(())
    return Comparison(tuple(rows), gap, tuple(_described(more) for more in experiment.also))


def _method_names(*, ablations: bool, real: bool, images: bool) -> tuple[str, ...]:
    """The rows of a table, in order; the method that it is about is the last whole one."""
    if not images:
        ablated = ABLATIONS_WITHOUT_IMAGES if ablations else ()
        return (*METHODS[:-1], own_method(images=False), *ablated)
    rows = [*METHODS, *(ABLATIONS if ablations else ())]
    if real:
        whole, part = WITH_REAL_IMAGES
        rows.insert(METHODS.index("t2i-pal"), whole)
        rows.append(part)
    return tuple(rows)


def _row(name: str, group: Group, found: Sequence[Measurement]) -> MethodResult:
    note = _NOTES.get(name, name.rpartition("/")[2].replace("no-", "without "))
    evaluations = [one.evaluation for one in found]
    others = list(zip(*(one.others for one in found), strict=True))
    return MethodResult.of(name, evaluations, note=note, group=group, others=others)


def _described(images: LabelledImages) -> str:
    return f"{images.source} ({len(images)} images)"
