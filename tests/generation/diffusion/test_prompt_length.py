"""Prompts that a pipeline does not read to the end are shortened, counted and said, once."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from t2ipal.captions.labelled import LabelledCaption, label_captions
from t2ipal.generation.diffusion.prompt_length import PromptLength
from t2ipal.generation.diffusion.settings import Settings
from t2ipal.generation.diffusion.text_to_image import TextToImage
from t2ipal.generation.generate import generate
from t2ipal.generation.job import beyond
from t2ipal.generation.store import read_manifest
from t2ipal.parallel.cluster import Cluster, _Outcome, _Worker
from t2ipal.vocabulary import Vocabulary


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
    length = PromptLength(pipe, parameters(default))
    cut = [prompt for prompt in prompts if not length.reads(prompt)]
    assert (len(cut), length.most) == expected and cut == prompts[len(prompts) - len(cut) :]
    for prompt in prompts:
        short = length.shortened(prompt)
        assert length.reads(short) and prompt.startswith(short)
        if short != prompt:  # one word more is too long
            assert not length.reads(" ".join(prompt.split()[: len(short.split()) + 1]))


def test_a_prompt_ends_with_a_word(tiny_generator: TextToImage) -> None:
    """The tiny encoder reads 14 tokens: words of its own (the, a, dog, cat), else letters."""
    assert tiny_generator.shortened("a dog, a cat, a cow, a hen") == "a dog, a cat, a cow, a"
    assert tiny_generator.shortened("the dog,  a  bird, and a cow") == "the dog,  a  bird, and a"
    assert tiny_generator.shortened("a cow, a hen, a cow, a pig") == "a cow, a hen, a"
    assert tiny_generator.shortened("the dog") == "the dog"
    endless = "abcdefghijklmnopqrstuvwxyz"
    assert tiny_generator.shortened(endless) == endless


def test_labels_that_fall_out_become_unknown(
    tmp_path: Path, tiny: Path, tiny_generator: TextToImage
) -> None:
    """The image is that of the shortened caption, and the manifest stays so when it is resumed."""
    texts = [
        "the cat, a dog, a cat, a dog, a bird",
        "the cat, a dog",
        "a dog, a dog, a dog, a dog, a horse",
        "the cat",
    ]
    (tmp_path / "classes.txt").write_text("cat\ndog\nbird\nhorse\n")
    vocabulary = Vocabulary.load(tmp_path / "classes.txt")
    captions = label_captions(texts, vocabulary)
    out = tmp_path / "generated"
    settings = Settings(steps=3, device="cpu")
    for _ in range(2):  # the second time nothing is generated
        generate(captions, str(tiny), out, settings=settings, progress=False)
        rows = read_manifest(out)
        for row, caption in zip(rows, captions, strict=True):
            read = tiny_generator.shortened(caption.caption)
            named = label_captions([read], vocabulary)[0].labels
            assert row.caption == caption.caption and row.labels == caption.labels
            assert set(row.missing) == set(caption.labels) - set(named)
        assert [row.missing for row in rows] == [("bird",), (), ("horse",), ()]
    row = rows[0]
    (alone,) = tiny_generator.generate([tiny_generator.shortened(texts[0])], [row.seed])
    with Image.open(out / row.file) as image:
        assert np.array_equal(np.asarray(image), np.asarray(alone.image))


def test_labels_of_somebody_else_stay() -> None:
    given = LabelledCaption(
        id="1", caption="a dog and a cat", labels=("pet", "cat"), unknown=(), matches={"cat": "cat"}
    )
    assert beyond(given, "a dog") == ("cat",) and beyond(given, given.caption) == ()


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
