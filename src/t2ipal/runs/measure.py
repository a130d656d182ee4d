"""The experiment loop: methods fitted on a workbench and evaluated on test images, each pair once.

A run's table of methods and a benchmark's points go through it; both leave ``measurements.jsonl``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from t2ipal.datasets.labelled_images import LabelledImages
from t2ipal.errors import UserError
from t2ipal.files import append_jsonl, read_jsonl, sha256_text
from t2ipal.method.head import T2IPALHead
from t2ipal.method.items import ItemSet
from t2ipal.method.methods import MethodConfig
from t2ipal.metrics.evaluation import Evaluation, evaluate
from t2ipal.runs.fitting import RealItems, Say, fit_tagger
from t2ipal.runs.workbench import Workbench
from t2ipal.tagger.tagger import Tagger

JOURNAL = "measurements.jsonl"


@dataclass(frozen=True)
class Measurement:
    """What one fitted method scored on the test images: a row of the journal.

    Attributes:
        method, point, seed: what was fitted; ``point`` is of a benchmark's protocol, else empty.
        evaluation: of its scores.
        epoch: that was kept, or None if nothing was trained.
        held_out_map: of that epoch on the held-out items, in per cent.
        real_images: which labelled images it was trained on, in words; empty for none.
        others: evaluations on further test images.
    """

    method: str
    point: str
    seed: int
    evaluation: Evaluation
    epoch: int | None
    held_out_map: float | None
    real_images: str
    others: tuple[Evaluation, ...] = ()


_ADAPTER = TypeAdapter(Measurement)


class Experiment:
    """Fits methods on one workbench and evaluates them on one test set; resumes.

    A measurement is kept under the identity of all that decides about it: features and labels
    trained and tested on, name, point, seed and settings of the method.

    Args:
        bench: features to fit on.
        images: labelled test images; nothing is chosen on them.
        also: further ones, on which every method is evaluated too.
        folder: where the journal is kept.
        say: told the figure of each new measurement.
        replicates: samples of the bootstrap for mAP's interval; 0 for none.
        transfer: the head with other classes, those of ``test``; thresholds are left out then.
        timed: context of the stages "train" and "eval", to measure their time.

    Attributes:
        images, test: the test images, and their features.
        also, others: the further ones, and theirs.
        computed: number of measurements made now rather than read back.
    """

    def __init__(
        self,
        bench: Workbench,
        images: LabelledImages,
        folder: Path,
        *,
        say: Say,
        also: Sequence[LabelledImages] = (),
        replicates: int = 0,
        transfer: Callable[[T2IPALHead], T2IPALHead] | None = None,
        timed: Callable[[str], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.bench, self.computed = bench, 0
        self.images = bench.readable(images, test=True)
        self.test = bench.labelled(self.images, test=True)
        self.also = [bench.readable(more, test=True) for more in also]
        self.others = [bench.labelled(more, test=True) for more in self.also]
        self._journal, self._say, self._timed = folder / JOURNAL, say, timed
        self._replicates, self._transfer = replicates, transfer
        self._known = _read_journal(self._journal) if self._journal.exists() else {}

    def measure_seeds(
        self, method: MethodConfig, seeds: Sequence[int], **given: Any
    ) -> list[Measurement]:
        """:meth:`measure` with each seed, or with the first alone if nothing is trained."""
        seeds = seeds if method.train is not None else seeds[:1]
        return [self.measure(method, seed, **given) for seed in seeds]

    def measure(
        self,
        method: MethodConfig,
        seed: int,
        *,
        name: str = "",
        point: str = "",
        real: RealItems | None = None,
        alone: bool = False,
        tagger: Tagger | None = None,
        model: Path | None = None,
    ) -> Measurement:
        """One measurement, read back or made now.

        Args:
            name: in the table; the method's own if omitted.
            point: of the benchmark's protocol.
            real, alone: labelled real images, as :meth:`Workbench.fit` takes them.
            tagger: this method fitted with this seed; fitted now if omitted.
            model: folder to save a tagger in that was fitted now.
        """
        name = name or method.name
        items = real.items if real is not None else None
        digest = self.bench.digest(items, self.test, *self.others)
        key = sha256_text(digest, name, point, str(seed), method.identity)
        if key in self._known:
            return self._known[key]
        if tagger is None:
            with self._timed("train"):
                tagger = fit_tagger(
                    self.bench, method, seed, real=real, alone=alone, test=self.test
                )
                if model is not None:
                    tagger.save_pretrained(model)
        with self._timed("eval"):
            evaluation, *others = (
                self._evaluate(tagger, items, images)
                for items, images in zip(
                    (self.test, *self.others), (self.images, *self.also), strict=True
                )
            )
        epoch, held_out = (tagger.about.get(key) for key in ("epoch", "held_out_map"))
        words = tagger.about.get("real_images") if method.train is not None else None
        found = Measurement(
            name, point, seed, evaluation, epoch, held_out, words or "", tuple(others)
        )
        append_jsonl(
            self._journal, {"key": key, **_ADAPTER.dump_python(found, mode="json", by_alias=True)}
        )
        self._known[key] = found
        self.computed += 1
        value = 100 * evaluation.mean_average_precision
        self._say(f"  {name}, {point + ', ' if point else ''}seed {seed}: mAP {value:.1f}")
        return found

    def _evaluate(self, tagger: Tagger, test: ItemSet, images: LabelledImages) -> Evaluation:
        head = tagger.clip.head if self._transfer is None else self._transfer(tagger.clip.head)
        scores = head.score_items(test).cpu().numpy()
        calibrated = tagger.thresholds if self._transfer is None else None
        found = evaluate(
            scores,
            test.targets.numpy(),
            head.names,
            thresholds=calibrated.thresholds if calibrated else None,
            probabilities=calibrated.probabilities(scores) if calibrated else None,
            replicates=self._replicates,
        )
        return replace(found, skipped=images.skipped)


def _read_journal(path: Path) -> dict[str, Measurement]:
    """The measurements that a journal holds, by the identity of all that decides about each."""
    found = {}
    for number, row in read_jsonl(path):
        try:
            found[str(row.pop("key"))] = _ADAPTER.validate_python(row)
        except (KeyError, ValidationError):
            raise UserError(
                f"{path}:{number}: is no measurement; remove the line, and it is measured again."
            ) from None
    return found
