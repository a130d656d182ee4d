"""Captions in, images and their manifest out, with any diffusers text-to-image pipeline.

An image is a function of (generator, settings, caption, image seed), and the image seed one of (run
seed, caption id, copy, attempt). So neither the batch size, nor the order of the captions, nor a
killed and restarted run changes any image; see ``TextToImage.generate`` about the last bits.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tqdm import tqdm

from t2ipal.errors import UserError
from t2ipal.generation.diffusion.prompt_length import warn_of_cut_prompts
from t2ipal.generation.diffusion.settings import Settings
from t2ipal.generation.diffusion.source import locate
from t2ipal.generation.diffusion.text_to_image import GeneratedImage, TextToImage
from t2ipal.generation.duplicates import fingerprint
from t2ipal.generation.job import Identity, Job, plan
from t2ipal.generation.screening import UNSEEN, Finding, Inspector, reject_reason
from t2ipal.generation.store import ImageRow, ImageStore, Rejected
from t2ipal.generation.summary import GenerateSummary, count_classes, count_reasons
from t2ipal.parallel.sharding import Shard

if TYPE_CHECKING:
    from t2ipal.captions.labelled import LabelledCaption
    from t2ipal.parallel.cluster import Cluster

__all__ = ["GeneratedImage", "Generator", "Settings", "TextToImage", "generate"]

GIVE_UP = 32
"""A run without one usable image stops after so many failed ones: something is wrong with all."""


class Generator(Protocol):
    """What ``generate`` needs of a generator; ``TextToImage`` is one."""

    spec: str
    revision: str
    settings: Settings
    generated_on: dict[str, str]

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[GeneratedImage]:
        """One image a prompt, each a function of its prompt and seed alone."""
        ...


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
    max_redraws: int = 3,
    inspector: Inspector | None = None,
    overwrite: bool = False,
    shard: Shard | None = None,
    cluster: Cluster | None = None,
    progress: bool = True,
) -> GenerateSummary:
    """Draw ``images_per_caption`` images of every caption that has a label into ``out``.

    Goes on where an earlier call stopped, however it ended, and ends with the same bytes. Images in
    ``out`` belong to the job if caption, seed, generator, revision and settings are the same; their
    labels are brought up to date, and captions and copies may be added. Images that do not belong
    stop the run, unless ``overwrite``: then they are removed, and those that belong are kept.

    Black, flat and flagged drawings are drawn again with the seed of the next attempt, at most
    ``max_redraws`` times; an image that still fails is listed in ``failed.jsonl`` instead of the
    manifest, and tried again only with a larger ``max_redraws``.

    With an ``inspector`` so are drawings in which it sees none of their labels; of the others the
    manifest keeps which labels it does not see and which classes it sees unasked. Its settings
    belong to the job.

    With a ``shard`` only the images of that part are drawn, into the same folder, so that several
    processes on one or many machines share a job. The one that draws the last missing image writes
    the manifest, with the bytes of a job of one process.

    With a ``cluster`` its workers draw, with the same bytes. ``out`` must be a folder of all nodes;
    a loaded generator is copied to each.

    Args:
        captions: their ids must be unique.
        generator: a spec for ``TextToImage.load``, loaded only if there is something to draw; or a
            loaded generator, which has its own settings and revision.
        out: the folder of an ``ImageStore``.
        batch_size: images in one call of the pipeline.
        progress: show a bar, if stderr is a terminal.

    Raises:
        UserError: nothing to draw, the generator cannot be had, ``out`` holds other images, or no
            usable image comes out.
    """
    started = time.monotonic()
    for name, value, least in (
        ("images_per_caption", images_per_caption, 1),
        ("batch_size", batch_size, 1),
        ("max_redraws", max_redraws, 0),
    ):
        if value < least:
            raise UserError(f"{name} must be at least {least}, not {value}.")
    labelled = [caption for caption in captions if caption.labels]
    if not labelled:
        raise UserError(
            f"none of the {len(captions)} captions has a label, so there is nothing to draw; "
            "check the classes and the captions with 't2ipal label'."
        )
    identity = _identity(generator, settings, revision, seed)
    if inspector is not None:
        identity = replace(identity, settings={**identity.settings, "inspector": inspector.asked})
    if shard is not None and overwrite:
        raise UserError("--overwrite and --shard exclude each other: clear the folder first.")
    store = ImageStore(out, shard)
    found = store.rows()
    todo = plan(labelled, images_per_caption, found.values(), store, identity, max_redraws)
    if todo.foreign and not overwrite:
        id, (_, why) = next(iter(todo.foreign.items()))
        raise UserError(
            f"{store.folder}: holds {len(todo.foreign)} images that are not of this job "
            f"({id}: {why}); use another folder, or --overwrite to replace them."
        )
    known = dict(todo.known)
    jobs = tuple(job for job in todo.jobs if shard is None or shard.takes(job.id))
    if jobs:
        if cluster is None:
            painter = load_once(generator, identity, revision, settings, known.values())
            if isinstance(painter, TextToImage):
                texts = {job.caption.caption for job in jobs}
                warn_of_cut_prompts(*painter.cut_prompts(texts), of=len(texts), spec=painter.spec)
        store.begin()
        store.discard(row for row, _ in todo.foreign.values())
        with tqdm(
            total=len(known) + len(jobs),
            initial=len(known),
            unit=" images",
            desc="generate",
            disable=None if progress else True,  # None: no bar unless stderr is a terminal
        ) as bar:
            if cluster is None:
                known |= draw_all(
                    jobs,
                    painter,
                    identity,
                    store,
                    batch_size,
                    max_redraws,
                    inspector,
                    any_usable=any(not row.failed for row in known.values()),
                    bar=bar,
                )
            else:
                from t2ipal.generation.ray_generate import Painting, draw_on

                painting = Painting(
                    generator, identity, revision, settings, store.folder, batch_size, max_redraws,
                    inspector,
                )  # fmt: skip
                known |= draw_on(cluster, painting, jobs, known.values(), bar)
    if shard is not None and len(known) < len(todo.order):
        drawn_elsewhere = {id: row for id, row in store.rows().items() if id not in known}
        known |= {id: drawn_elsewhere[id] for id in todo.order if id in drawn_elsewhere}
    missing = [id for id in todo.order if id not in known]
    rows = [known[id] for id in todo.order if id in known]
    usable = [row for row in rows if not row.failed]
    failed = [row for row in rows if row.failed]
    if not missing and (store.journals() or [*usable, *failed] != list(found.values())):
        store.discard(row for row, _ in todo.foreign.values() if row.id not in known)
        store.finish(rows)
    if not usable and not missing:
        raise none_usable(store, failed)
    kept = sum(not row.failed for row in todo.known.values())
    classes, near = count_classes(rows)
    return GenerateSummary(
        folder=store.folder,
        images=len(usable),
        drawn=sum(not row.failed for row in (known[job.id] for job in jobs)),
        kept=kept,
        failed=len(failed),
        rejected=count_reasons(rows),
        unlabelled=len(captions) - len(labelled),
        nothing_to_do=not jobs,
        missing=len(missing),
        seconds=time.monotonic() - started,
        near=near,
        inspected=inspector is not None,
        classes=classes,
    )


def _identity(
    generator: Generator | str, settings: Settings | None, revision: str | None, seed: int
) -> Identity:
    """What the run draws with, without loading it."""
    if isinstance(generator, str):
        source = locate(generator, revision)
        asked = (settings or Settings()).asked()
        return Identity(source.spec, source.revision, asked, seed)
    if settings is not None or revision is not None:
        raise ValueError("a loaded generator has its own settings and revision")
    return Identity(generator.spec, generator.revision, generator.settings.asked(), seed)


def load_once(
    generator: Generator | str,
    identity: Identity,
    revision: str | None,
    settings: Settings | None,
    known: Iterable[ImageRow],
) -> Generator:
    """The generator ready to draw; only now may a model of the hub turn out to be another one."""
    if isinstance(generator, str):
        generator = TextToImage.load(generator, revision=revision, settings=settings)
    for row in known:
        if row.revision != generator.revision:
            raise UserError(
                f"{row.file}: drawn by revision {row.revision} of {identity.spec}, but this is "
                f"{generator.revision}; give --revision {row.revision}, or use another folder."
            )
    return generator


def draw_all(
    jobs: Sequence[Job],
    generator: Generator,
    identity: Identity,
    store: ImageStore,
    batch_size: int,
    max_redraws: int,
    inspector: Inspector | None,
    any_usable: bool,
    bar: tqdm,
) -> dict[str, ImageRow]:
    """Draw ``jobs`` batch by batch, into store and journal; return their rows by id.

    Images are encoded and written by threads while the next batch is drawn. ``any_usable`` says
    that the generator is known to give usable drawings.
    """
    queue = deque(jobs)
    rows: dict[str, ImageRow] = {}
    saving: deque[Future[ImageRow]] = deque()

    def settle(leave: int) -> None:
        while len(saving) > leave:
            row = saving.popleft().result()
            rows[row.id] = row
            bar.update()

    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        while queue:
            batch = [queue.popleft() for _ in range(min(batch_size, len(queue)))]
            seeds = [
                identity.image_seed(job.caption.id, job.copy, len(job.rejected)) for job in batch
            ]
            drawings = generator.generate([job.caption.caption for job in batch], seeds)
            again = []
            verdicts = _verdicts(batch, drawings, inspector)
            for job, seed, drawn, (reason, finding) in zip(
                batch, seeds, drawings, verdicts, strict=True
            ):
                row = _row(job, generator, identity, seed)
                if reason is None:
                    any_usable = True
                    row = replace(row, missing=finding.missing, added=finding.added)
                    saving.append(pool.submit(_save, store, row, drawn))
                    continue
                file = ""
                if reason == UNSEEN:
                    file = store.save_rejected(drawn.image, job.id, len(job.rejected))
                rejected = (*job.rejected, Rejected(seed, reason, file))
                if len(rejected) <= max_redraws:
                    again.append(replace(job, rejected=rejected))
                else:
                    rows[row.id] = replace(row, rejected=rejected)
                    store.append(rows[row.id])
                    bar.update()
            if len(rows) >= GIVE_UP and not any_usable:
                raise none_usable(store, rows.values())
            queue.extendleft(reversed(again))
            settle(leave=2 * batch_size)
        settle(leave=0)
    return rows


def _verdicts(
    batch: Sequence[Job], drawings: Sequence[GeneratedImage], inspector: Inspector | None
) -> list[tuple[str | None, Finding]]:
    """Why each drawing is rejected, or None, and what the inspector found of those that are not."""
    reasons = [reject_reason(drawn.image, drawn.flagged) for drawn in drawings]
    findings = [Finding()] * len(batch)
    usable = [i for i, reason in enumerate(reasons) if reason is None]
    if inspector is not None and usable:
        found = inspector.inspect(
            [drawings[i].image for i in usable], [batch[i].caption for i in usable]
        )
        for i, finding in zip(usable, found, strict=True):
            findings[i] = finding
            if set(batch[i].caption.labels) <= set(finding.missing):
                reasons[i] = UNSEEN
    return list(zip(reasons, findings, strict=True))


def _row(job: Job, generator: Generator, identity: Identity, seed: int) -> ImageRow:
    """The row of a drawing that has no file yet."""
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
        missing=(),
        added=(),
        fingerprint="",
    )


def _save(store: ImageStore, row: ImageRow, drawn: GeneratedImage) -> ImageRow:
    """Write the image, then its row: what the journal names is there."""
    file, sha256 = store.save(drawn.image, row.id)
    row = replace(row, file=file, sha256=sha256, fingerprint=fingerprint(drawn.image))
    store.append(row)
    return row


def none_usable(store: ImageStore, rows: Iterable[ImageRow]) -> UserError:
    counts = ", ".join(f"{count} {reason}" for reason, count in count_reasons(rows).items())
    return UserError(
        f"{store.folder}: not one drawing was usable ({counts}); try --precision fp32, other "
        "settings or another generator, with --overwrite."
    )
