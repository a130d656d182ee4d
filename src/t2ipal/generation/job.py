"""Which images a run wants, which of them are there already, and which do not belong to it."""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from t2ipal.errors import UserError
from t2ipal.files import sha256_text
from t2ipal.files.row_file import KeyIndex, Lazy, Positions
from t2ipal.generation.store import ImageRow, ImageStore, Rejected, image_id
from t2ipal.generation.summary import Tally
from t2ipal.parallel.sharding import Shard

if TYPE_CHECKING:
    from t2ipal.captions.labelled import LabelledCaption


@dataclass(frozen=True, slots=True)
class Job:
    """One image to generate, and the attempts at it that were rejected so far."""

    caption: LabelledCaption
    copy: int
    rejected: tuple[Rejected, ...] = ()

    @property
    def id(self) -> str:
        """The image's id."""
        return image_id(self.caption.id, self.copy)


def beyond(caption: LabelledCaption, read: str) -> tuple[str, ...]:
    """Labels that a caption names only behind ``read``, the part that a generator reads.

    A label without a match, which somebody else gave, cannot be told and is none of them.
    """

    def named(label: str, text: str) -> bool:
        words = caption.matches.get(label)
        if not words:
            return True
        return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text, re.IGNORECASE) is not None

    lost = [label for label in caption.labels if not named(label, read)]
    return tuple(label for label in lost if named(label, caption.caption))


@dataclass(frozen=True)
class Identity:
    """All that decides what a run's images show, apart from the captions.

    ``revision`` is None while it is unknown, which is before a model of the hub was ever fetched.
    """

    spec: str
    revision: str | None
    settings: dict[str, Any]
    seed: int

    def image_seed(self, caption_id: str, copy: int, attempt: int) -> int:
        """The seed of one image: 32 bits, which is what torch's CPU generator uses of a seed."""
        parts = (str(self.seed), caption_id, str(copy), str(attempt))
        return int(sha256_text("seed", *parts)[:8], 16)

    @cached_property
    def _fitting(self) -> dict[tuple[str, str, int], dict[str, Any]]:
        """Settings, which rows share, that were found to be of this run, by what they came with.

        They are looked for by identity, which another process does not take for its own.
        """
        return {}

    def why_foreign(self, row: ImageRow, caption: str) -> str | None:
        """What makes a stored image one of another run; None if it is what this one generates.

        Labels may differ, since they do not change the image. So may the device and, where it was
        left to the device, the precision: a run begun on a GPU is finished, or used, without one.

        Args:
            caption: of which the image should be; its own, if it is not asked for.
        """
        seed = self.image_seed(row.caption_id, row.copy, row.attempt)
        made_by = (row.generator, row.revision, id(row.settings))
        fits = self._fitting.get(made_by) is row.settings
        if fits and row.seed == seed and row.caption == caption:
            return None
        # a folder may have moved: its digest says whether it is the same generator
        same_place = row.generator == self.spec or row.revision.startswith("sha256:")
        asked = {"inspector": None, **self.settings}
        pairs = [
            ("caption", caption, row.caption),
            *((name, value, row.settings.get(name)) for name, value in asked.items()),
            ("generator", row.generator if same_place else self.spec, row.generator),
            ("revision", self.revision or row.revision, row.revision),
            ("seed", seed, row.seed),
        ]
        for name, now, then in pairs:
            if now != then:
                return f"generated with {name} {then!r}, not {now!r}"
        self._fitting[made_by] = row.settings
        return None


class Plan:
    """What a job has to do: which of the wanted images are there, and which rows are in the way.

    Image p is copy p % copies of the caption at ``named[p // copies]``. A stored row keeps its
    image and takes its caption's present labels. An image whose file is missing is to be generated
    anew; a failed one only if ``max_retries`` leaves it an attempt.

    Args:
        captions: no image is wanted of those without a label.
        made: [images] those that this process has just made: their files need no look.

    Attributes:
        named: [K] the positions of the captions with a label.
        rows: what the store holds.
        place: [images] the number of each image's row, -1 of one to generate.
        failed: [images] whether every attempt failed.
        foreign: by image id, the number of a row that does not belong, and why.
        unused: by image id, the number of a row that would belong, but is not asked for.
        revisions: a row of each revision of the generator that made images.
        tally: of the images that are there, in the order of the store.

    Raises:
        UserError: no caption has a label, two have the same id, or a row is broken.
    """

    def __init__(
        self,
        captions: Sequence[LabelledCaption],
        copies: int,
        store: ImageStore,
        identity: Identity,
        max_retries: int,
        made: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        self.captions, self.copies = captions, copies
        self._store, self._identity, self._max_retries = store, identity, max_retries
        self.named, self._hashes = array("q"), array("q")  # 8 bytes tell captions apart
        self._wanted = KeyIndex()
        for number, caption in enumerate(captions):
            if caption.labels:
                self.named.append(number)
                self._hashes.append(hash((caption.caption, caption.labels, caption.unknown)))
                for copy in range(copies):
                    self._wanted.add(image_id(caption.id, copy))
        if not self.named:
            raise UserError(
                f"none of the {len(captions)} captions has a label, so there is nothing to "
                "generate; check the classes and the captions with 't2ipal label'."
            )
        if (twice := self._wanted.repeated()) is not None:
            id = self._caption(twice[0]).id
            raise UserError(f"the caption id {id!r} occurs twice; ids must be unique.")
        self.place = np.full(len(self._wanted), -1)
        self.failed = np.zeros(len(self._wanted), dtype=bool)
        self._made = np.zeros(len(self._wanted), dtype=bool) if made is None else made
        self.foreign: dict[str, tuple[int, str]] = {}
        self.unused: dict[str, int] = {}
        self.revisions: dict[str, ImageRow] = {}
        self.tally = Tally()
        self._stale = set[int]()  # images whose row is there, but not the file that it names
        self._rejected: dict[int, tuple[Rejected, ...]] = {}
        self._relabelled = False
        self._block: list[tuple[int, ImageRow]] = []  # rows that are still to be looked at
        self.rows = store.rows(self._note)
        self._look()

    @property
    def usable(self) -> npt.NDArray[np.bool_]:
        """[images] Whether it is there and did not fail."""
        return (self.place >= 0) & ~self.failed

    def to_generate(self, shard: Shard | None) -> Positions:
        """The images that are not there, of a shard or all of them."""
        missing: Positions = np.flatnonzero(self.place < 0)
        if shard is not None:
            takes = [shard.takes(self._job(p).id) for p in missing.tolist()]
            missing = missing[np.array(takes, dtype=bool)]
        return missing

    def jobs(self, images: Positions) -> Sequence[Job]:
        """Images that are to be generated."""
        return Lazy(len(images), lambda i: self._job(int(images[i])))

    def trusted(self, images: Positions) -> npt.NDArray[np.bool_]:
        """[images] Those of ``images`` of which a row that comes now names a whole file."""
        made = np.zeros(len(self.place), dtype=bool)
        made[images] = True
        made[np.array([*self._stale], dtype=np.int64)] = False
        return made

    def _caption(self, p: int) -> LabelledCaption:
        return self.captions[self.named[p // self.copies]]

    def _job(self, p: int) -> Job:
        return Job(self._caption(p), p % self.copies, self._rejected.get(p, ()))

    def _row(self, p: int) -> ImageRow:
        caption = self._caption(p)
        return self.rows.numbered(int(self.place[p])).relabelled(caption.labels, caption.unknown)

    def texts(self, images: Positions) -> Sequence[str]:
        """The different captions of these images."""
        which = np.unique(images // self.copies) * self.copies
        which = which[KeyIndex(self._caption(p).caption for p in which.tolist()).distinct()]
        return Lazy(len(which), lambda i: self._caption(int(which[i])).caption)

    def there(self) -> Sequence[ImageRow]:
        """The rows of all images that are there, in caption order."""
        there = np.flatnonzero(self.place >= 0)
        return Lazy(len(there), lambda i: self._row(int(there[i])))

    def listed(self, unused: Sequence[int]) -> bool:
        """Whether the store's lists hold these images and ``unused`` rows, in this order."""
        there = self.place >= 0
        lists = (there & ~self.failed, there & self.failed)
        parts = [*(self.place[listed] for listed in lists), np.array(unused, dtype=np.int64)]
        order = np.concatenate(parts)
        return (
            not self._relabelled
            and self.rows.lengths == [*map(len, parts)]
            and bool((order == np.arange(len(order))).all())
        )

    def _note(self, number: int, row: ImageRow) -> None:
        self._block.append((number, row))
        if len(self._block) == _BLOCK:
            self._look()

    def _look(self) -> None:
        """Look at a block of rows: a later row of an image takes the place of an earlier one."""
        wanted = self._wanted.find(row.id for _, row in self._block).tolist()
        for (number, row), p in zip(self._block, wanted, strict=True):
            if self.foreign or self.unused:
                self.foreign.pop(row.id, None)
                self.unused.pop(row.id, None)
            caption = None  # unless it differs from the row's
            if p >= 0:
                self.place[p] = -1
                self._rejected.pop(p, None)
                same = hash((row.caption, row.labels, row.unknown))
                if same != self._hashes[p // self.copies]:
                    caption = self._caption(p)
            why = self._identity.why_foreign(row, caption.caption if caption else row.caption)
            if why is not None:
                self.foreign[row.id] = (number, why)
            elif p < 0:
                self.unused[row.id] = number
            elif row.failed and len(row.rejected) <= self._max_retries:
                self._rejected[p] = row.rejected
            elif self._made[p] or self._store.has(row):
                self.place[p], self.failed[p] = number, row.failed
                self.revisions.setdefault(row.revision, row)
                self._relabelled |= caption is not None
                self.tally.add(row.relabelled(caption.labels, caption.unknown) if caption else row)
            else:
                self._stale.add(p)
        self._block.clear()


_BLOCK = 256
