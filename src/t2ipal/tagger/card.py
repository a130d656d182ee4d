"""The model card: a saved tagger's README.md, written from its own configuration."""

from __future__ import annotations

from typing import Any

from t2ipal.vocabulary import Vocabulary


def photos_used(real_images: bool) -> str:
    """The sentence about annotated photos that card and report share."""
    if real_images:
        return "Labelled real images were trained on too."
    return "No annotated photo was used."


def model_card(config: dict[str, Any]) -> str:
    """Markdown for the configuration that ``Tagger.save_pretrained`` writes.

    The card states what is known and leaves out what is not: a model saved without measurements
    has no figure in its card.
    """
    about: dict[str, Any] = config["about"]
    vocabulary = Vocabulary.from_dict(config["vocabulary"], "config.json")
    classes = vocabulary.readable
    photos = photos_used(bool(about.get("real_images")))
    lines = [
        "---",
        "library_name: t2ipal",
        "pipeline_tag: image-classification",
        "tags: [multi-label, clip, t2i-pal]",
        "---",
        "",
        f"# Multi-label tagger: {vocabulary.title}",
        "",
        f"Tags images with {len(classes)} classes: {', '.join(classes)}.",
        "",
        f"A head tuned on a frozen CLIP (`{config['backbone']['spec']}`, images of "
        f"{config['backbone']['image_size']} pixels). This folder holds the tuned tensors alone; "
        "CLIP is loaded by name.",
        "",
        "```python",
        "from t2ipal import Tagger",
        "",
        'Tagger.from_pretrained("THIS FOLDER").predict("photo.jpg")  # {class: probability}',
        "```",
        "",
        "## How it was made",
        "",
    ]
    lines += [f"- {key}: {value}" for key, value in about.items() if key != "scores"]
    lines += [
        "",
        f"{photos} Images were drawn by a text-to-image model from captions, "
        "and their labels read from the captions. Probabilities and thresholds are calibrated on "
        "held-out drawn images, not on photos.",
    ]
    scores: dict[str, Any] | None = about.get("scores")
    if scores:
        lines += [
            "",
            f"## Measured on {scores['source']} ({scores['images']} images)",
            "",
            f"mAP {100 * scores['mAP']:.1f}, CF1 {100 * scores['CF1']:.1f}, "
            f"OF1 {100 * scores['OF1']:.1f} (F1 at {scores['rule']}).",
            "",
            "| class | AP | threshold |",
            "| --- | ---: | ---: |",
        ]
        for name, row in scores["classes"].items():
            shown = "-" if row["AP"] is None else f"{100 * row['AP']:.1f}"
            lines.append(f"| {name} | {shown} | {config['thresholds'][name]['threshold']:.3f} |")
    lines += [
        "",
        "Method: T2I-PAL (Feng et al., IEEE TPAMI 2025, arXiv 2506.10575).",
        "",
    ]
    return "\n".join(lines)
