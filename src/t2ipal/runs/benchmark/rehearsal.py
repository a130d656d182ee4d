"""A configuration as it is rehearsed: the same protocol with the miniature models, in minutes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from t2ipal.errors import UserError, nearest
from t2ipal.runs.benchmark.setting import BenchmarkConfig
from t2ipal.vocabulary import Vocabulary

EPOCHS, STEPS, COMPOSED, SEEDS = 3, 4, 200, 2
IMAGES = 80
"""About this many are generated, but two for every class that a caption names."""


def rehearsed(config: BenchmarkConfig) -> BenchmarkConfig:
    """The same method and protocol with the miniature's CLIP and generator, and little of all."""
    run, few = config.run, min(SEEDS, len(config.run.seeds))
    per_class = max(2, IMAGES // len(Vocabulary.load(run.classes)))
    small = replace(
        run,
        clip="miniature",
        generator="miniature",
        preset=None,
        steps=STEPS,
        guidance=None,
        height=None,
        width=None,
        revision=None,
        image_size=None,
        local_grid=None,
        compose=None if run.compose is None else min(run.compose, COMPOSED),
        per_class=None if run.compose is not None else per_class,
        complete=1,
        seeds=run.seeds[:few],
        train=replace(run.train, epochs=EPOCHS),
    )
    masks = config.setting.mask_seeds[:few]
    return replace(config, run=small, setting=replace(config.setting, mask_seeds=masks))


def find_configuration(name: str) -> Path:
    """The file of a configuration: a path, or a name such as ``voc2007/rn50-t2i-pal``.

    Raises:
        UserError: there is none; the message has the nearest name.
    """
    if Path(name).is_file():
        return Path(name)
    short = name.removeprefix("configs/").removesuffix(".yaml")
    known: list[str] = []
    for folder in _folders():
        if (path := folder / f"{short}.yaml").is_file():
            return path
        known += [
            path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")
        ]
    raise UserError(
        f"{name}: there is no such configuration{nearest(short, known)}; give a YAML file, or a "
        "name such as voc2007/rn50-t2i-pal."
    )


def _folders() -> Iterator[Path]:
    """Where configurations lie: here, in the source tree, and where an installation puts them."""
    yield Path("configs")
    yield Path(__file__).parents[4] / "configs"
    yield Path(sys.prefix) / "share" / "t2ipal" / "configs"
