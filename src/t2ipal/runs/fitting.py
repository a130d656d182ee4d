"""One method fitted: from its name and a run's settings to a saved tagger."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from t2ipal.captions.labelled import read_labelled
from t2ipal.clip.backbone import Backbone
from t2ipal.datasets.read import read_labelled_images
from t2ipal.errors import UserError
from t2ipal.files import write_jsonl
from t2ipal.files.broken import Broken
from t2ipal.files.lock import locking
from t2ipal.generation.store import read_manifest
from t2ipal.method.items import ItemSet
from t2ipal.method.methods import MethodConfig, method_config
from t2ipal.runs.config import RunConfig
from t2ipal.runs.held_out import hold_out
from t2ipal.runs.real_images import SCENES, RealImages, read_real_images
from t2ipal.runs.workbench import Workbench
from t2ipal.tagger.clip_model import ClipModel
from t2ipal.tagger.scoring import held_out_figures
from t2ipal.tagger.tagger import Tagger
from t2ipal.vocabulary import Vocabulary

log = logging.getLogger(__name__)
Say = Callable[[str], None]


def methods_of(config: RunConfig) -> Callable[[str], MethodConfig]:
    """Method name to configuration, with the run's own settings of the head and of training.

    The settings are those of T2I-PAL and of its ablations. A baseline keeps its own head and
    optimiser, and takes the number of epochs and the batch size, so that a table compares methods
    and not budgets.
    """

    def configure(name: str) -> MethodConfig:
        method = method_config(name, head=config.head)
        if method.train is None:
            return method
        if name == "t2i-pal":
            return replace(method, train=config.train)
        if name.startswith("t2i-pal/"):
            return replace(method, train=replace(config.train, train_on=method.train.train_on))
        if method.own_budget:
            return method
        epochs, batch_size = config.train.epochs, config.train.batch_size
        train = replace(method.train, epochs=epochs, batch_size=batch_size)
        return replace(method, train=train)

    return configure


def own_method(*, images: bool) -> str:
    """The method that a run is about: without any images, generated or real, its captions side."""
    return "t2i-pal" if images else "t2i-pal/captions"


@dataclass(frozen=True, eq=False)
class RealItems:
    """Labelled real images as items to train on, and how they were chosen, in words."""

    items: ItemSet
    summary: str

    @classmethod
    def of(
        cls, bench: Workbench, real: RealImages | None, test: ItemSet | None, say: Say
    ) -> RealItems | None:
        """Features of real images, or None if there are none.

        Raises:
            UserError: one of them is a test image.
        """
        if real is None:
            return None
        items = bench.labelled(real.images)
        if test is not None:
            _refuse_test_images(items, test)
        say(f"real images: {real.summary}")
        return cls(items, real.summary)


def refuse_one_class(vocabulary: Vocabulary) -> None:
    """Training orders the classes of an image, which takes two.

    Raises:
        UserError: there is one.
    """
    if len(vocabulary) == 1:
        raise UserError(
            f"{vocabulary.names[0]!r} is the only class, and training tells classes from each "
            "other: add one or more that it is easily confused with, or that stand beside it."
        )


def _refuse_test_images(real: ItemSet, test: ItemSet) -> None:
    """Raise a UserError if an image to train on is a test image, whatever its file is called.

    The feature cache gives the same bytes to the same image.
    """
    tested = {row.tobytes() for row in test.global_.numpy()}
    shared = sum(row.tobytes() in tested for row in real.global_.numpy())
    if shared:
        raise UserError(
            f"{shared} of the {len(real)} real images to train on are test images too, so the "
            "figures would say nothing: give other images to --real-images or to --data."
        )


def fit_tagger(
    bench: Workbench,
    method: MethodConfig,
    seed: int,
    *,
    real: RealItems | None = None,
    alone: bool = False,
    test: ItemSet | None = None,
    metrics: Path | None = None,
) -> Tagger:
    """Fit one method as :meth:`Workbench.fit` does, with thresholds from the held-out items.

    ``tagger.about`` says how it was made; its ``held_out_map`` is in per cent.

    Args:
        metrics: JSONL file to write the figures of each epoch to, while it is fitted.
    """
    history: list[dict[str, Any]] = []
    items = real.items if real is not None else None

    def note(figures: dict[str, Any]) -> None:
        history.append(figures)
        if metrics is not None:
            write_jsonl(metrics, history)

    head, result = bench.fit(method, seed, real=items, alone=alone, test=test, log=note)
    about: dict[str, Any] = {"method": method.name, "seed": seed, "versions": versions()}
    if bench.backbone.made_for is not None:
        about["made_for"] = dict(bench.backbone.made_for)
    about["real_images"] = real.summary if real is not None else 0
    if result is not None and result.valid_map is not None:
        about["held_out_map"] = round(100 * result.valid_map, 1)
        about["epoch"] = result.best_epoch
    thresholds = bench.thresholds(head)
    return Tagger(ClipModel(bench.backbone, head, bench.crops), bench.vocabulary, thresholds, about)


def class_figures(bench: Workbench, tagger: Tagger, patience: int) -> dict[str, dict[str, Any]]:
    """How well each class is recognised on held-out items, and whether its images show it.

    Returns:
        Class -> what :func:`t2ipal.tagger.scoring.held_out_figures` gives, and in how many of
        its generated ``images`` it is ``found`` (:func:`t2ipal.method.verification.doubtful`).
    """
    scores = tagger.clip.head.score_items(bench.valid).cpu().numpy()
    figures = held_out_figures(
        tagger.names, scores, tagger.thresholds.probabilities(scores), bench.valid.targets.numpy()
    )
    found, images = bench.found(patience)
    return {
        name: {**figures[name], "found": found[c], "images": images[c]}
        for c, name in enumerate(tagger.names)
    }


@locking
def train(
    classes: Vocabulary | str | Path,
    captions: str | Path,
    images: str | Path | None,
    out: str | Path,
    *,
    method: str | None = None,
    features: str | Path | None = None,
    config: RunConfig | None = None,
    say: Say = log.info,
    progress: bool = True,
) -> Tagger:
    """Train one method on labelled captions and the images generated from them, and save it.

    Labelled real images that ``config`` names (``real_images``, ``shots``, ``label_fraction``) are
    trained on too. The epoch is chosen, and thresholds are fitted, on held-out generated images (or
    captions) all the same: a few real ones are worth more as training images than as a small test.

    Args:
        classes: vocabulary, its name, or its file.
        captions: labelled captions, as ``t2ipal label`` writes them.
        images: folder of a generated set (``images.jsonl`` and ``images/``); None for no images.
        out: model folder to write.
        method: t2i-pal if omitted, or t2i-pal/captions without images.
        features: folder of the feature cache; ``images``/features if omitted, or beside the
            captions.
        config: settings of CLIP, head, training, real images, seed, device; the defaults if
            omitted. Its test images (``data``) are read by a method that chooses its epoch by them.
        say: told how many real images were taken.

    Raises:
        UserError: bad input, a class with fewer real images than shots, nothing to train on, or
            real images among the test images by which the method chooses its epoch.
    """
    config = config or RunConfig()
    vocabulary = Vocabulary.load(classes)
    refuse_one_class(vocabulary)
    if method is None:
        method = own_method(images=not (images is None and config.real_images is None))
    chosen = methods_of(config)(method)
    if chosen.train is None and config.real_images is not None:
        raise UserError(
            f"method {method!r} is not trained, so real images would change nothing: leave "
            "--real-images out, or choose a method that is."
        )
    folder = Path(captions).parent if images is None else Path(images)
    broken, scenes = Broken.of(config), folder / SCENES
    real = read_real_images(config, vocabulary, scenes, broken)
    test = None
    if chosen.best_on_test and config.data is not None:
        test = read_labelled_images(
            config.data, vocabulary, images=config.data_folder, cache=scenes, broken=broken
        ).readable(broken)
    for line in (*(real.read if real else ()), *(test.lines() if test else ())):
        say(line)
    labelled = read_labelled(captions)
    hold_out(labelled, vocabulary)  # refuses too few, before CLIP is loaded
    backbone = Backbone.load(config, pool_positions=chosen.pool_positions)
    bench = Workbench(
        vocabulary,
        backbone,
        features or folder / "features",
        labelled,
        () if images is None else read_manifest(folder),
        folder,
        crops=config.crops,
        broken=broken,
        progress=progress,
    )
    tested = None if test is None else bench.labelled(test, test=True)
    items = RealItems.of(bench, real, tested, say)
    for line in broken.write(bench.cache.folder):
        say(line)
    tagger = fit_tagger(bench, chosen, config.seed, real=items, test=tested)
    tagger.about["captions"] = Path(captions).name
    tagger.about["generated_images"] = bench.generated_images
    tagger.about["classes"] = class_figures(bench, tagger, config.patience)
    tagger.save_pretrained(out)
    return tagger


def versions() -> dict[str, str]:
    """Versions of what decides the numbers."""
    names = ("t2ipal", "torch", "open_clip_torch", "diffusers", "transformers")
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"python": sys.version.split()[0], **found}


def hardware() -> dict[str, Any]:
    """What it ran on."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.system(),
        "gpus": gpus,
    }
