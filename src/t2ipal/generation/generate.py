"""Captions in, images and their manifest out, with any diffusers text-to-image pipeline.

An image is a function of (generator, settings, caption, image seed), and the image seed one of (run
seed, caption id, copy, attempt). So neither the batch size, nor the order of the captions, nor a
killed and restarted run changes any image; see ``TextToImage.generate`` about the last bits.
"""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from tqdm import tqdm

from t2ipal.errors import UserError
from t2ipal.files.lock import locking
from t2ipal.files.row_file import Lazy
from t2ipal.generation.diffusion.prompt_length import warn_of_cut_prompts
from t2ipal.generation.diffusion.settings import Settings
from t2ipal.generation.diffusion.source import locate
from t2ipal.generation.diffusion.text_to_image import GeneratedImage, TextToImage
from t2ipal.generation.duplicates import fingerprint
from t2ipal.generation.job import Identity, Job, Plan, beyond
from t2ipal.generation.screening import UNSEEN, Finding, Inspector, reject_reason
from t2ipal.generation.store import ImageRow, ImageStore, Rejected
from t2ipal.generation.summary import GenerateSummary, Tally
from t2ipal.parallel.cluster import missing_of
from t2ipal.parallel.sharding import Shard

if TYPE_CHECKING:
    from t2ipal.captions.labelled import LabelledCaption
    from t2ipal.parallel.cluster import Cluster


class Generator(Protocol):
    """What ``generate`` needs of a generator; ``TextToImage`` is one."""

    spec: str
    revision: str
    settings: Settings
    generated_on: dict[str, Any]

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[GeneratedImage]:
        """One image per prompt, each a function of its prompt and seed alone."""
        ...


@locking
def generate(
    captions: Sequence[LabelledCaption],
    generator: Generator | str,
    out: str | Path,
    *,
    images_per_caption: int = 1,
    seed: int = 0,
    batch_size: int = 8,
    settings: Settings | None = None,
    revision: str | None = None,
    max_retries: int = 3,
    inspector: Inspector | None = None,
    overwrite: bool = False,
    shard: Shard | None = None,
    cluster: Cluster | None = None,
    progress: bool = True,
) -> GenerateSummary:
    """Generate ``images_per_caption`` images of every caption that has a label into ``out``.

    Resumes where an earlier call stopped, however it ended, and ends with the same bytes. Images in
    ``out`` belong to the job if caption, seed, generator, revision and settings are the same; their
    labels are brought up to date, and captions and copies may be added. If some are not asked for
    any more, their images stay, listed in ``unused.jsonl``, until they are. Images that do not
    belong stop the run. With ``overwrite`` they are removed, unused ones too.

    Black, flat and flagged images are rejected and retried with the seed of the next attempt, at
    most ``max_retries`` times. An image that fails in every attempt is listed in ``failed.jsonl``
    instead of the manifest, and retried only with a larger ``max_retries``.

    With an ``inspector``, images in which it finds none of their labels are rejected too; of the
    others the manifest keeps which labels it does not find and which classes it finds unasked. Its
    settings belong to the job.

    With a ``shard`` only the images of that part are generated, into the same folder, so that
    several processes on one or many machines share a job. The one that finishes last writes the
    manifest, with the bytes of a job of one process.

    With a ``cluster`` its workers generate, with the same bytes. ``out`` must be a folder of all
    nodes; a loaded generator is copied to each.

    Args:
        captions: their ids must be unique.
        generator: a spec for ``TextToImage.load``, loaded only if an image is missing; or a loaded
            generator, which has its own settings and revision.
        out: the folder of an ``ImageStore``.
        images_per_caption: at least 1.
        seed: of the run; each image has its own, see ``Identity.image_seed``.
        batch_size: images in one call of the pipeline.
        settings: how to generate; the pipeline's own if omitted.
        revision: of a generator on the hub.
        max_retries: attempts per image beyond the first.
        inspector: looks at each image; see :mod:`t2ipal.generation.inspector`.
        overwrite: remove unused images and those of other jobs from ``out``.
        shard: the part of the images to generate.
        cluster: a Ray cluster to generate on.
        progress: show a bar, if stderr is a terminal.

    Raises:
        UserError: no caption has a label, the generator cannot be loaded, ``out`` holds other
            images, or no usable image comes out.
    """
    started = time.monotonic()
    for name, value, least in (
        ("images_per_caption", images_per_caption, 1),
        ("batch_size", batch_size, 1),
        ("max_retries", max_retries, 0),
    ):
        if value < least:
            raise UserError(f"{name} must be at least {least}, not {value}.")
    identity = _identity(generator, settings, revision, seed)
    if inspector is not None:
        identity = replace(identity, settings={**identity.settings, "inspector": inspector.asked})
    if shard is not None and overwrite:
        raise UserError("--overwrite and --shard exclude each other: clear the folder first.")
    store = ImageStore(out, shard)
    look = partial(Plan, captions, images_per_caption, store, identity, max_retries)
    plan = look()
    todo = plan.to_generate(shard)
    reused = int(plan.usable.sum())
    out_of_place = [number for number, _ in plan.foreign.values()]
    if overwrite:
        out_of_place += plan.unused.values()
    elif plan.foreign:
        id, (_, why) = next(iter(plan.foreign.items()))
        raise UserError(
            f"{store.folder}: holds {len(plan.foreign)} images that are not of this job "
            f"({id}: {why}); use another folder, or --overwrite to replace them."
        )
    if len(todo):
        work = Work(
            generator, identity, revision, settings, store.folder, batch_size, max_retries,
            inspector,
        )  # fmt: skip
        if cluster is None:
            loaded = work.load(plan.revisions.values())
            if isinstance(loaded, TextToImage):
                texts = plan.texts(todo)
                warn_of_cut_prompts(*loaded.cut_prompts(texts), of=len(texts), spec=loaded.spec)
        store.begin()
        store.discard(map(plan.rows.numbered, out_of_place))
        there = int((plan.place >= 0).sum())
        errors = list[str]()
        with tqdm(
            total=there + len(todo),
            initial=there,
            unit=" images",
            desc="generate",
            disable=None if progress else True,  # None: no bar unless stderr is a terminal
        ) as bar:
            if cluster is None:
                work.run(plan.jobs(todo), loaded, store, Outcome(usable=reused), bar)
            else:
                from t2ipal.generation.ray_generate import generate_on

                errors = generate_on(cluster, work, plan, todo, Outcome(usable=reused), bar)
        plan = look(made=plan.trusted(todo))
        if cluster is not None and (lost := int((plan.place[todo] < 0).sum())):
            raise missing_of("images", lost, len(todo), errors)
    elif out_of_place:
        store.discard(map(plan.rows.numbered, out_of_place))
    missing = int((plan.place < 0).sum())
    unused = [] if overwrite else [*plan.unused.values()]
    listed = plan.listed(unused)
    tally = plan.tally if listed else Tally(plan.there())
    if not missing and (store.journals() or not listed):
        store.finish(plan.there(), Lazy(len(unused), lambda i: plan.rows.numbered(unused[i])))
    if not tally.images and not missing:
        raise none_usable(store.folder, tally.rejected)
    return GenerateSummary.of(
        tally,
        folder=store.folder,
        generated=int(plan.usable[todo].sum()),
        reused=reused,
        unlabelled=len(captions) - len(plan.named),
        unused=len(unused),
        nothing_to_do=not len(todo),
        missing=missing,
        seconds=time.monotonic() - started,
        inspected=inspector is not None,
    )


def _identity(
    generator: Generator | str, settings: Settings | None, revision: str | None, seed: int
) -> Identity:
    """What the run generates with, without loading it."""
    if isinstance(generator, str):
        source = locate(generator, revision)
        asked = (settings or Settings()).asked()
        return Identity(source.spec, source.revision, asked, seed)
    if settings is not None or revision is not None:
        raise ValueError("a loaded generator has its own settings and revision")
    return Identity(generator.spec, generator.revision, generator.settings.asked(), seed)


@dataclass
class Outcome:
    """What has become of a job's images so far.

    Attributes:
        usable, failed: how many.
        rejected: reason -> attempts at the failed ones.
        give_up: failed images, without a usable one, after which something is wrong with all.
    """

    usable: int = 0
    failed: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    give_up: float = 32

    def add(self, other: Outcome, folder: Path) -> None:
        """Add what became of further images.

        Raises:
            UserError: many have failed and none is usable.
        """
        self.usable += other.usable
        self.failed += other.failed
        self.rejected += other.rejected
        if self.failed >= self.give_up and not self.usable:
            raise none_usable(folder, self.rejected)


@dataclass(frozen=True)
class Work:
    """How to generate the images of a job, and where to: what all its workers need to know."""

    generator: Generator | str
    identity: Identity
    revision: str | None
    settings: Settings | None
    out: Path
    batch_size: int
    max_retries: int
    inspector: Inspector | None

    @property
    def device(self) -> str:
        """The device that was asked for, or the one that a loaded generator is on."""
        if isinstance(self.generator, str):
            return (self.settings or Settings()).device
        return str(self.generator.generated_on["device"])

    def load(self, known: Iterable[ImageRow]) -> Generator:
        """The generator; only now may a model of the hub turn out not to be that of ``known`` rows.

        Raises:
            UserError: it cannot be loaded, or its revision is another one.
        """
        generator = self.generator
        if isinstance(generator, str):
            generator = TextToImage.load(generator, revision=self.revision, settings=self.settings)
        for row in known:
            if row.revision != generator.revision:
                raise UserError(
                    f"{row.file}: generated by revision {row.revision} of {self.identity.spec}, "
                    f"but this is {generator.revision}; give --revision {row.revision}, or use "
                    "another folder."
                )
        return generator

    def run(
        self,
        jobs: Sequence[Job],
        generator: Generator,
        store: ImageStore,
        outcome: Outcome,
        bar: tqdm[NoReturn],
    ) -> None:
        """Generate ``jobs`` batch by batch, into store and journal, and add to ``outcome``.

        Images are encoded and written by threads while the next batch is generated.

        Raises:
            UserError: many images have failed and none is usable.
        """
        queue, retries = iter(jobs), deque[Job]()
        saving: deque[Future[None]] = deque()

        def settle(leave: int) -> None:
            while len(saving) > leave:
                saving.popleft().result()
                bar.update()

        with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
            while batch := _next(retries, queue, self.batch_size):
                seeds = [
                    self.identity.image_seed(job.caption.id, job.copy, len(job.rejected))
                    for job in batch
                ]
                images = generator.generate([job.caption.caption for job in batch], seeds)
                became = Outcome()
                verdicts = _verdicts(batch, images, self.inspector)
                for job, seed, image, (reason, finding) in zip(
                    batch, seeds, images, verdicts, strict=True
                ):
                    row = _row(job, generator, self.identity, seed)
                    if reason is None:
                        became.usable += 1
                        if self.inspector is not None:
                            row = replace(row, missing=finding.missing, added=finding.added)
                        saving.append(pool.submit(_save, store, row, image))
                        continue
                    file = ""
                    if reason == UNSEEN:
                        file = store.save_rejected(image.image, job.id, len(job.rejected))
                    rejected = (*job.rejected, Rejected(seed, reason, file))
                    if len(rejected) <= self.max_retries:
                        retries.append(replace(job, rejected=rejected))
                    else:
                        became.failed += 1
                        became.rejected.update(entry.reason for entry in rejected)
                        store.append(replace(row, rejected=rejected))
                        bar.update()
                outcome.add(became, self.out)
                settle(leave=2 * self.batch_size)
            settle(leave=0)


def _next(retries: deque[Job], queue: Iterator[Job], size: int) -> list[Job]:
    """Retries first, which keeps the images in order."""
    batch = [retries.popleft() for _ in range(min(size, len(retries)))]
    return [*batch, *islice(queue, size - len(batch))]


def _verdicts(
    batch: Sequence[Job], images: Sequence[GeneratedImage], inspector: Inspector | None
) -> list[tuple[str | None, Finding]]:
    """Why each image is rejected, or None, and what the inspector found of those that are not."""
    reasons = [reject_reason(one.image, one.flagged) for one in images]
    findings = [Finding()] * len(batch)
    usable = [i for i, reason in enumerate(reasons) if reason is None]
    if inspector is not None and usable:
        found = inspector.inspect(
            [images[i].image for i in usable], [batch[i].caption for i in usable]
        )
        for i, finding in zip(usable, found, strict=True):
            findings[i] = finding
            if set(batch[i].caption.labels) <= set(finding.missing):
                reasons[i] = UNSEEN
    return list(zip(reasons, findings, strict=True))


def _row(job: Job, generator: Generator, identity: Identity, seed: int) -> ImageRow:
    """The row of an image that has no file yet."""
    return ImageRow(
        id=job.id,
        caption_id=job.caption.id,
        copy=job.copy,
        caption=job.caption.caption,
        labels=job.caption.labels,
        unknown=job.caption.unknown,
        seed=seed,
        attempt=len(job.rejected),
        generator=generator.spec,
        revision=generator.revision,
        settings={**identity.settings, **generator.generated_on},
        file="",
        sha256="",
        rejected=job.rejected,
        missing=beyond(job.caption, generator.shortened(job.caption.caption))
        if isinstance(generator, TextToImage)
        else (),
        added=(),
        fingerprint="",
    )


def _save(store: ImageStore, row: ImageRow, image: GeneratedImage) -> None:
    """Write the image, then its row: what the journal names is there."""
    file, sha256 = store.save(image.image, row.id)
    mark = fingerprint(image.image)
    store.append(replace(row, file=file, sha256=sha256, fingerprint=mark))


def none_usable(folder: Path, rejected: Counter[str]) -> UserError:
    """The error that no attempt gave a usable image; ``rejected`` counts them by reason."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(rejected.items()))
    return UserError(
        f"{folder}: not one generated image was usable ({reasons}); try --precision fp32, other "
        "settings or another generator, with --overwrite."
    )
