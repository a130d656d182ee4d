"""The points a protocol goes through: one, or one for each number of shots or share of labels."""

from __future__ import annotations

from dataclasses import dataclass, replace

from t2ipal.runs.benchmark.setting import BenchmarkConfig, Setting
from t2ipal.runs.config import RunConfig

TRAIN_SPLITS = {"voc2007": "trainval", "coco2014": "train", "nuswide": "train"}


@dataclass(frozen=True)
class Point:
    """What the train split adds: ``shots`` images a class, or all with a ``fraction`` of labels."""

    shots: int | None = None
    fraction: float | None = None
    name: str = ""

    @property
    def slug(self) -> str:
        """The name as a part of a file name."""
        return self.name.replace(" % of the labels", "-percent").replace(" ", "-")


def points_of(setting: Setting) -> tuple[Point, ...]:
    """The points in their order."""
    if setting.protocol == "few-shot":
        return tuple(Point(shots=k, name=f"{k} shot{'s' if k > 1 else ''}") for k in setting.shots)
    if setting.protocol == "partial":
        return tuple(
            Point(fraction=f, name=f"{100 * f:g} % of the labels") for f in setting.fractions
        )
    return (Point(name=setting.protocol),)


def seeds_of(config: BenchmarkConfig) -> tuple[int, ...]:
    """The run's seeds; one where nothing is trained."""
    return config.run.seeds if config.method.train is not None else config.run.seeds[:1]


def with_point(config: BenchmarkConfig, point: Point, seed: int, folder: str) -> RunConfig:
    """The run's settings for one point and seed, the train split in ``folder`` among them.

    The seed also chooses the shots; each seed has a mask seed of its own, which is shipped.
    """
    run = replace(config.run, seed=seed)
    if point.shots is None and point.fraction is None:
        return run
    train = config.setting.spec(folder, TRAIN_SPLITS[config.setting.test])
    if point.fraction is None:
        return replace(run, real_images=train, shots=point.shots)
    mask = config.setting.mask_seeds[config.run.seeds.index(seed)]
    return replace(run, real_images=train, label_fraction=point.fraction, mask_seed=mask)
