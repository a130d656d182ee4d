"""From class names to what a head starts with: token embeddings, or a fixed prompt ensemble."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from t2ipal.clip.backbone import Backbone
from t2ipal.recognizer.prompts import ClassTokens
from t2ipal.vocabulary import Vocabulary

START_PHRASE = "a photo of a"

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


def class_ensemble(backbone: Backbone, vocabulary: Vocabulary) -> Tensor:
    """Zero-shot class embeddings [C, D]: the normalised mean of the normalised templates."""
    texts = [form.format(name) for name in vocabulary.readable for form in TEMPLATES]
    features = F.normalize(backbone.encode_text(texts).global_, dim=-1)
    return F.normalize(features.reshape(len(vocabulary), len(TEMPLATES), -1).mean(1), dim=-1)


def class_tokens(
    backbone: Backbone, vocabulary: Vocabulary, phrase: str = START_PHRASE
) -> ClassTokens:
    """Token embeddings of every class name and of the start phrase, and the tower's limit."""
    tokens = backbone.tokenize([*(f"{name}." for name in vocabulary.readable), phrase])
    ends = backbone.eos_positions(tokens).tolist()
    embedded = backbone.embed_tokens(tokens)  # [C + 1, T, Wt]
    names = [row[1:end] for row, end in zip(embedded[:-1], ends[:-1], strict=True)]
    init = embedded[-1, 1 : ends[-1]]
    limit = backbone.context_length
    return ClassTokens(embedded[0, 0], names, embedded[0, ends[0]], init, limit)


def text_encoder(backbone: Backbone, embeddings: Tensor, eos: Tensor) -> Tensor:
    """The recognizer's text tower: embeddings [B, T, Wt] and ends [B] to features [B, D]."""
    return backbone.encode_text_embeddings(embeddings, torch.as_tensor(eos)).global_
