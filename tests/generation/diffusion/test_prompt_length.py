"""Prompts that a pipeline does not read to the end are counted and said, once."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from t2ipal.generation.diffusion.prompt_length import cut_prompts
from t2ipal.generation.diffusion.settings import Settings
from t2ipal.generation.diffusion.text_to_image import TextToImage
from t2ipal.generation.generate import generate
from t2ipal.parallel.cluster import Cluster, _Outcome, _Worker


class Words:
    """A tokenizer of words, with a start and an end."""

    def __init__(self, limit: int) -> None:
        self.model_max_length = limit

    def __call__(self, prompt: str) -> Any:
        return SimpleNamespace(input_ids=["<s>", *prompt.split(), "</s>"])


def parameters(default: int | None) -> Any:
    return {} if default is None else {"max_sequence_length": SimpleNamespace(default=default)}


@pytest.mark.parametrize(
    ("limits", "default", "expected"),
    [
        ((5,), None, (2, 5)),
        ((6,), None, (1, 6)),
        ((7,), None, (0, 7)),
        ((5, 6), None, (1, 6)),  # the second reads more
        ((5, 100), 6, (1, 6)),  # but the pipeline asks it for 6
        ((100,), 5, (2, 5)),
        ((), 300, (0, 0)),
    ],
)
def test_a_prompt_is_cut_where_no_encoder_reads_it(
    limits: tuple[int, ...], default: int | None, expected: tuple[int, int]
) -> None:
    names = ("tokenizer", "tokenizer_2", "tokenizer_3")
    pipe = SimpleNamespace(**dict(zip(names, map(Words, limits), strict=False)))
    prompts = ["one", "one two three", "one two three four", "one two three four five"]
    cut, limit = cut_prompts(pipe, parameters(default), prompts)
    assert (len(cut), limit) == expected and cut == prompts[len(prompts) - len(cut) :]


class Here(Cluster):
    """A cluster of this very process."""

    def spread(
        self, units: Sequence[Any], make: Callable[[], _Worker], *, gpus: bool
    ) -> Iterator[_Outcome]:
        worker = make()
        for number, unit in enumerate(units):
            result = pickle.loads(pickle.dumps(worker.do(unit)))
            yield _Outcome(number, result, "")


@pytest.mark.parametrize("cluster", [None, Here()], ids=["local", "cluster"])
def test_long_captions_are_said_once_and_the_libraries_are_quiet(
    cluster: Cluster | None,
    tmp_path: Path,
    tiny: Path,
    captions: list[Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    long = [replace(row, caption=row.caption + " and so on" * 9) for row in captions[:3]]
    settings = Settings(steps=1, device="cpu")
    spoken: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            spoken.append(record.getMessage())

    listener = Listener()
    libraries = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    for library in libraries:
        library.addHandler(listener)
    try:
        generate(
            [*long, *captions[3:6]],
            TextToImage.load(str(tiny), settings=settings),
            tmp_path,
            images_per_caption=3,
            batch_size=2,
            cluster=cluster,
            progress=False,
        )
    finally:
        for library in libraries:
            library.removeHandler(listener)
    assert not [line for line in spoken if "truncated" in line or "Token indices" in line]
    found = [r.getMessage() for r in caplog.records if "captions have more than" in r.getMessage()]
    assert len(found) == 1 and found[0].split(" captions")[0].endswith("of 6")
    assert "the 16 tokens" in found[0]
