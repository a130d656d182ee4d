"""Generation on a Ray cluster: a pipeline in each worker, one store for all.

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
from typing import NoReturn

from tqdm import tqdm

from t2ipal.errors import UserError
from t2ipal.generation.diffusion.prompt_length import warn_of_cut_prompts
from t2ipal.generation.diffusion.text_to_image import TextToImage
from t2ipal.generation.generate import Work
from t2ipal.generation.job import Job
from t2ipal.generation.store import ImageRow, ImageStore
from t2ipal.parallel.cluster import Cluster, missing_of

_BATCHES = 4
"""Batches in a unit: images are encoded while the next batch is generated, all but the last."""
_UNITS = 10_000
"""Ray keeps track of each unit, so a job that would have more than this has larger ones."""


@dataclass(frozen=True)
class _Done:
    """The rows of a unit's images, and the captions in it that are cut at ``limit`` tokens."""

    rows: list[ImageRow]
    cut: list[str]
    limit: int


class _Worker:
    """A worker: its pipeline, and its own journal in the store of the job."""

    def __init__(self, work: Work, known: Sequence[ImageRow]) -> None:
        if not ImageStore(work.out).journal.exists():
            raise UserError(
                f"{work.out}: is not the run's folder on {socket.gethostname()}; with --engine "
                "ray OUT must lie on a file system that all nodes share."
            )
        self.work = work
        self.generator = work.load(known)
        # A name that no process had before, since that one's last line may be torn.
        self.store = ImageStore(work.out, worker=f"{os.getpid()}-{secrets.token_hex(4)}")

    def do(self, unit: Sequence[Job]) -> _Done:
        """Generate the images of a unit into the store."""
        cut, limit = list[str](), 0
        if isinstance(self.generator, TextToImage):
            cut, limit = self.generator.cut_prompts({job.caption.caption for job in unit})
        # whether to give up is seen where all rows come together
        rows = self.work.run(unit, self.generator, self.store, True, tqdm(disable=True))
        return _Done(list(rows.values()), cut, limit)


def generate_on(
    cluster: Cluster,
    work: Work,
    jobs: Sequence[Job],
    known: Collection[ImageRow],
    bar: tqdm[NoReturn],
) -> dict[str, ImageRow]:
    """Generate ``jobs`` with the workers of ``cluster``; their rows by id.

    Raises:
        UserError: some are missing, and why; the others are in the store, as after a kill. Or no
            image is usable.
    """
    any_usable = any(not row.failed for row in known)
    revisions = {row.revision: row for row in known}
    size = work.batch_size * max(_BATCHES, len(jobs) // (work.batch_size * _UNITS))
    units = [jobs[start : start + size] for start in range(0, len(jobs), size)]
    rows: dict[str, ImageRow] = {}
    errors: list[str] = []
    cut, limit = set[str](), 0
    make = partial(_Worker, work, tuple(revisions.values()))
    for outcome in cluster.spread(units, make, gpus=work.device != "cpu"):
        if outcome.error:
            errors.append(outcome.error)
            continue
        done: _Done = outcome.result
        rows |= {row.id: row for row in done.rows}
        cut, limit = cut.union(done.cut), max(limit, done.limit)
        bar.update(len(done.rows))
        any_usable = any_usable or any(not row.failed for row in done.rows)
        work.give_up(rows.values(), any_usable)
    texts = {job.caption.caption for job in jobs}
    warn_of_cut_prompts(cut, limit, of=len(texts), spec=work.identity.spec)
    if len(rows) < len(jobs):
        rows |= _stored(work, [job.id for job in jobs if job.id not in rows])
    if missing := len(jobs) - len(rows):
        raise missing_of("images", missing, len(jobs), errors)
    return rows


def _stored(work: Work, ids: Sequence[str]) -> dict[str, ImageRow]:
    """The rows of images that lost units left finished."""
    store = ImageStore(work.out)
    found = store.rows()
    return {
        id: row
        for id in ids
        if (row := found.get(id)) is not None
        and store.has(row)
        and not (row.failed and len(row.rejected) <= work.max_retries)
    }
