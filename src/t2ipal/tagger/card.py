"""A tagger as others meet it: its model card, filled in from itself, and the Hugging Face hub."""

from __future__ import annotations

import html
import re
import tempfile
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2ipal.errors import UserError
from t2ipal.files.hub import hub_failures
from t2ipal.tagger.onnx_model import OnnxModel

if TYPE_CHECKING:
    from t2ipal.tagger.tagger import Tagger

_FIGURES = ("mAP", "CF1", "OF1")
_ELSEWHERE = (  # in the card
    "scores", "versions", "classes", "limits", "packaged", "made_for", "calibration",
)  # fmt: skip
_READABLE = {
    "held_out_map": "mAP on held-out images, percent",
    "onnx": "ONNX",
    "epoch": "epoch kept, by held-out mAP",
}


CALIBRATED_ON_CAPTIONS = (
    "Thresholds and probabilities were fitted on held-out captions, not on images: they order "
    "tags, but their level says nothing about photos, so that far too many or too few tags may be "
    "given. Take the N best with --top N, and measure the model on labelled photos."
)


def photos_used(about: dict[str, Any]) -> str:
    """The sentence about annotated photos that card and report share."""
    if found := about.get("calibration"):
        return (
            f"Thresholds and probabilities were calibrated on {found['images']} labelled images "
            f"({found['on']})."
        )
    if about.get("calibrated_on"):
        return f"Labelled photos ({about['calibrated_on']}) chose the method and the thresholds."
    if about.get("real_images"):
        return "Labelled real images were trained on too."
    return "No annotated photo was used."


def weak_classes(about: dict[str, Any]) -> list[str]:
    """A sentence per class that the model hardly knows, as far as generated images can tell."""
    lines = []
    for name, found in about.get("classes", {}).items():
        if found["AP"] is None:
            lines.append(f"weak: {name}: no held-out item shows it, so it was not measured")
        elif found["AP"] <= found["chance"]:
            lines.append(
                f"weak: {name}: AP {100 * found['AP']:.1f} on held-out items, which a random "
                f"order reaches as well ({100 * found['chance']:.1f}); more captions may help"
            )
        if 2 * found["found"] < found["images"]:
            lines.append(
                f"weak: {name}: CLIP finds it in {found['found']} of the {found['images']} images "
                "generated for it: CLIP or the generator does not know it, or not by this name"
            )
    return lines


def plain_markdown(text: object) -> str:
    """Text as Markdown that shows it and does nothing else, on one line."""
    shown = html.escape(" ".join(str(text).split()), quote=False)
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", shown)


def _code(text: object) -> str:
    """Text to stand between backticks."""
    return " ".join(str(text).replace("`", "'").split())


def model_card(tagger: Tagger) -> str:
    """The card as Markdown, with the metadata that the Hugging Face hub reads at its head.

    It states what is known and leaves out what is not: a model without ``about["scores"]`` has no
    figure in its card. These are fractions in [0, 1] under ``source``, ``images``, ``mAP``,
    ``CF1``, ``OF1``, ``interval`` (ends of mAP's 95 % interval) and, per class,
    ``classes: {name: {"AP": fraction or None}}``, as
    :meth:`Evaluation.to_json` gives them; all but ``source`` and ``mAP`` may be absent.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    from t2ipal.clip.load import PACKAGED, hub_repository

    about = tagger.about
    scores: dict[str, Any] = about.get("scores") or {}
    figures = {key: scores[key] for key in _FIGURES if scores.get(key) is not None}
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type="images",
            dataset_name=scores["source"],
            metric_type=key,
            metric_value=round(100 * value, 1),
        )
        for key, value in figures.items()
    ]
    spec = tagger.clip.backbone.spec
    data = ModelCardData(
        license=about.get("license"),
        base_model=hub_repository(spec),
        library_name="t2ipal",
        pipeline_tag="image-classification",
        tags=["multi-label", "clip", "t2i-pal"],
        model_name=f"{tagger.vocabulary.title} tagger" if results else None,
        eval_results=results or None,
    )
    per_class: dict[str, dict[str, Any]] = scores.get("classes", {})
    limits = [
        f"{limit:.2f}" + " (not calibrated)" * (not calibrated)
        for limit, calibrated in zip(
            tagger.thresholds.thresholds, tagger.thresholds.calibrated, strict=True
        )
    ]
    card: ModelCard = ModelCard.from_template(
        data,
        template_str=resources.files("t2ipal").joinpath("tagger", "card.md.j2").read_text("utf-8"),
        tagger=tagger,
        classes=[
            (item, limit, per_class.get(item.name, {}).get("AP"))
            for item, limit in zip(tagger.vocabulary.classes, limits, strict=True)
        ],
        measured=bool(per_class),
        figures=figures,
        scores=scores,
        made={
            _READABLE.get(key, key.replace("_", " ")): value
            for key, value in about.items()
            if key not in _ELSEWHERE and value not in (None, "")
        },
        versions=about.get("versions", {}),
        about=about,
        name="tagger.onnx"
        if "onnx" in about
        else about.get("packaged") or about.get("repository", "PATH"),
        interval=scores.get("interval"),
        photos=photos_used(about),
        plain=plain_markdown,
        code=_code,
        stands_for=PACKAGED.get(spec),
        weak=weak_classes(about),
        calibrated_on_captions=CALIBRATED_ON_CAPTIONS,
    )
    return str(card)


def push(
    tagger: Tagger,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    license: str | None = None,
) -> str:
    """As :meth:`t2ipal.Tagger.push_to_hub`."""
    from huggingface_hub import HfApi

    from t2ipal.clip.load import PACKAGED
    from t2ipal.tagger.tagger import Tagger

    if isinstance(tagger.model, OnnxModel):
        raise UserError(f"{repo_id}: push the model folder that this tagger was made from.")
    spec = tagger.clip.backbone.spec
    places = [place for place in (spec, spec.partition(":")[2]) if place]
    if spec not in PACKAGED and any(Path(place).exists() for place in places):
        raise UserError(
            f"{repo_id}: the tagger stands on the CLIP in {spec}, which nobody else has; put that "
            "on the hub first, and train with --clip hf-hub:ORG/NAME."
        )
    told = {"repository": repo_id, "license": license or tagger.about.get("license")}
    about = _without_paths(tagger.about) | {key: text for key, text in told.items() if text}
    published = Tagger(tagger.model, tagger.vocabulary, tagger.thresholds, about)
    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder, hub_failures(repo_id, repo_id, revision):
        published.save_pretrained(folder)
        repo = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision is not None:
            api.create_branch(repo, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            revision=revision,
            commit_message=f"Tagger of {len(tagger.names)} classes",
        )
    return str(commit.commit_url)


def _without_paths(value: Any) -> Any:
    """The same without folders of this machine: of absolute paths the last part alone."""
    if isinstance(value, dict):
        return {key: _without_paths(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_paths(one) for one in value]
    if isinstance(value, str) and "://" not in value:
        path = Path(value.partition(":")[2] or value)
        return path.name if path.is_absolute() else value
    return value
