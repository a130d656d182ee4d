"""From class names to what a head starts with: token embeddings, or a fixed prompt ensemble."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache

import torch
from open_clip import OPENAI_IMAGENET_TEMPLATES
from torch import Tensor
from torch.nn import functional as F

from t2ipal.clip.backbone import Backbone
from t2ipal.errors import listed
from t2ipal.files.class_words import plain
from t2ipal.method.head_config import ClassNames
from t2ipal.method.prompts import ClassTokens
from t2ipal.vocabulary import Vocabulary

log = logging.getLogger(__name__)

_START_PHRASE = "a photo of a"

# Plain, scene-like and counted wordings; their mean embedding is the zero-shot class embedding
# (prompt ensembling: Radford et al., ICML 2021, section 3.1.4).
TEMPLATES = (
    "a photo of a {}.",
    "a picture of a {}.",
    "an image of a {}.",
    "there is a {} in the scene.",
    "a small {}.",
    "a large {}.",
    "a photo of one {}.",
    "a {} and other things.",
)

IMAGENET_TEMPLATES = tuple(fill("{}") for fill in OPENAI_IMAGENET_TEMPLATES)
"""The 80 templates that CLIP was evaluated with on ImageNet, each with one ``{}`` for the name."""


def class_ensemble(
    backbone: Backbone, vocabulary: Vocabulary, templates: Sequence[str] = TEMPLATES
) -> Tensor:
    """Zero-shot class embeddings [C, D]: the normalised mean of the normalised templates."""
    _warn_of_unmet(backbone.spec, vocabulary.readable)
    means = []
    for name in vocabulary.readable:  # one class at a time, as templates may be many
        texts = [form.format(name) for form in templates]
        means.append(F.normalize(backbone.encode_text(texts).global_, dim=-1).mean(0))
    return F.normalize(torch.stack(means), dim=-1)


@lru_cache(maxsize=32)  # once for each set of classes
def _warn_of_unmet(spec: str, names: tuple[str, ...]) -> None:
    """Say which class names the packaged photo CLIP never met in a picture."""
    if spec != "photo":
        return
    from t2ipal.clip.photo_clip import unmet

    if strange := unmet(names):
        log.warning(
            "--clip photo never saw a picture of %s; what it finds for such classes is a guess. "
            "Use a common word for the class, or a larger CLIP.",
            listed(strange),
        )


def _class_words(vocabulary: Vocabulary, form: ClassNames = "readable") -> tuple[str, ...]:
    """The class names as prompts write them: in plain English, or as the benchmark does."""
    if form == "readable":
        return vocabulary.readable
    return tuple(plain(name) for name in vocabulary.names)


def template_captions(vocabulary: Vocabulary, form: ClassNames) -> list[tuple[str, int]]:
    """Captions made of nothing but a class name, each with the number of its class.

    TaI-DPT (Guo et al., CVPR 2023; its datasets/) trains on them beside the captions of a file:
    nine copies of "a photo of a X." and CLIP's 80 templates for every class.
    """
    words = _class_words(vocabulary, form)
    templates = ["a photo of a {}."] * 9 + [*IMAGENET_TEMPLATES]
    return [
        (template.format(word), index) for index, word in enumerate(words) for template in templates
    ]


def class_tokens(
    backbone: Backbone,
    vocabulary: Vocabulary,
    phrase: str = _START_PHRASE,
    form: ClassNames = "readable",
) -> ClassTokens:
    """Token embeddings of every class name and of the start phrase, and the tower's limit."""
    tokens = backbone.tokenize([*(f"{word}." for word in _class_words(vocabulary, form)), phrase])
    ends = backbone.eos_positions(tokens).tolist()
    embedded = backbone.embed_tokens(tokens)  # [C + 1, T, Wt]
    first = int(backbone.has_start)
    names = [row[first:end] for row, end in zip(embedded[:-1], ends[:-1], strict=True)]
    init = embedded[-1, first : ends[-1]]
    sos = embedded[0, 0] if backbone.has_start else None
    return ClassTokens(sos, names, embedded[0, ends[0]], init, backbone.context_length)
