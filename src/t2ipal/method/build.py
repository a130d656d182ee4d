"""A head from class names and a text tower, or from class embeddings."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from t2ipal.errors import UserError
from t2ipal.method.dual import HEADS
from t2ipal.method.head import T2IPALHead
from t2ipal.method.head_config import HeadConfig
from t2ipal.method.prompts import (
    ClassEmbeddings,
    ClassTokens,
    FixedPrompts,
    LearnedPrompts,
    TextEncoder,
)


def build_head(
    config: HeadConfig,
    names: Sequence[str],
    *,
    tokens: ClassTokens | None = None,
    text_encoder: TextEncoder | None = None,
    class_embeddings: Tensor | None = None,
    seed: int = 0,
) -> T2IPALHead:
    """A head at its start, its image-space parts still to be started.

    Args:
        config: what it is made of.
        names: C class names.
        tokens, text_encoder: for learned prompts.
        class_embeddings: [C, D] for fixed prompts, a prompt ensemble say; normalised here and used
            in both branches.
        seed: of the context vectors that start at random.

    Raises:
        ValueError: what the kind of prompts needs is missing or of another number of classes.
        UserError: there is no class, the start phrase has more tokens than the context, or a prompt
            more than the text tower takes.
    """
    if config.prompts.kind != "fixed":
        if tokens is None or text_encoder is None:
            raise ValueError("learned prompts need class tokens and a text encoder")
        if len(tokens.names) != len(names):
            raise ValueError(f"tokens of {len(tokens.names)} classes for {len(names)} names")
        _refuse_long_prompts(config.prompts.context_tokens, tokens, names)
        prompts = LearnedPrompts.start(config.prompts, tokens, text_encoder, seed)
        return HEADS[config.prompts.kind](config, names, prompts)
    if class_embeddings is None or class_embeddings.ndim != 2:
        raise ValueError("fixed prompts need class embeddings [C, D]")
    if len(class_embeddings) != len(names):
        raise ValueError(f"embeddings of {len(class_embeddings)} classes for {len(names)} names")
    unit = F.normalize(class_embeddings.detach().float(), dim=-1)
    return HEADS["fixed"](config, names, FixedPrompts(ClassEmbeddings(unit, unit)))


def _refuse_long_prompts(context_tokens: int, tokens: ClassTokens, names: Sequence[str]) -> None:
    for name, words in zip(names, tokens.names, strict=True):
        length = 1 + context_tokens + len(words) + 1
        if tokens.limit is not None and length > tokens.limit:
            raise UserError(
                f"the prompt of class {name!r} has {length} tokens but the text tower takes "
                f"{tokens.limit}: lower prompts.context_tokens, now {context_tokens}, or give the "
                "class a shorter readable name."
            )
