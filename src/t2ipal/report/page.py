"""One HTML page of a run: figures, drawings, tagged scenes. Self-contained, without scripts."""

from __future__ import annotations

import math
from pathlib import Path

from t2ipal.files import write_text
from t2ipal.report.content import (
    ClassCount,
    DrawnCaption,
    MethodResult,
    Prediction,
    ReportContent,
    TaggedScene,
    mean,
)
from t2ipal.report.html import (
    MISSING,
    bar,
    chip,
    chips,
    over_seeds,
    percent,
    picture,
    section,
    signed,
    text,
)
from t2ipal.report.overlay import heat_overlay
from t2ipal.report.style import CSS

_GROUP_TITLES = {"method": "", "ablation": "Ablations", "ceiling": "Ceiling"}
_MOST_SERIES = 4  # methods marked beside the focus in the chart of classes


def build_report(path: str | Path, content: ReportContent) -> None:
    """Write ``content`` as one HTML file that needs nothing from outside, whole or not at all."""
    write_text(path, render(content))


def render(content: ReportContent) -> str:
    """The page as text: valid HTML5, every image inlined, the same for the same content."""
    parts = [
        _header(content),
        _warnings(content.warnings),
        _methods(content),
        _class_chart(content),
        _captions(content.captions),
        _scenes(content.scenes),
        _gap(content),
        _counts(content.counts),
        _made(content.made),
    ]
    body = "\n".join(part for part in parts if part)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(content.title)}</title>\n<style>{CSS}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n"
        "<footer>Written by t2ipal.</footer>\n</main>\n</body>\n</html>\n"
    )


def _header(content: ReportContent) -> str:
    summary = f'<p class="summary">{text(content.summary)}</p>' if content.summary else ""
    facts = "".join(
        f"<div><dt>{text(what)}</dt><dd>{text(figure)}</dd></div>" for figure, what in content.facts
    )
    return (
        f"<header>\n<h1>{text(content.title)}</h1>\n{summary}\n"
        + (f'<dl class="facts">{facts}</dl>\n' if facts else "")
        + f"<pre><code>{text(content.command)}</code></pre>\n</header>"
    )


def _warnings(warnings: tuple[str, ...]) -> str:
    if not warnings:
        return ""
    items = "".join(f"<li>{text(warning)}</li>" for warning in warnings)
    return f'<aside class="warnings" aria-label="Warnings"><ul>{items}</ul></aside>'


def _methods(content: ReportContent) -> str:
    if not content.methods:
        return ""
    focus = content.focus_method
    bodies = []
    for group, title in _GROUP_TITLES.items():
        rows = [_method_row(m, focus) for m in content.methods if m.group == group]
        if rows and title:
            rows.insert(0, f'<tr class="group"><th colspan="6" scope="rowgroup">{title}</th></tr>')
        if rows:
            bodies.append("<tbody>" + "\n".join(rows) + "</tbody>")
    seeds = max(len(method.mean_ap) for method in content.methods)
    lead = "Mean average precision, and F1 with the three best classes of every image as its tags"
    lead += f", in percent, on {text(content.tested_on)}." if content.tested_on else ", in percent."
    if seeds > 1:
        lead += f" Mean ± standard deviation over {seeds} seeds."
    against = f"against {text(focus.name)}" if focus else ""
    table = (
        '<div class="scroll"><table>\n<thead><tr><th scope="col">Method</th>'
        '<th class="meter"></th><th scope="col">mAP</th>'
        f'<th scope="col">{against}</th><th scope="col">CF1</th><th scope="col">OF1</th></tr>'
        "</thead>\n" + "\n".join(bodies) + "\n</table></div>"
    )
    return section("Methods", table, lead)


def _method_row(method: MethodResult, focus: MethodResult | None) -> str:
    figure = mean(method.mean_ap)
    note = f"<small>{text(method.note)}</small>" if method.note else ""
    is_focus = method is focus
    apart = "" if focus is None or is_focus else signed(figure - mean(focus.mean_ap))
    seeds = ", ".join(percent(value) for value in method.mean_ap)
    return (
        f'<tr class="{"focus" if is_focus else "other"}">'
        f'<td class="name"><span>{text(method.name)}</span>{note}</td>'
        f'<td class="meter">{bar(figure, f"{method.name}: mAP {percent(figure)}")}</td>'
        f'<td class="figure" title="by seed: {seeds}">{over_seeds(method.mean_ap)}</td>'
        f'<td class="figure">{apart}</td>'
        f'<td class="figure">{percent(mean(method.cf1))}</td>'
        f'<td class="figure">{percent(mean(method.of1))}</td></tr>'
    )


def _class_chart(content: ReportContent) -> str:
    focus = content.focus_method
    if focus is None or not focus.class_ap:
        return ""
    others = [
        method
        for method in content.methods
        if method.group == "method" and method is not focus and method.class_ap
    ][:_MOST_SERIES]
    legend = (
        '<span><svg aria-hidden="true"><rect class="swatch" y="1" width="12" height="10" rx="3"/>'
        f"</svg>{text(focus.name)}</span>"
    ) + "".join(
        f'<span><svg aria-hidden="true"><circle class="s{series}" cx="6" cy="6" r="4"/></svg>'
        f"{text(method.name)}</span>"
        for series, method in enumerate(others, start=1)
    )
    best_first = sorted(
        range(len(content.classes)),
        key=lambda c: -1.0 if math.isnan(focus.class_ap[c]) else focus.class_ap[c],
        reverse=True,
    )
    rows = []
    for c in best_first:
        name, value = content.classes[c], focus.class_ap[c]
        said = ", ".join(f"{m.name} {percent(m.class_ap[c])}" for m in (focus, *others))
        dots = [(m.class_ap[c], series) for series, m in enumerate(others, start=1)]
        rows.append(
            f'<div title="{text(said)}"><span class="key">{text(name)}</span>'
            f"{bar(value, f'{name}: {said}', dots)}"
            f'<span class="value">{percent(value)}</span></div>'
        )
    lead = "In percent, best first."
    if any(math.isnan(value) for value in focus.class_ap):
        lead += f" {MISSING}: no test image shows the class, so mAP leaves it out."
    body = (
        f'<div class="legend">{legend}</div>\n<div class="bars">\n' + "\n".join(rows) + "\n</div>"
    )
    return section("Average precision of each class", body, lead)


def _captions(captions: tuple[DrawnCaption, ...]) -> str:
    if not captions:
        return ""
    lead = (
        f"What the generator drew. {chip('class')} labels taken from the caption; "
        f"{chip('class', 'unknown')} a word that may or may not name the class, left out of every "
        "loss."
    )
    cards = "\n".join(map(_caption_card, captions))
    return section("Captions and their drawings", f'<div class="grid">\n{cards}\n</div>', lead)


def _caption_card(drawn: DrawnCaption) -> str:
    images = "".join(picture(image, drawn.caption) for image in drawn.images)
    across = 1 if len(drawn.images) <= 1 else math.ceil(math.sqrt(len(drawn.images)))
    labels = chips(
        [chip(label) for label in drawn.labels]
        + [chip(label, "unknown", "unknown") for label in drawn.unknown]
    )
    rejected = f'<p class="note">{drawn.rejected} rejected</p>' if drawn.rejected else ""
    return (
        f'<article class="card"><div class="gallery" style="--across: {across}">{images}</div>'
        f'<div class="words"><p>{text(drawn.caption)}</p>{labels}{rejected}</div></article>'
    )


def _scenes(scenes: tuple[TaggedScene, ...]) -> str:
    if not scenes:
        return ""
    lead = (
        "Predicted tags with their scores, and where the heatmap of a class finds it. "
        f"{chip('class', 'hit')} right, {chip('class', 'wrong')} wrong, "
        f"{chip('class', 'missed')} missed, {chip('class', 'unknown')} truth unknown, "
        f"{chip('class', 'below')} scored, but not given as a tag."
    )
    cards = "\n".join(map(_scene_card, scenes))
    return section("Test scenes", f'<div class="grid wide">\n{cards}\n</div>', lead)


def _scene_card(scene: TaggedScene) -> str:
    figures = [_figure(picture(scene.image, "shows " + ", ".join(scene.true)), "image")]
    for prediction in scene.predictions:
        if prediction.heat is not None:
            overlay = heat_overlay(scene.image, prediction.heat)
            alt = f"heatmap of {prediction.name}"
            figures.append(_figure(picture(overlay, alt), prediction.name))
    tagged = {prediction.name for prediction in scene.predictions if prediction.chosen}
    true = [
        chip(name) if name in tagged else chip(name, "missed", "missed") for name in scene.true
    ] + [chip(name, "unknown", "unknown") for name in scene.unknown]
    given = [_prediction_chip(prediction, scene) for prediction in scene.predictions]
    return (
        f'<article class="card"><div class="strip">{"".join(figures)}</div><div class="words">'
        f'<dl class="tags"><dt>shows</dt><dd>{chips(true) or MISSING}</dd>'
        f"<dt>predicted</dt><dd>{chips(given) or MISSING}</dd></dl></div></article>"
    )


def _figure(image: str, caption: str) -> str:
    return f"<figure>{image}<figcaption>{text(caption)}</figcaption></figure>"


def _prediction_chip(prediction: Prediction, scene: TaggedScene) -> str:
    label = f"{prediction.name} {prediction.score:.2f}"
    if not prediction.chosen:
        return chip(label, "below", "not given as a tag")
    if prediction.name in scene.unknown:
        return chip(label, "unknown", "truth unknown")
    if prediction.name in scene.true:
        return chip(label, "hit", "right")
    return chip(label, "wrong", "wrong")


def _gap(content: ReportContent) -> str:
    if content.gap is None:
        return ""
    rows = "\n".join(
        f"<tr><td>{text(pair.first)} – {text(pair.second)}</td>"  # noqa: RUF001
        f'<td class="figure">{pair.distance:.3f}</td>'
        f'<td class="figure">{percent(pair.probe_accuracy)}</td></tr>'
        for pair in content.gap.pairs
    )
    table = (
        '<div class="scroll"><table>\n<thead><tr><th scope="col">Between</th>'
        '<th scope="col">distance of centroids</th><th scope="col">told apart, %</th></tr></thead>'
        f"\n<tbody>{rows}</tbody>\n</table></div>"
    )
    lead = (
        "Distance of the centroids of normalised features, and how often a linear probe tells the "
        "two kinds apart (50 is chance). The smaller, the closer."
    )
    return section("Modality gap", table, lead)


def _counts(counts: tuple[ClassCount, ...]) -> str:
    if not counts:
        return ""
    most = max(1, *(max(count.captions, count.images) for count in counts))
    rows = []
    for count in sorted(counts, key=lambda count: -count.captions):
        said = f"{count.captions:,} captions, {count.images:,} images"
        absent = "" if count.captions else " none"
        rows.append(
            f'<div title="{text(said)}"><span class="key{absent}">{text(count.name)}</span>'
            f"{bar(count.captions / most, f'{count.name}: {said}', [(count.images / most, 2)])}"
            f'<span class="value{absent}">{count.captions:,} · {count.images:,}</span></div>'
        )
    legend = (
        '<div class="legend"><span><svg aria-hidden="true">'
        '<rect class="swatch" y="1" width="12" height="10" rx="3"/></svg>captions</span>'
        '<span><svg aria-hidden="true"><circle class="s2" cx="6" cy="6" r="4"/></svg>'
        "images</span></div>"
    )
    body = f'{legend}\n<div class="bars counts">\n' + "\n".join(rows) + "\n</div>"
    return section("Labels", body, "Captions that name a class, and images drawn from them.")


def _made(made: tuple[tuple[str, str], ...]) -> str:
    if not made:
        return ""
    rows = "".join(f"<dt>{text(key)}</dt><dd>{text(value)}</dd>" for key, value in made)
    return section("How it was made", f'<dl class="made">{rows}</dl>')
