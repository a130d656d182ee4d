"""Generation on a Ray cluster: a pipeline in each worker, one store for all.

A worker writes images and journal rows into the job's folder itself, as one of several ``--shard``
processes does. So whatever is killed, a worker, a node or the run, costs the images under way.
"""

from __future__ import annotations

import math
import os
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

from tqdm import tqdm

from t2ipal.errors import UserError
from t2ipal.files.row_file import Lazy, Positions
from t2ipal.generation.diffusion.prompt_length import warn_of_cut_prompts
from t2ipal.generation.diffusion.text_to_image import TextToImage
from t2ipal.generation.generate import Outcome, Work
from t2ipal.generation.job import Job, Plan
from t2ipal.generation.store import ImageRow, ImageStore
from t2ipal.parallel.cluster import Cluster

_BATCHES = 4
"""Batches in a unit: images are encoded while the next batch is generated, all but the last."""
_UNITS = 10_000
"""Ray keeps track of each unit, so a job that would have more than this has larger ones."""


@dataclass(frozen=True)
class _Done:
    """What became of a unit's images, and the captions in it that are cut at ``limit`` tokens."""

    outcome: Outcome
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
        outcome = Outcome(give_up=math.inf)  # that is seen where all images come together
        self.work.run(unit, self.generator, self.store, outcome, tqdm(disable=True))
        return _Done(outcome, cut, limit)


def generate_on(
    cluster: Cluster,
    work: Work,
    plan: Plan,
    todo: Positions,
    outcome: Outcome,
    bar: tqdm[NoReturn],
) -> list[str]:
    """Generate the images ``todo`` with the workers of ``cluster``, and add to ``outcome``.

    Returns:
        What went wrong, if some are missing; the others are in the store, as after a kill.

    Raises:
        UserError: many images have failed and none is usable.
    """
    jobs = plan.jobs(todo)
    size = work.batch_size * max(_BATCHES, len(jobs) // (work.batch_size * _UNITS))
    units = Lazy(-(-len(jobs) // size), lambda i: [*jobs[i * size : (i + 1) * size]])
    errors: list[str] = []
    cut, limit = set[str](), 0
    make = partial(_Worker, work, tuple(plan.revisions.values()))
    for answer in cluster.spread(units, make, gpus=work.device != "cpu"):
        if answer.error:
            errors.append(answer.error)
            continue
        done: _Done = answer.result
        cut, limit = cut.union(done.cut), max(limit, done.limit)
        bar.update(done.outcome.usable + done.outcome.failed)
        outcome.add(done.outcome, work.out)
    warn_of_cut_prompts(cut, limit, of=len(plan.texts(todo)), spec=work.identity.spec)
    return errors
