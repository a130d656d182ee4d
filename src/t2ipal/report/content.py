"""What a report says, as plain data: no model, no run folder, only figures, texts and images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from t2ipal.metrics.evaluation import Evaluation
from t2ipal.metrics.gap import ModalityGap
from t2ipal.metrics.ranking import Ranking
from t2ipal.metrics.uncertainty import calibration_error, reliability

Group = Literal["method", "ablation", "ceiling"]
GROUPS: tuple[Group, ...] = ("method", "ablation", "ceiling")


@dataclass(frozen=True)
class MethodResult:
    """One row of the table of methods.

    Attributes:
        name: as on the command line, for example ``"tai-dpt"``.
        mean_ap, cf1, of1: one figure per seed, in [0, 1]; CF1 and OF1 at top-3 may be empty.
        class_ap: AP per class of the report, mean over seeds, nan where undefined; may be empty.
        note: what distinguishes it, in a few words.
        group: where it stands in the table.
        others: mAP on each of the further test sets, one figure per seed.
    """

    name: str
    mean_ap: tuple[float, ...]
    cf1: tuple[float, ...] = ()
    of1: tuple[float, ...] = ()
    class_ap: tuple[float, ...] = ()
    note: str = ""
    group: Group = "method"
    others: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        if not self.mean_ap:
            raise ValueError(f"method {self.name!r} has no figure")
        if self.group not in GROUPS:
            raise ValueError(f"group {self.group!r} is none of {GROUPS}")

    @classmethod
    def of(
        cls,
        name: str,
        evaluations: Sequence[Evaluation],
        *,
        note: str = "",
        group: Group = "method",
        others: Sequence[Sequence[Evaluation]] = (),
    ) -> MethodResult:
        """The row of one evaluation per seed, all of the same images and classes."""
        class_ap = np.array([evaluation.average_precision for evaluation in evaluations])  # [S, C]
        return cls(
            name=name,
            mean_ap=tuple(evaluation.mean_average_precision for evaluation in evaluations),
            cf1=tuple(evaluation.top_k.class_f1 for evaluation in evaluations),
            of1=tuple(evaluation.top_k.overall_f1 for evaluation in evaluations),
            class_ap=tuple(class_ap.mean(axis=0).tolist()),
            note=note,
            group=group,
            others=tuple(tuple(one.mean_average_precision for one in found) for found in others),
        )


def mean(values: Sequence[float]) -> float:
    """Mean; nan of nothing."""
    return math.fsum(values) / len(values) if values else math.nan


def spread(values: Sequence[float]) -> float:
    """Sample standard deviation; nan of fewer than two values."""
    if len(values) < 2:
        return math.nan
    centre = mean(values)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1))


@dataclass(frozen=True)
class CaptionCard:
    """A caption, its labels, and the images generated from it.

    Attributes:
        rejected: attempts that were rejected (black, flat or flagged) before the images shown.
    """

    caption: str
    labels: tuple[str, ...]
    images: tuple[Image.Image, ...]
    unknown: tuple[str, ...] = ()
    rejected: int = 0


@dataclass(frozen=True)
class TaggedScene:
    """A test image with its true and its predicted tags; ``fault`` says what is wrong with them.

    Attributes:
        predictions: class, probability, whether the tagger gives it as a tag, and its heatmap
            [h, w], or None to show none; the best first.
    """

    image: Image.Image
    true: tuple[str, ...]
    predictions: tuple[tuple[str, float, bool, np.ndarray | None], ...]
    unknown: tuple[str, ...] = ()
    fault: str = ""


class _ClassTags(NamedTuple):
    """How often a class was given as a tag, and how often that was right; unknown pairs left out.

    Attributes:
        precision, recall: fractions in [0, 1], nan without a tag or without an image of the class.
        tagged, shown: images that the class was given to, and images that show it.
    """

    name: str
    precision: float
    recall: float
    tagged: int
    shown: int

    @property
    def f1(self) -> float:
        """Nan without an image of the class."""
        return _share(2 * self.recall * self.shown, self.tagged + self.shown)


@dataclass(frozen=True)
class Accuracy:
    """How one model's scores, probabilities and tags fit the test images.

    Attributes:
        precision: [C, R] best precision of each class at recalls of at least 0 to 1, evenly spaced;
            nan for a class without an image.
        average_precision: per class, nan likewise.
        reliability: of bins of pairs of image and class: the mean probability that was said, how
            often it was so, and the number of pairs.
        calibration_error: mean distance of the two, weighted by the pairs.
        tags: per class.
    """

    precision: np.ndarray
    average_precision: tuple[float, ...]
    reliability: tuple[tuple[float, float, int], ...]
    calibration_error: float
    tags: tuple[_ClassTags, ...]

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        scores: np.ndarray,
        targets: np.ndarray,
        probabilities: np.ndarray,
        chosen: np.ndarray,
    ) -> Accuracy:
        """Of scores, targets (1, 0 or -1), probabilities and decisions, all [N, C]."""
        rankings = Ranking.per_class(scores, targets)
        tagged, shown = (chosen & (targets >= 0)).sum(axis=0), (targets == 1).sum(axis=0)
        hits = (chosen & (targets == 1)).sum(axis=0)
        return cls(
            np.stack([one.precision_at(np.linspace(0, 1, _RECALLS)) for one in rankings]),
            tuple(one.average_precision() for one in rankings),
            tuple(reliability(probabilities, targets)),
            calibration_error(probabilities, targets),
            tuple(
                _ClassTags(name, _share(hit, given), _share(hit, there), given, there)
                for name, hit, given, there in zip(
                    names, hits.tolist(), tagged.tolist(), shown.tolist(), strict=True
                )
            ),
        )


_RECALLS = 51


def _share(part: float, whole: int) -> float:
    return part / whole if whole else math.nan


@dataclass(frozen=True)
class ReportContent:
    """A whole report. Sections without content are left out of the page.

    Attributes:
        title, summary: the head of the page, a sentence or two.
        command: what makes the run again.
        classes: names of the C classes, in the order of every ``class_ap``.
        methods: rows of the table.
        focus: name of the method that the page is about; default the last of group "method".
        tested_on: the test images, in a few words.
        also: the further test images, likewise; the methods' ``others`` are about them.
        accuracy: of the model that was saved, on the test images.
        mistakes: test images with its worst mistakes.
        facts: a few (figure, what it is) pairs for the head of the page.
        next_steps: (what it does, shell or Python lines) pairs for the reader to copy.
        counts: (class, how many captions name it, how many generated images show it) triples.
        thresholds: per class the probability from which it is a tag; C of them, or none.
        settings: (option, value, default) of the options that differ from their defaults.
        config: the file of all settings, relative to the page.
        made: (key, value) pairs: models and versions.
    """

    title: str
    command: str
    classes: tuple[str, ...]
    summary: str = ""
    methods: tuple[MethodResult, ...] = ()
    focus: str = ""
    tested_on: str = ""
    also: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    next_steps: tuple[tuple[str, str], ...] = ()
    thresholds: tuple[float, ...] = ()
    counts: tuple[tuple[str, int, int], ...] = ()
    captions: tuple[CaptionCard, ...] = ()
    scenes: tuple[TaggedScene, ...] = ()
    accuracy: Accuracy | None = None
    mistakes: tuple[TaggedScene, ...] = ()
    gap: ModalityGap | None = None
    warnings: tuple[str, ...] = ()
    settings: tuple[tuple[str, str, str], ...] = ()
    config: str = ""
    made: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        names = [method.name for method in self.methods]
        if self.focus and self.focus not in names:
            raise ValueError(f"focus {self.focus!r} is none of the methods {names}")
        for method in self.methods:
            if method.class_ap and len(method.class_ap) != len(self.classes):
                raise ValueError(
                    f"method {method.name!r} has {len(method.class_ap)} AP figures "
                    f"for {len(self.classes)} classes"
                )
        if self.thresholds and len(self.thresholds) != len(self.classes):
            raise ValueError(f"{len(self.thresholds)} thresholds for {len(self.classes)} classes")

    @property
    def focus_method(self) -> MethodResult | None:
        """The method the page is about, or None when there are no methods."""
        if self.focus:
            return next(method for method in self.methods if method.name == self.focus)
        main = [method for method in self.methods if method.group == "method"]
        return main[-1] if main else None
