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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from t2ipal.datasets.read import parse_layout
from t2ipal.errors import UserError, nearest
from t2ipal.files import read_yaml
from t2ipal.method import checks
from t2ipal.method.methods import MethodConfig, method_config
from t2ipal.runs.benchmark.published import NUSWIDE, PROTOCOLS, TESTS, Figure, Row, published
from t2ipal.runs.config import RunConfig

CAPTIONS = ("none", "train2014", "train2017", "narratives")
"""None (composed ones), COCO's, or OpenImages' Localized Narratives."""

ALL_SHOTS = (1, 2, 4, 8, 16)
ALL_FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_THE_PROTOCOLS = {
    "captions", "data", "images", "real_data", "real_images", "real_folder", "shots",
    "label_fraction", "mask_seed", "ablations",
}  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """What is measured.

    Attributes:
        test: voc2007, coco2014 or nuswide.
        method: a name of :mod:`t2ipal.method.methods`.
        protocol: zero-shot, few-shot (labelled images of the train split join), partial (the whole
            train split joins, with part of its labels) or cross-dataset (the classes are those of
            another benchmark, and the tuned contexts go to the test's class names).
        options: of the reader of the official layout, such as ``difficult: negative``.
        captions: which captions it trains on: none, train2014, train2017 or narratives.
        shots: images a class, for few-shot.
        fractions: of labels kept, for partial.
        mask_seeds: of the labels kept: one for each of the run's seeds, so that everybody hides
            the same ones.
        published: rows of ``published.yaml`` that this setting is to be compared with.
    """

    test: str
    method: str
    protocol: str = "zero-shot"
    options: dict[str, str] = field(default_factory=dict)
    captions: str = "none"
    shots: tuple[int, ...] = ()
    fractions: tuple[float, ...] = ()
    mask_seeds: tuple[int, ...] = ()
    published: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        checks.choice("benchmark.test", self.test, TESTS)
        checks.choice("benchmark.protocol", self.protocol, PROTOCOLS)
        checks.choice("benchmark.captions", self.captions, CAPTIONS)
        method_config(self.method)
        for name, protocol in (("shots", "few-shot"), ("fractions", "partial")):
            if bool(getattr(self, name)) != (self.protocol == protocol):
                raise UserError(f"benchmark.{name} and protocol {protocol} belong together.")
        for shot in self.shots:
            checks.count("benchmark.shots", shot)
        for fraction in self.fractions:
            checks.positive("benchmark.fractions", fraction)
            checks.fraction("benchmark.fractions", fraction)
        if bool(self.mask_seeds) != (self.protocol == "partial"):
            raise UserError("benchmark.mask_seeds and protocol partial belong together.")
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

    @property
    def test_list(self) -> str:
        """Which of NUS-WIDE's test lists it measures on; empty for other benchmarks."""
        return list_of(self.options.get("images", "all")) if self.test == NUSWIDE else ""

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


def list_of(images: str) -> str:
    """The list that a value of the reader's option ``images`` means; a file's is its own."""
    return images if images in ("all", "labelled") else f"file {Path(images).name}"


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
    def draws(self) -> bool:
        """Whether the method looks at drawn images."""
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
    def from_dict(cls, mapping: dict[str, Any], name: str, source: str) -> BenchmarkConfig:
        """The inverse of :meth:`to_dict`; missing keys keep their defaults.

        Raises:
            UserError: an unknown key or a value of the wrong kind.
        """
        rest = dict(mapping)
        part = rest.pop("benchmark", None)
        if not isinstance(part, dict):
            key = "benchmark"
            raise UserError(
                f"{source}: no group {key!r}{nearest(key, mapping)}; it says test and method."
            )
        keys = {f.name for f in dataclasses.fields(RunConfig)} - _THE_PROTOCOLS
        for key in rest:
            if key in _THE_PROTOCOLS:
                raise UserError(f"{source}: {key!r} is for the protocol or the command to say.")
            if key not in keys:
                raise UserError(
                    f"{source}: unknown key {key!r}{nearest(str(key), [*keys, 'benchmark'])}."
                )
        for required in ("test", "method"):
            if required not in part:
                raise UserError(f"{source}: benchmark.{required} is missing.")
        return cls(name, _setting(part, source), RunConfig.from_dict(rest, source))

    @classmethod
    def read(cls, path: str | Path) -> BenchmarkConfig:
        """Read a configuration.

        Raises:
            UserError: no such file, no YAML, an unknown key or a bad value.
        """
        path = Path(path)
        name = "/".join(path.with_suffix("").parts[-2:])
        return cls.from_dict(read_yaml(path), name, str(path))

    def with_options(self, options: dict[str, str]) -> BenchmarkConfig:
        """The same with other options of the reader."""
        changed = replace(self.setting, options={**self.setting.options, **options})
        return replace(self, setting=changed)


def _setting(part: dict[str, Any], source: str) -> Setting:
    """The group ``benchmark``, its lists as tuples."""
    values = dict(part)
    kinds = {"shots": int, "mask_seeds": int, "fractions": float, "published": str}
    for key, kind in kinds.items():
        if key not in values:
            continue
        allowed = (int, float) if kind is float else kind
        if not isinstance(values[key], list) or not all(
            isinstance(v, allowed) and not isinstance(v, bool) for v in values[key]
        ):
            raise UserError(f"{source}: benchmark.{key} must be a list, not {values[key]!r}.")
        values[key] = tuple(values[key])
    options = values.get("options", {})
    if not isinstance(options, dict) or not all(isinstance(v, str) for v in options.values()):
        raise UserError(f"{source}: benchmark.options must name options, not {options!r}.")
    return checks.from_mapping(Setting, values, f"{source}: benchmark")
