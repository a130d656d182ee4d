"""Drawing on a Ray cluster: a pipeline in each worker, one store for all.

A worker writes images and journal rows into the job's folder itself, as one of several ``--shard``
processes does. So whatever is killed, a worker, a node or the run, costs the images under way.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from t2ipal.errors import UserError
from t2ipal.generation.diffusion.prompt_length import warn_of_cut_prompts
from t2ipal.generation.diffusion.settings import Settings
from t2ipal.generation.diffusion.text_to_image import TextToImage
from t2ipal.generation.generate import GIVE_UP, Generator, draw_all, load_once, none_usable
from t2ipal.generation.job import Identity, Job
from t2ipal.generation.screening import Inspector
from t2ipal.generation.store import ImageRow, ImageStore
from t2ipal.parallel.cluster import Cluster, missing_of

_BATCHES = 4
"""Batches in a unit: images are encoded while the next batch is drawn, all but the last."""
_UNITS = 10_000
"""Ray keeps book of each unit, so a job of more images than this many units has larger ones."""


@dataclass(frozen=True)
class Painting:
    """How to draw, and where: the arguments of ``generate`` that its workers need too."""

    generator: Generator | str
    identity: Identity
    revision: str | None
    settings: Settings | None
    out: Path
    batch_size: int
    max_redraws: int
    inspector: Inspector | None

    @property
    def device(self) -> str:
        """What was asked for, or where a loaded generator lies."""
        if isinstance(self.generator, str):
            return (self.settings or Settings()).device
        return self.generator.generated_on["device"]


@dataclass(frozen=True)
class Painted:
    """The rows of a unit's images, and the captions in it that are cut at ``limit`` tokens."""

    rows: list[ImageRow]
    cut: list[str]
    limit: int


class Painter:
    """A worker: its pipeline, and its own journal in the store of the job."""

    def __init__(self, painting: Painting, known: Sequence[ImageRow]) -> None:
        if not ImageStore(painting.out).journal.exists():
            raise UserError(
                f"{painting.out}: is not the run's folder on {socket.gethostname()}; with --engine "
                "ray OUT must lie on a file system that all nodes share."
            )
        self.painting = painting
        self.generator = load_once(
            painting.generator, painting.identity, painting.revision, painting.settings, known
        )
        # A name that no process had before, since that one's last line may be torn.
        self.store = ImageStore(painting.out, worker=f"{os.getpid()}-{secrets.token_hex(4)}")

    def do(self, unit: Sequence[Job]) -> Painted:
        """Draw the images of a unit into the store."""
        job = self.painting
        cut, limit = list[str](), 0
        if isinstance(self.generator, TextToImage):
            cut, limit = self.generator.cut_prompts({job.caption.caption for job in unit})
        rows = draw_all(
            unit,
            self.generator,
            job.identity,
            self.store,
            job.batch_size,
            job.max_redraws,
            job.inspector,
            any_usable=True,  # whether to give up is seen where all rows come together
            bar=tqdm(disable=True),
        )
        return Painted(list(rows.values()), cut, limit)


def draw_on(
    cluster: Cluster,
    painting: Painting,
    jobs: Sequence[Job],
    known: Collection[ImageRow],
    bar: tqdm,
) -> dict[str, ImageRow]:
    """Draw ``jobs`` with the workers of ``cluster``; their rows by id.

    Raises:
        UserError: some were not drawn, and why; the others are in the store, as after a kill. Or
            no drawing is usable.
    """
    any_usable = any(not row.failed for row in known)
    revisions = {row.revision: row for row in known}
    size = painting.batch_size * max(_BATCHES, len(jobs) // (painting.batch_size * _UNITS))
    units = [jobs[start : start + size] for start in range(0, len(jobs), size)]
    rows: dict[str, ImageRow] = {}
    errors: list[str] = []
    cut, limit = set[str](), 0
    make = partial(Painter, painting, tuple(revisions.values()))
    for outcome in cluster.spread(units, make, gpus=painting.device != "cpu"):
        if outcome.error:
            errors.append(outcome.error)
            continue
        painted: Painted = outcome.result
        rows |= {row.id: row for row in painted.rows}
        cut, limit = cut.union(painted.cut), max(limit, painted.limit)
        bar.update(len(painted.rows))
        any_usable = any_usable or any(not row.failed for row in painted.rows)
        if len(rows) >= GIVE_UP and not any_usable:
            raise none_usable(ImageStore(painting.out), rows.values())
    texts = {job.caption.caption for job in jobs}
    warn_of_cut_prompts(cut, limit, of=len(texts), spec=painting.identity.spec)
    if len(rows) < len(jobs):
        rows |= _stored(painting, [job.id for job in jobs if job.id not in rows])
    if missing := len(jobs) - len(rows):
        raise missing_of("images", missing, len(jobs), errors)
    return rows


def _stored(painting: Painting, ids: Sequence[str]) -> dict[str, ImageRow]:
    """The rows of images that lost units left finished."""
    store = ImageStore(painting.out)
    found = store.rows()
    return {
        id: row
        for id in ids
        if (row := found.get(id)) is not None
        and store.has(row)
        and not (row.failed and len(row.rejected) <= painting.max_redraws)
    }
