"""Which images a run wants, which of them are there already, and which do not belong to it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from t2ipal.errors import UserError
from t2ipal.files import sha256_text
from t2ipal.generation.store import ImageRow, ImageStore, Rejected, image_id

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

    def why_foreign(self, row: ImageRow, job: Job | None) -> str | None:
        """What makes a stored image one of another run; None if it is what ``job`` would generate.

        Without a job the image is not asked for: then its own caption counts. Labels may differ,
        since they do not change the image. So may the device and, where it was left to the device,
        the precision: a run begun on a GPU is finished, or used, without one.
        """
        # a folder may have moved: its digest says whether it is the same generator
        same_place = row.generator == self.spec or row.revision.startswith("sha256:")
        compared = [
            ("caption", row.caption, row.caption if job is None else job.caption.caption),
            *((name, row.settings.get(name), value) for name, value in self.settings.items()),
            ("inspector", row.settings.get("inspector"), self.settings.get("inspector")),
            ("generator", row.generator, row.generator if same_place else self.spec),
            ("revision", row.revision, self.revision or row.revision),
            ("seed", row.seed, self.image_seed(row.caption_id, row.copy, row.attempt)),
        ]
        for name, then, now in compared:
            if then != now:
                return f"generated with {name} {then!r}, not {now!r}"
        return None


@dataclass(frozen=True)
class Plan:
    """What a run has to do: ``known`` images are done, ``jobs`` are not.

    ``order`` lists the ids of all wanted images in caption order. ``foreign`` images are in the
    way: by id, the row and why it does not belong. ``unused`` ones would belong, but are not asked
    for.
    """

    order: tuple[str, ...]
    known: dict[str, ImageRow]
    jobs: tuple[Job, ...]
    foreign: dict[str, tuple[ImageRow, str]]
    unused: dict[str, ImageRow]

    @classmethod
    def of(
        cls,
        captions: Sequence[LabelledCaption],
        images_per_caption: int,
        found: Iterable[ImageRow],
        store: ImageStore,
        identity: Identity,
        max_retries: int,
    ) -> Plan:
        """Compare the wanted images with the ``found`` rows of ``store``.

        A found row keeps its image and takes its caption's present labels. A row whose image file
        is missing is generated anew; a failed one only if ``max_retries`` leaves it an attempt.

        Raises:
            UserError: two captions have the same id.
        """
        wanted = {
            image_id(caption.id, copy): Job(caption, copy)
            for caption in captions
            for copy in range(images_per_caption)
        }
        if len(wanted) < len(captions) * images_per_caption:
            twice = Counter(caption.id for caption in captions).most_common(1)[0][0]
            raise UserError(f"the caption id {twice!r} occurs twice; ids must be unique.")
        known: dict[str, ImageRow] = {}
        foreign: dict[str, tuple[ImageRow, str]] = {}
        unused: dict[str, ImageRow] = {}
        for row in found:
            job = wanted.get(row.id)
            why = identity.why_foreign(row, job)
            if why is not None:
                foreign[row.id] = (row, why)
            elif job is None:
                unused[row.id] = row
            elif row.failed and len(row.rejected) <= max_retries:
                wanted[row.id] = replace(job, rejected=row.rejected)
            elif store.has(row):
                caption = job.caption
                known[row.id] = row.relabelled(caption.labels, caption.unknown)
        jobs = tuple(job for id, job in wanted.items() if id not in known)
        return cls(tuple(wanted), known, jobs, foreign, unused)
