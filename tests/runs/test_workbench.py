"""What is trained on and what is held out: the same as lists and dicts of the rows would give."""

from __future__ import annotations

import random
from collections import Counter

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from t2ipal.captions.labelled import LabelledCaption
from t2ipal.errors import UserError
from t2ipal.files import sha256_text
from t2ipal.generation.store import ImageRow
from t2ipal.runs.held_out import HELD_OUT, GeneratedImages, NamedCaptions, hold_out
from t2ipal.vocabulary import Vocabulary

NAMES = ["dog", "cat", "bus", "boat"]
VOCABULARY = Vocabulary.of(NAMES)


def random_captions(rng: random.Random, count: int, texts: int) -> list[LabelledCaption]:
    """Captions of which many share a text, and then their labels; some have none."""
    rows, said = [], {}
    for number in range(count):
        text = f"text {rng.randrange(texts)}"
        names = [n for n in NAMES if rng.random() < 0.6]
        unknown = tuple(n for n in names if rng.random() < 0.2)
        labels = tuple(n for n in names if n not in unknown)
        if rng.random() < 0.9:
            labels, unknown = said.setdefault(text, (labels, unknown))
        rows.append(LabelledCaption(f"id{number}", text, labels, unknown, {}))
    return rows


def held_out_by_rows(captions: list[LabelledCaption]) -> set[str]:
    """The ids held out; none if there are too few captions."""

    def leaves_out(row: LabelledCaption) -> bool:
        return len({*row.labels, *row.unknown}) < len(NAMES)

    equal: dict[str, list[LabelledCaption]] = {}
    for row in captions:
        equal.setdefault(row.caption, []).append(row)
    order = sorted(equal, key=lambda text: sha256_text("held-out", text))
    partial = [text for text in order if leaves_out(equal[text][0])]
    wanted = max(1, round(HELD_OUT * len(captions)))
    for candidates, most in ((order, wanted), (partial, 1)):
        held, left = set[str](), Counter(name for row in captions for name in row.labels)
        for text in candidates if len(partial) > 1 else ():
            if len(held) >= most:
                break
            there = Counter(name for row in equal[text] for name in row.labels)
            if all(left[name] > count for name, count in there.items()):
                held.update(row.id for row in equal[text])
                left -= there
        if any(row.id in held and leaves_out(row) for row in captions):
            return held
    return set()


@hypothesis.given(st.integers(0, 10**6), st.integers(0, 60), st.integers(1, 60))
def test_captions_are_held_out_in_the_order_of_their_texts(
    seed: int, count: int, texts: int
) -> None:
    rows = random_captions(random.Random(seed), count, texts)
    expected = held_out_by_rows([row for row in rows if row.labels])
    try:
        held = hold_out(rows, VOCABULARY)
    except UserError:
        assert not expected
        return
    assert {row.id for row, out in zip(rows, held, strict=True) if out} == expected


def image(rng: random.Random, number: int, caption: LabelledCaption) -> ImageRow:
    """A generated image; of some, the caption has been labelled or written anew since."""
    labels, unknown = caption.labels, caption.unknown
    if rng.random() < 0.2:
        labels, unknown = tuple(n for n in NAMES if rng.random() < 0.5), ()
    return ImageRow(
        f"{number:020}", caption.id, 0, caption.caption + " once" * (rng.random() < 0.1), labels,
        unknown, 0, 0, "x", "", {}, f"{number}.png", sha256_text(str(number)), (),
        tuple(n for n in labels if rng.random() < (0.9 if n == "boat" else 0.3)),
        tuple(n for n in NAMES if n not in labels and rng.random() < 0.2), "",
    )  # fmt: skip


def targets_by_rows(images: list[ImageRow]) -> np.ndarray:
    """Labels of images whose rows have their captions' labels."""
    never_seen = {name for row in images for name in row.missing}
    never_seen -= {name for row in images for name in row.seen}
    doubted = [tuple(name for name in row.missing if name not in never_seen) for row in images]
    return np.stack(
        [
            VOCABULARY.targets(
                [name for name in row.labels if name not in missing],
                (*row.unknown, *row.added, *missing),
            )
            for row, missing in zip(images, doubted, strict=True)
        ]
    )


@pytest.mark.parametrize("seed", range(20))
def test_images_have_the_labels_of_their_captions(
    seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    rng = random.Random(seed)
    captions = random_captions(rng, 40, 30)
    by_id = {row.id: row for row in captions if row.labels}
    images = [image(rng, number, rng.choice(captions)) for number in range(60)]
    images.append(image(rng, 60, LabelledCaption("gone", "no caption any more", (), (), {})))
    kept, changed, relabelled = [], 0, 0
    for number, row in enumerate(images):
        caption = by_id.get(row.caption_id)
        if caption is not None and caption.caption == row.caption:
            kept.append((number, row.relabelled(caption.labels, caption.unknown)))
            relabelled += kept[-1][1] is not row
        changed += caption is not None and caption.caption != row.caption

    named = NamedCaptions(captions, VOCABULARY)
    found = GeneratedImages(images, named)
    assert found.rows.tolist() == [number for number, _ in kept]
    assert list(found.hashes) == [row.sha256 for _, row in kept]
    assert [captions[named.rows[at]].id for at in found.captions] == [r.caption_id for _, r in kept]
    order = np.random.default_rng(seed).permutation(len(kept))[: len(kept) // 2]
    chosen = [kept[at][1] for at in order]
    assert np.array_equal(found.targets(order), targets_by_rows(chosen))
    assert (f"{relabelled} images have other labels" in caplog.text) == (relabelled > 0)
    assert (f"{changed} images left out" in caplog.text) == (changed > 0)
