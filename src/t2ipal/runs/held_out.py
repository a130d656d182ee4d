"""Which of a run's captions and images are held out, and their labels: columns instead of rows."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from t2ipal.captions.labelled import LabelledCaption
from t2ipal.datasets.labelled_images import Labels
from t2ipal.errors import UserError, listed
from t2ipal.files import sha256_text
from t2ipal.files.row_file import KeyIndex, Lazy, Positions
from t2ipal.generation.store import ImageRow
from t2ipal.vocabulary import UNKNOWN, Vocabulary

log = logging.getLogger(__name__)

HELD_OUT = 0.2
_BLOCK = 4096  # rows that are worked on together
_MISSED = 2  # among targets: a label that an inspector did not find


def held_last(held: npt.NDArray[np.bool_]) -> tuple[Positions, int]:
    """An order of all items with those held out behind the others, and how many are not held out.

    Features that are gathered in this order are parted without a copy.
    """
    return np.argsort(held, kind="stable"), int(len(held) - held.sum())


def hold_out(captions: Sequence[LabelledCaption], vocabulary: Vocabulary) -> npt.NDArray[np.bool_]:
    """Which of N captions to hold out, about a fifth of them, the same on every machine.

    Captions of equal text are held out together, with all their images, so that no held-out image
    shares its caption with a training image. They are kept for training if a class would be left
    without a caption. At least one of the held-out captions leaves a class out, without which no
    threshold can be fitted.

    Args:
        captions: those that name no class count nowhere and are not held out.

    Raises:
        UserError: no caption names a class, or too few do.
    """
    named = NamedCaptions(captions, vocabulary)
    held = np.zeros(len(captions), bool)
    held[named.rows] = named.held_out()
    return held


class NamedCaptions:
    """The n captions that name a class, each in some 100 bytes and one for each class.

    Attributes:
        rows: [n] which of all captions they are.
        ids: their positions by id.
        hashes: SHA-256 of their texts in hex.
        said: [n] hashes of their labels and unknown classes.
        targets: int8 [n, C].
    """

    def __init__(self, captions: Sequence[LabelledCaption], vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        rows, said, self._partial = array("q"), array("q"), array("b")
        hashes, order, targets = bytearray(), bytearray(), bytearray()
        self.ids = KeyIndex()
        for number, row in enumerate(captions):
            if row.labels:
                self.ids.add(row.id)
                rows.append(number)
                said.append(hash((row.labels, row.unknown)))
                hashes.extend(_digest(sha256_text(row.caption)))
                order.extend(_digest(sha256_text("held-out", row.caption))[:16])
                labels = vocabulary.targets(row.labels, row.unknown).tobytes()
                targets.extend(labels)
                self._partial.append(0 in labels)  # there is a class that it does not name
        self.rows, self.said = np.asarray(rows), np.asarray(said)
        self.hashes = _hex(hashes)
        self._order = np.frombuffer(order, "S16")
        self.targets = np.frombuffer(targets, np.int8).reshape(-1, len(vocabulary))

    def __len__(self) -> int:
        return len(self.rows)

    def held_out(self) -> npt.NDArray[np.bool_]:
        """Which of them to hold out [n], as :func:`hold_out` says."""
        if not len(self):
            raise UserError(
                "no caption names a class, so there is nothing to train on: "
                "check the classes, add synonyms, or use other captions."
            )
        order = np.argsort(self._order, kind="stable")
        texts = self._order[order]
        starts = np.flatnonzero(np.append(True, texts[1:] != texts[:-1]))
        ends, leaves_out = np.append(starts[1:], len(self)), np.asarray(self._partial) > 0
        partial = np.flatnonzero(leaves_out[order[starts]])
        wanted = max(1, round(HELD_OUT * len(self)))
        for candidates, most in ((np.arange(len(starts)), wanted), (partial, 1)):
            held, count = np.zeros(len(self), bool), 0
            left = np.array([np.count_nonzero(column == 1) for column in self.targets.T])
            for text in candidates if len(partial) > 1 else ():
                if count >= most:
                    break
                rows = order[starts[text] : ends[text]]
                there = (self.targets[rows] == 1).sum(axis=0)
                if (left > there)[there > 0].all():
                    held[rows] = True
                    count += len(rows)
                    left -= there
            if (held & leaves_out).any():
                return held
        counts = (self.targets[order[starts]] == 1).sum(axis=0)
        names = self.vocabulary.names
        if few := [name for name, count in zip(names, counts, strict=True) if count < 2]:
            raise UserError(
                f"too few captions ({len(self)} with a class): 2 of different text are needed of "
                f"{listed(few)}, one to train on and one to hold out; add some, or have more "
                "composed with --compose."
            )
        raise UserError(
            f"too few captions ({len(self)} with a class): 2 of different text must leave a class "
            f"out, one to train on and one for the thresholds, and {len(partial)} does; add such "
            "ones."
        )


class GeneratedImages:
    """The m images of named captions; labels are kept in the captions alone.

    An image whose caption has another text now is left out, which a warning says.

    Attributes:
        rows: [m] which of all images they are.
        captions: [m] which of the named captions each was generated from.
        hashes: SHA-256 of their files in hex.
    """

    def __init__(self, images: Sequence[ImageRow], named: NamedCaptions) -> None:
        self._named = named
        rows, captions, hashes = array("q"), array("q"), bytearray()
        self._doubts = array("q")  # image, class and what becomes of its label, one after another
        number_of = {name: number for number, name in enumerate(named.vocabulary.names)}
        changed, relabelled = 0, 0
        for first in range(0, len(images), _BLOCK):
            block = images[first : first + _BLOCK]
            found = named.ids.find(row.caption_id for row in block).tolist()
            for number, (row, caption) in enumerate(zip(block, found, strict=True), start=first):
                if caption < 0:
                    continue
                if named.hashes[caption] != sha256_text(row.caption):
                    changed += 1
                    continue
                relabelled += int(named.said[caption]) != hash((row.labels, row.unknown))
                # What an inspector found is kept as far as it is about the labels of now.
                labels = named.targets[caption]
                for name in row.missing:
                    if name in number_of and labels[number_of[name]] == 1:
                        self._doubts.extend((len(rows), number_of[name], _MISSED))
                for column in map(named.vocabulary.index, row.added):
                    if labels[column] != 1:
                        self._doubts.extend((len(rows), column, UNKNOWN))
                rows.append(number)
                captions.append(caption)
                hashes.extend(_digest(row.sha256))
        self.rows, self.captions = np.asarray(rows), np.asarray(captions)
        self.hashes = _hex(hashes)
        if relabelled:
            log.warning(
                "%d images have other labels in the captions now; those of the captions are used",
                relabelled,
            )
        if changed:
            log.warning(
                "%d images left out: their captions have changed since; run 't2ipal generate' with "
                "--overwrite to generate them again",
                changed,
            )

    def __len__(self) -> int:
        return len(self.rows)

    def targets(self, order: Positions) -> Labels:
        """Labels int8 [n, C] of the images at ``order``: what an inspector doubts is unknown.

        A class that it saw in no image at all keeps its labels: CLIP does not know it, and that is
        no fault of the images.
        """
        targets: Labels = self._named.targets[self.captions[order]]
        place = np.full(len(self), -1)
        place[order] = np.arange(len(order))
        image, column, value = np.asarray(self._doubts).reshape(-1, 3).T
        there = place[image] >= 0
        targets[place[image[there]], column[there]] = value[there]
        for labels in targets.T:
            if (missed := labels == _MISSED).any():
                labels[missed] = UNKNOWN if (labels == 1).any() else 1
        return targets


def _digest(sha256: str) -> bytes:
    """A SHA-256 from hex; zeros, which are that of nothing, for what is none."""
    try:
        digest = bytes.fromhex(sha256)
    except ValueError:
        return bytes(32)
    return digest if len(digest) == 32 else bytes(32)


def _hex(digests: bytearray) -> Lazy[str]:
    """Such digests, one after another, in hex."""
    return Lazy(len(digests) // 32, lambda i: digests[32 * i : 32 * i + 32].hex())
