"""What tools/results.py measures with: the features of one world, and methods fitted on them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from tools.plots import Values

from t2ipal.captions.labelled import LabelledCaption
from t2ipal.clip.backbone import Backbone
from t2ipal.datasets.few_shot import choose_shots
from t2ipal.datasets.labelled_images import LabelledImages
from t2ipal.datasets.partial import hide_labels
from t2ipal.datasets.read import read_labelled_images
from t2ipal.errors import UserError
from t2ipal.files import sha256_text
from t2ipal.generation.store import ImageRow
from t2ipal.method.items import ItemSet
from t2ipal.method.methods import MethodConfig
from t2ipal.runs.config import RunConfig
from t2ipal.runs.fitting import RealItems, methods_of
from t2ipal.runs.measure import Experiment, Measurement
from t2ipal.runs.real_images import SCENES, read_real_images
from t2ipal.runs.workbench import Workbench
from t2ipal.vocabulary import Vocabulary


@dataclass(eq=False)
class Lab:
    """One world with one vocabulary: captions and images as features, and what is measured.

    Attributes:
        rows: of the generated images; none where captions alone are trained on.
        folder: of generated images, features and test scenes.
        work: of the journal.
        page: that is written; its figures lie in ``images`` beside it.
        name: start of the names of the figures.
        fractions: of the labels of real images that are known, in the part about these.
    """

    config: RunConfig
    vocabulary: Vocabulary
    backbone: Backbone
    captions: Sequence[LabelledCaption]
    rows: Sequence[ImageRow]
    folder: Path
    work: Path
    page: Path
    name: str
    say: Callable[[str], None]
    fractions: Sequence[float] = tuple(tenth / 10 for tenth in range(1, 10))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of every fit."""
        return self.config.seeds

    def image(self, name: str) -> Path:
        """The file of a figure."""
        return self.page.parent / "images" / f"{self.name}-{name}.svg"

    def link(self, name: str) -> str:
        """The same, as the page writes it."""
        return f"images/{self.name}-{name}.svg"

    def bench(
        self, captions: Sequence[LabelledCaption] | None = None, copies: int = 1
    ) -> Workbench:
        """Features of some of the captions, with so many images of each."""
        return Workbench(
            self.vocabulary,
            self.backbone,
            self.folder / "features",
            self.captions if captions is None else captions,
            [row for row in self.rows if row.copy < copies],
            self.folder,
            progress=False,
        )

    def experiment(self, bench: Workbench) -> Experiment:
        """Methods fitted on a bench and evaluated on the test images."""
        assert self.config.data is not None, "every world has test images"
        test, *also = (
            read_labelled_images(spec, self.vocabulary, cache=self.folder / SCENES)
            for spec in (self.config.data, *self.config.also)
        )
        return Experiment(bench, test, self.work, also=also, say=self.say)

    @cached_property
    def main(self) -> Experiment:
        """All captions, one image of each."""
        return self.experiment(self.bench())

    @cached_property
    def _pool(self) -> tuple[LabelledImages, ItemSet]:
        """All labelled real images that may be trained on; none of them is a test image."""
        config = replace(self.config, real_images=self.config.real_data)
        read = read_real_images(config, self.vocabulary, self.folder / SCENES)
        found = RealItems.of(self.main.bench, read, self.main.test, self.say)
        assert read is not None and found is not None, "every world has labelled training images"
        return self.main.bench.readable(read.images), found.items

    def real(self, seed: int, shots: int | None = None, fraction: float | None = None) -> RealItems:
        """Labelled real images to train on: all, few, or all with a part of their labels.

        Labels are hidden by the first mask of the seed that leaves every class a known image.
        """
        images, items = self._pool
        names = self.vocabulary.names
        if shots is not None:
            rows = choose_shots(images, names, shots, seed)
            return RealItems(items.take(torch.from_numpy(rows)), f"{len(rows)} taken")
        if fraction is None:
            return RealItems(items, f"all {len(items)}")
        for mask_seed in range(100 * seed, 100 * (seed + 1)):
            targets = hide_labels(images, names, fraction, mask_seed).targets
            if (targets == 1).any(axis=0).all():
                known = replace(items, targets=torch.from_numpy(targets))
                return RealItems(known, f"{(targets >= 0).mean():.0%} of the labels")
        raise UserError(f"{self.config.real_data}: too few images of a class to hide labels.")

    def method(self, name: str) -> MethodConfig:
        """A method with the run's epochs, evaluated on held-out items at the end alone."""
        method = methods_of(self.config)(name)
        return method if method.train is None else _with_epochs(method, method.train.epochs)

    def measure(
        self,
        experiment: Experiment,
        name: str,
        point: str = "",
        real: Callable[[int], RealItems] | None = None,
    ) -> list[Values]:
        """mAP on each test set, for each seed."""
        found = []
        for seed in self.seeds:
            given = None if real is None else real(seed)
            method = self._with_enough_steps(self.method(name), experiment.bench, given)
            found.append(experiment.measure(method, seed, point=point, real=given))
            if method.train is None:
                break
        return by_test_set(found)

    def _with_enough_steps(
        self, method: MethodConfig, bench: Workbench, real: RealItems | None
    ) -> MethodConfig:
        if method.train is None:
            return method
        train_on = method.train.train_on
        captions = len(bench.train_captions) if train_on != "images" else 0
        images = 0 if real is None else len(real.items)
        if train_on != "captions" and not method.real_only:
            images += bench.generated_images
        usual = self._steps(len(self.main.bench.train_captions), self.main.bench.generated_images)
        return _with_epochs(
            method, method.train.epochs * math.ceil(usual / self._steps(captions, images))
        )

    def _steps(self, captions: int, images: int) -> int:
        """Steps of an epoch."""
        return math.ceil(max(captions, images) / self.config.train.batch_size)


def _with_epochs(method: MethodConfig, epochs: int) -> MethodConfig:
    assert method.train is not None, "it is trained"
    return replace(method, train=replace(method.train, epochs=epochs, evaluate_every=epochs))


def by_test_set(found: Sequence[Measurement]) -> list[Values]:
    """mAP on each test set, for each seed."""
    rows = [(one.evaluation, *one.others) for one in found]
    return [tuple(one.mean_average_precision for one in own) for own in zip(*rows, strict=True)]


def some_captions(captions: Sequence[LabelledCaption], count: int) -> list[LabelledCaption]:
    """At most so many of the captions that name a class, by chance; smaller choices lie in larger.

    The first name every class, so that each can be learned.
    """
    named = [row for row in captions if row.labels]
    named.sort(key=lambda row: sha256_text("some captions", row.id))
    counts = Counter(name for row in named for name in row.labels)
    first: dict[str, LabelledCaption] = {}
    for name in sorted(counts, key=lambda name: (counts[name], name)):
        if not any(name in row.labels for row in first.values()):
            chosen = next(row for row in named if name in row.labels)
            first[chosen.id] = chosen
    rest = (row for row in named if row.id not in first)
    return [*first.values(), *rest][:count]
