"""Verbs about a whole run: make one, compare its methods, tell what it needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional

from t2ipal.cli.speech import say
from t2ipal.errors import UserError
from t2ipal.runs.config import RunConfig


@dataclass(frozen=True)
class Run:
    """Label, generate, embed, train and compare in one folder; a second start goes on."""

    out: Path
    """folder of the run"""
    config: Path | None = None
    """YAML file of settings, such as another run's config.yaml; flags win over it"""
    settings: Annotated[RunConfig, tyro.conf.arg(name="")] = field(default_factory=RunConfig)

    def run(self) -> int:
        from t2ipal.runs.pipeline import run

        run(self.settings, self.out, say=say)
        return 0


@dataclass(frozen=True)
class Compare:
    """Fit and judge every method and ablation on a run's features."""

    run_folder: Positional[Path]
    """folder of a run"""
    data: str | None = None
    """test images: a folder with labels.csv, a COCO-format JSON, voc2007:DIR, coco2014:DIR,
    nuswide:DIR, or miniature; the run's own if left out"""
    real_data: str | None = None
    """labelled real training images for the ceiling row, like data"""
    images: Path | None = None
    """folder of the images of a COCO JSON, where it cannot be guessed"""
    seeds: tuple[int, ...] | None = None
    """seeds of the methods; the run's own if left out"""

    def run(self) -> int:
        from dataclasses import replace

        from t2ipal.runs.pipeline import run

        path = self.run_folder / "config.yaml"
        if not path.exists():
            raise UserError(f"{self.run_folder}: holds no run; make one with 't2ipal run'.")
        config = RunConfig.read(path)
        given: dict[str, Any] = {
            "data": self.data,
            "real_data": self.real_data,
            "images": None if self.images is None else str(self.images),
            "seeds": self.seeds,
        }
        config = replace(config, **{k: v for k, v in given.items() if v is not None})
        if config.data is None:
            raise UserError("no test images: give --data FOLDER, a COCO-format JSON, or miniature.")
        run(config, self.run_folder, say=say)
        return 0


@dataclass(frozen=True)
class Doctor:
    """Tell what is here, what a run still needs, and how long and large it would be."""

    out: Path = Path("runs")
    """folder in which the run would be"""
    config: Path | None = None
    """YAML file of settings, such as another run's config.yaml; flags win over it"""
    measure: bool = False
    """draw and embed a few images to tell how long it would take"""
    settings: Annotated[RunConfig, tyro.conf.arg(name="")] = field(default_factory=RunConfig)

    def run(self) -> int:
        from t2ipal.runs.doctor import examine

        missing = False
        for finding in examine(self.settings, self.out, measure=self.measure):
            say(str(finding))
            missing |= finding.missing
        return 1 if missing else 0
