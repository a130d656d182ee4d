"""A benchmark's configuration: how to run, as for ``t2ipal run``, and what to measure.

    benchmark:
      test: voc2007
      method: t2i-pal
      options: {difficult: negative}
      captions: train2014
      published: [t2i-pal-rn50]
    classes: voc2007
    per_class: 1000
    clip: RN50:openai
    preset: paper

The keys beside ``benchmark`` are those of :class:`t2ipal.runs.config.RunConfig`; those that say
where data lie, or that the protocol goes through, are not among them.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Gt, Le

from t2ipal.datasets.official import parse_layout
from t2ipal.errors import Count, UserError, Whole, nearest, read_settings, settings
from t2ipal.files.yaml_files import read_yaml, yaml_key
from t2ipal.method.methods import MethodConfig, method_config
from t2ipal.runs.benchmark.published import NUSWIDE, Figure, Protocol, Row, Test, published
from t2ipal.runs.config import RunConfig
from t2ipal.vocabulary import Vocabulary

ALL_SHOTS = (1, 2, 4, 8, 16)
ALL_FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_EPOCHS, _STEPS, _COMPOSED, _SEEDS = 3, 4, 200, 2  # of a rehearsal
_IMAGES = 80
"""About this many are generated, but two for every class that a caption names."""
_THE_PROTOCOLS = {
    "captions", "data", "data_folder", "real_data", "real_images", "real_folder", "shots",
    "label_fraction", "mask_seed", "ablations",
}  # fmt: skip


_FILES = {
    "train2014": "captions_train2014.json",
    "train2017": "captions_train2017.json",
    "narratives": "open_images_train_v6_captions.jsonl",
}
_SOURCES = {
    "train2014": "annotations_trainval2014.zip of cocodataset.org",
    "train2017": "annotations_trainval2017.zip of cocodataset.org",
    "narratives": "the Localized Narratives page, Open Images, captions of the train split",
}


@settings
class Setting:
    """What is measured."""

    test: Test
    """data set of the test images"""
    method: str
    """a name of :mod:`t2ipal.method.methods`"""
    protocol: Protocol = "zero-shot"
    """zero-shot; few-shot (labelled images of the train split join); partial (the whole train split
    joins, with part of its labels); or cross-dataset (the classes are those of another benchmark,
    and the tuned contexts go to the test's class names)"""
    options: dict[str, str] = field(default_factory=dict)
    """options of the reader of the official layout, such as ``difficult: negative``"""
    captions: Literal["none", "train2014", "train2017", "narratives"] = "none"
    """captions to train on: none (composed ones), COCO's, or OpenImages' Localized Narratives"""
    shots: tuple[Count, ...] = ()
    """images per class, for few-shot"""
    fractions: tuple[Annotated[float, Gt(0), Le(1)], ...] = ()
    """shares of labels kept, for partial"""
    mask_seeds: tuple[Whole, ...] = ()
    """seeds of the labels kept, one for each seed of the run, so that everybody hides the same"""
    published: tuple[str, ...] = ()
    """rows of ``published.yaml`` that this setting is to be compared with"""

    def _check(self) -> None:
        method_config(self.method)
        belong = (("shots", "few-shot"), ("fractions", "partial"), ("mask_seeds", "partial"))
        for name, protocol in belong:
            if bool(getattr(self, name)) != (self.protocol == protocol):
                raise UserError(f"benchmark.{name} and protocol {protocol} belong together.")
        for key in self.published:
            published().row(key)
        parse_layout(self.spec("."))

    def spec(self, folder: str | Path, split: str | None = None) -> str:
        """What the readers take: its test images in ``folder``, or another split of them.

        The list of test images says nothing about another split, of which all are taken.
        """
        options = dict(self.options)
        if split is not None:
            options.pop("images", None)
            options["split"] = split
        text = "&".join(f"{key}={value}" for key, value in options.items())
        return f"{self.test}:{folder}?{text}"

    def captions_file(self, folder: Path, given: Path | None) -> Path | None:
        """The captions file, or None for a setting that composes its captions.

        Looked for in the benchmark's folder, the folder above, and ``annotations`` in both.

        Raises:
            UserError: it is not there, or one is given and none is used.
        """
        if self.captions == "none":
            if given is not None:
                raise UserError(f"{given}: this configuration composes its captions; leave it out.")
            return None
        if given is not None:
            if not given.is_file():
                raise UserError(f"{given}: there is no such file; check --captions.")
            return given
        name = _FILES[self.captions]
        for place in (folder, folder.parent):
            for path in (place / "annotations" / name, place / name):
                if path.is_file():
                    return path
        raise UserError(
            f"{folder}: no {name} in it, in its annotations or beside it; name it with --captions "
            f"(it is in {_SOURCES[self.captions]})."
        )

    @property
    def test_list(self) -> str:
        """Which of NUS-WIDE's test lists, or whose file, it measures on; empty for other tests."""
        if self.test != NUSWIDE:
            return ""
        images = self.options.get("images", "all")
        return images if images in ("all", "labelled") else f"file {Path(images).name}"

    @property
    def averaged(self) -> bool:
        """Whether published figures are means over all it goes through."""
        return self.fractions == ALL_FRACTIONS

    def figures(self) -> list[tuple[Row, Figure]]:
        """Published rows and their figures on exactly these test images.

        Published figures for partial labels are means over 10, 20 .. 90 per cent: a setting that
        goes through others has none.
        """
        if self.protocol == "partial" and not self.averaged:
            return []
        rows = map(published().row, self.published)
        pairs = [(row, row.figure(self.test, self.test_list)) for row in rows]
        return [(row, figure) for row, figure in pairs if figure is not None]


@dataclass(frozen=True)
class BenchmarkConfig:
    """A setting and the run it needs; ``name`` is the file's, such as ``voc2007/rn50-t2i-pal``."""

    name: str
    setting: Setting
    run: RunConfig

    def __post_init__(self) -> None:
        if not self.run.classes:
            raise UserError(f"{self.name}: no classes; name those it trains on.")
        same = self.run.classes == self.setting.test
        if same == (self.setting.protocol == "cross-dataset"):
            raise UserError(
                f"{self.name}: classes {self.run.classes!r} and test {self.setting.test!r} must "
                "be the same, except for protocol cross-dataset, where they must differ."
            )
        if (self.setting.captions == "none") != (self.run.compose is not None):
            raise UserError(
                f"{self.name}: give benchmark.captions, or the number of captions to compose."
            )
        if self.setting.mask_seeds and len(self.setting.mask_seeds) != len(self.run.seeds):
            raise UserError(
                f"{self.name}: {len(self.setting.mask_seeds)} mask_seeds for "
                f"{len(self.run.seeds)} seeds; give one for each."
            )

    @property
    def method(self) -> MethodConfig:
        """The method, with the run's own head."""
        return method_config(self.setting.method, head=self.run.head)

    @property
    def needs_images(self) -> bool:
        """Whether the method looks at generated images."""
        train = self.method.train
        if train is None or self.method.real_only:
            return False
        return self.method.head.needs_images or "image" in train.kinds

    def to_dict(self) -> dict[str, Any]:
        """Plain mapping, as in the file, with every default in it."""
        setting = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self.setting).items()
        }
        run = {k: v for k, v in self.run.to_dict().items() if k not in _THE_PROTOCOLS}
        return {"benchmark": setting, **run}

    @classmethod
    def from_dict(
        cls, mapping: dict[str, Any], name: str, named: Callable[[str], str] = str
    ) -> BenchmarkConfig:
        """The inverse of :meth:`to_dict`; missing keys keep their defaults.

        Args:
            named: as for :func:`t2ipal.errors.read_settings`.

        Raises:
            UserError: an unknown key or a bad value.
        """
        run = dict(mapping)
        part = run.pop("benchmark", None)
        if not isinstance(part, dict):
            key = "benchmark"
            raise UserError(
                f"{named('')}no group {key!r}{nearest(key, mapping)}; it says test and method."
            )
        for key in run.keys() & _THE_PROTOCOLS:
            raise UserError(f"{named(key)}: {key!r} is for the protocol or the command to say.")
        setting = read_settings(Setting, part, lambda key: named(f"benchmark.{key}"))
        return cls(name, setting, read_settings(RunConfig, run, named))

    @classmethod
    def read(cls, path: str | Path) -> BenchmarkConfig:
        """Read a configuration.

        Raises:
            UserError: no such file, no YAML, an unknown key or a bad value; the line is named.
        """
        path = Path(path)
        name = "/".join(path.with_suffix("").parts[-2:])
        return cls.from_dict(read_yaml(path), name, yaml_key(path))

    @classmethod
    def find(cls, name: str) -> BenchmarkConfig:
        """Read a configuration by its file, or by a name such as ``voc2007/rn50-t2i-pal``.

        Raises:
            UserError: there is none (the message has the nearest name), or as :meth:`read`.
        """
        if Path(name).is_file():
            return cls.read(name)
        short = name.removeprefix("configs/").removesuffix(".yaml")
        known: list[str] = []
        for folder in _folders():
            if (path := folder / f"{short}.yaml").is_file():
                return cls.read(path)
            known += [
                path.relative_to(folder).with_suffix("").as_posix()
                for path in folder.rglob("*.yaml")
            ]
        raise UserError(
            f"{name}: there is no such configuration{nearest(short, known)}; give a YAML file, or "
            "a name such as voc2007/rn50-t2i-pal."
        )

    def with_options(self, options: dict[str, str]) -> BenchmarkConfig:
        """The same with other options of the reader."""
        changed = replace(self.setting, options={**self.setting.options, **options})
        return replace(self, setting=changed)

    def rehearsed(self) -> BenchmarkConfig:
        """The same method and protocol with the miniature's models, and little of all."""
        run, few = self.run, min(_SEEDS, len(self.run.seeds))
        per_class = max(2, _IMAGES // len(Vocabulary.load(run.classes)))
        small = replace(
            run,
            clip="miniature",
            generator="miniature",
            preset=None,
            steps=_STEPS,
            guidance=None,
            height=None,
            width=None,
            revision=None,
            image_size=None,
            local_grid=None,
            compose=None if run.compose is None else min(run.compose, _COMPOSED),
            per_class=None if run.compose is not None else per_class,
            complete=1,
            seeds=run.seeds[:few],
            train=replace(run.train, epochs=_EPOCHS),
        )
        masks = self.setting.mask_seeds[:few]
        return replace(self, run=small, setting=replace(self.setting, mask_seeds=masks))


def _folders() -> Iterator[Path]:
    """Where configurations lie: here, in the source tree, and where an installation puts them."""
    yield Path("configs")
    yield Path(__file__).parents[4] / "configs"
    yield Path(sys.prefix) / "share" / "t2ipal" / "configs"
