"""The points a protocol goes through: one, or one for each number of shots or share of labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from t2ipal.runs.benchmark.setting import BenchmarkConfig, Setting
from t2ipal.runs.config import RunConfig

_TRAIN_SPLITS = {"voc2007": "trainval", "coco2014": "train", "nuswide": "train"}


@dataclass(frozen=True)
class Point:
    """What the train split adds.

    Attributes:
        name: in tables.
        shots: labelled images per class, or None.
        fraction: of the labels of the whole split that are known, or None.
    """

    name: str
    shots: int | None = None
    fraction: float | None = None

    @classmethod
    def all(cls, setting: Setting) -> tuple[Point, ...]:
        """The points of a setting in their order."""
        if setting.protocol == "few-shot":
            return tuple(cls(f"{k} shot{'s' if k > 1 else ''}", shots=k) for k in setting.shots)
        if setting.protocol == "partial":
            return tuple(cls(f"{100 * f:g} % of the labels", fraction=f) for f in setting.fractions)
        return (cls(setting.protocol),)

    @property
    def slug(self) -> str:
        """The name as a part of a file name."""
        return self.name.replace(" % of the labels", "-percent").replace(" ", "-")

    def run(self, config: BenchmarkConfig, seed: int, folder: Path) -> RunConfig:
        """The run's settings for this point and seed, the train split in ``folder`` among them.

        The seed also chooses the shots; each seed has a mask seed of its own, which is shipped.
        """
        run = replace(config.run, seed=seed)
        if self.shots is None and self.fraction is None:
            return run
        train = config.setting.spec(folder, _TRAIN_SPLITS[config.setting.test])
        if self.fraction is None:
            return replace(run, real_images=train, shots=self.shots)
        mask = config.setting.mask_seeds[config.run.seeds.index(seed)]
        return replace(run, real_images=train, label_fraction=self.fraction, mask_seed=mask)
