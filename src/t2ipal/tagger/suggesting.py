"""Which classes of a tagger are weak, what they are taken for, and what would help."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from t2ipal.metrics.ranking import average_precision, chance_level

_RIVALS = 3  # the classes that most often outscore one
_FEW = 16  # generated images of a class are few: what the adapter's bank takes of each


def held_out_figures(
    names: Sequence[str], scores: np.ndarray, probabilities: np.ndarray, targets: np.ndarray
) -> dict[str, dict[str, Any]]:
    """How well each class is recognised, and what is taken for it.

    Args:
        scores, probabilities: [N, C] of images, or captions, that were not trained on.
        targets: [N, C] in {1, 0, -1}.

    Returns:
        Class -> ``AP`` (None if none shows it), the ``chance`` level below which 95 of 100 random
        orders lie, both in [0, 1]; how many items are ``shown`` to hold it; and ``taken_for``,
        class -> in how many of these, absent, it is more probable than the class itself.
    """
    found: dict[str, dict[str, Any]] = {}
    for c, (name, value) in enumerate(zip(names, average_precision(scores, targets), strict=True)):
        shown = targets[:, c] == 1
        above = (probabilities[shown] > probabilities[shown, c : c + 1]) & (targets[shown] == 0)
        counts = above.sum(axis=0)
        rivals = np.argsort(-counts, kind="stable")[:_RIVALS]
        found[name] = {
            "AP": None if value != value else round(float(value), 4),
            "chance": None if value != value else round(chance_level(targets[:, c]), 4),
            "shown": int(shown.sum()),
            "taken_for": {names[d]: int(counts[d]) for d in rivals if counts[d]},
        }
    return found


def suggestions(
    figures: dict[str, dict[str, Any]], count: int, model: str, run: str | None
) -> list[str]:
    """Lines about the ``count`` weakest classes, the weakest first, with commands that may help.

    Args:
        figures: class -> as :func:`held_out_figures` gives it; of a trained model also in how many
            of its generated ``images`` it is ``found``.
        model: as commands name it.
        run: the options of ``t2ipal run`` that repeat the run of the model; None if unknown.
    """
    order = sorted(figures, key=lambda name: (figures[name]["AP"] or -1.0, name))[:count]
    lines = []
    for name in order:
        own = figures[name]
        if own["AP"] is None:
            lines.append(f"{name}: no held-out item shows it, so it was not measured")
        else:
            level = " (no better than chance)" if own["AP"] <= own["chance"] else ""
            lines.append(
                f"{name}: AP {100 * own['AP']:.1f} on {own['shown']} held-out items{level}"
            )
        if rivals := own.get("taken_for"):
            told = ", ".join(f"{other} in {times}" for other, times in rivals.items())
            lines.append(f"  taken for {told} of {own['shown']}")
        lines += [f"  {line}" for line in _remedies(name, own, model, run)]
    return lines


def _remedies(name: str, own: dict[str, Any], model: str, run: str | None) -> list[str]:
    again = f"t2ipal run {run or '--classes CLASSES --captions CAPTIONS --out NEW'}"
    images, seen = own.get("images"), own.get("found", 0)
    lines = []
    if images and 2 * seen < images:
        lines += [
            f"name: CLIP finds it in {seen} of the {images} images generated for it; give it a "
            "more common readable name in the file of classes:",
            f"    {again} --classes CLASSES.yaml",
        ]
    elif images is not None and images < _FEW:
        lines += [
            f"captions: {images} generated images show it; more captions that name it, alone and "
            "beside others:",
            f"    {again} --captions MORE.txt",
        ]
    elif images is not None:
        lines += ["images: more of each caption:", f"    {again} --images-per-caption 2"]
    if rivals := list(own.get("taken_for", ())):
        lines.append(
            f"captions: some that name {name} without {rivals[0]}, {rivals[0]} without {name}, and "
            "both"
        )
    lines += [
        "photos: labelled ones to train on, or a few to fit its threshold to:",
        f"    {again} --real-images LABELLED --shots 16",
        f"    t2ipal calibrate {model} --data LABELLED",
    ]
    return lines
