"""How much of a prompt a pipeline reads."""

from __future__ import annotations

import bisect
import inspect
import logging
import re
from collections.abc import Collection, Mapping
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


class PromptLength:
    """How many tokens the text encoders of a pipeline read.

    With several encoders (SDXL, SD3, Flux) a prompt is read if one of them reads all of it.

    Attributes:
        most: the most tokens that any encoder reads; 0 if that is unknown.
    """

    def __init__(self, pipe: Any, parameters: Mapping[str, inspect.Parameter]) -> None:
        longest = _most_tokens(parameters)
        self._readers = []
        for name in _TOKENIZERS:
            tokenizer = getattr(pipe, name, None)
            limits = [getattr(tokenizer, "model_max_length", None), longest]
            known = [limit for limit in limits if isinstance(limit, int)]
            if tokenizer is not None and known:
                self._readers.append((tokenizer, min(known)))
        self.most = max((limit for _, limit in self._readers), default=0)

    def reads(self, prompt: str) -> bool:
        """Whether an encoder reads a prompt to its end."""
        return not self._readers or any(
            len(tokenizer(prompt).input_ids) <= limit for tokenizer, limit in self._readers
        )

    def shortened(self, prompt: str) -> str:
        """The prompt up to the last word that an encoder reads; itself if it is read to its end.

        An encoder would cut it in the middle of a word, which then may mean something else.
        """
        if self.reads(prompt):
            return prompt
        ends = [word.end() for word in re.finditer(r"\S+", prompt)]
        fits = bisect.bisect_left(ends, True, key=lambda end: not self.reads(prompt[:end]))
        return prompt[: ends[fits - 1]].rstrip(" ,;:-") if fits else prompt


def warn_of_cut_prompts(cut: Collection[str], most: int, of: int, spec: str) -> None:
    """Warn that ``cut``, of ``of`` captions, exceed the ``most`` tokens that ``spec`` reads."""
    if cut:
        log.warning(
            "%d of %d captions have more than the %d tokens that %s reads; each is shortened at a "
            "word, and labels that only the rest names count as unknown.",
            len(cut), of, most, spec,
        )  # fmt: skip


def _most_tokens(parameters: Mapping[str, inspect.Parameter]) -> int | None:
    default = getattr(parameters.get("max_sequence_length"), "default", None)
    return default if isinstance(default, int) else None
