"""How much of a prompt a pipeline reads."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Any

log = logging.getLogger(__name__)

_TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3")


def padded_length(pipe: Any, parameters: Mapping[str, inspect.Parameter]) -> int | None:
    """The tokenizer's own length, if the pipeline would pad beyond it and only lose time.

    Pipelines with several tokenizers (SD3, Flux) mean the longest one, which is not the first.
    """
    if getattr(pipe, "tokenizer_2", None) is not None:
        return None
    longest = _most_tokens(parameters)
    limit = getattr(getattr(pipe, "tokenizer", None), "model_max_length", None)
    if longest is not None and isinstance(limit, int) and limit < longest:
        return limit
    return None


def cut_prompts(
    pipe: Any, parameters: Mapping[str, inspect.Parameter], prompts: Iterable[str]
) -> tuple[list[str], int]:
    """The prompts that no text encoder reads to the end, and the most tokens that any reads.

    With several encoders (SDXL, SD3, Flux) a prompt is read if one of them reads all of it.
    """
    longest = _most_tokens(parameters)
    readers = []
    for name in _TOKENIZERS:
        tokenizer = getattr(pipe, name, None)
        limits = [getattr(tokenizer, "model_max_length", None), longest]
        known = [limit for limit in limits if isinstance(limit, int)]
        if tokenizer is not None and known:
            readers.append((tokenizer, min(known)))
    if not readers:
        return [], 0
    cut = [
        prompt
        for prompt in prompts
        if all(len(tokenizer(prompt).input_ids) > limit for tokenizer, limit in readers)
    ]
    return cut, max(limit for _, limit in readers)


def warn_of_cut_prompts(cut: Collection[str], limit: int, of: int, spec: str) -> None:
    """Warn that ``cut``, of ``of`` captions, exceed the ``limit`` tokens that ``spec`` reads."""
    if cut:
        log.warning(
            "%d of %d captions have more than the %d tokens that %s reads; the rest of each is "
            "ignored.", len(cut), of, limit, spec,
        )  # fmt: skip


def _most_tokens(parameters: Mapping[str, inspect.Parameter]) -> int | None:
    default = getattr(parameters.get("max_sequence_length"), "default", None)
    return default if isinstance(default, int) else None
