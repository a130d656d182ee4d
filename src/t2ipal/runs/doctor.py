"""What is here, what a run still needs, and how long and large it would be.

Nothing is fetched and nothing is written. Sizes follow from the configuration and the CLIP's own
shape; times are measured here, on a few images, or not given.
"""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from t2ipal.clip.backbone import Backbone
from t2ipal.datasets.official import parse_layout
from t2ipal.datasets.read import read_labelled_images
from t2ipal.errors import UserError, listed
from t2ipal.files import read_jsonl
from t2ipal.files.broken import Broken
from t2ipal.files.tables import LARGE, read_json
from t2ipal.runs.config import RunConfig
from t2ipal.runs.fitting import refuse_one_class, versions
from t2ipal.runs.folder import changed_settings
from t2ipal.runs.held_out import hold_out
from t2ipal.runs.labelling import composed_for_missing, labelled_captions
from t2ipal.vocabulary import Vocabulary

_SPLITS = {
    "voc2007": {name: f"ImageSets/Main/{name}.txt" for name in ("test", "trainval")},
    "coco2014": {name: f"annotations/instances_{name}2014.json" for name in ("val", "train")},
    "nuswide": {name: f"ImageList/{name.title()}Imagelist.txt" for name in ("test", "train")},
}
"""Benchmark -> split -> a file by which it is known."""
_CAPTIONS = {
    "captions_train2014.json": 414_113,
    "captions_train2017.json": 591_753,
    "open_images_train_v6_captions.jsonl": 507_444,
}
"""Files of captions that published settings take -> how many they hold."""

MEASURED_IMAGES = 4
PIXEL_BYTES = 3  # of a PNG that cannot be compressed


@dataclass(frozen=True)
class _Finding:
    """One line of the report; ``missing`` if a run of this configuration would stop for it."""

    topic: str
    text: str
    missing: bool = False

    def __str__(self) -> str:
        return f"{'MISSING' if self.missing else '':<8}{self.topic:<12}{self.text}"


def examine(config: RunConfig, out: Path, *, measure: bool = False) -> Iterator[_Finding]:
    """The report, finding by finding, for a run of ``config`` in ``out``.

    Args:
        measure: generate and embed a few images to tell how long the run would take.

    Raises:
        UserError: the classes of the configuration cannot be read.
    """
    config = config.with_preset()
    yield from _machine(out)
    yield from _cache()
    clip, generator = _clip(config), _generator(config)
    yield clip
    yield generator
    for topic, spec, folder in (
        ("data", config.data, config.data_folder),
        *(("also", spec, config.data_folder) for spec in config.also),
        ("real-data", config.real_data, config.data_folder),
        ("real-images", config.real_images, config.real_folder),
    ):
        if spec is not None:
            yield from _data(config, topic, spec, folder)
    yield from _run(config, out, measure, usable=not clip.missing and not generator.missing)


def examine_data(folder: Path) -> Iterator[_Finding]:
    """What a folder holds of the benchmarks and their captions, against the official numbers.

    Raises:
        UserError: it holds none of them.
    """
    found = False
    for benchmark, marks in _SPLITS.items():
        places = [folder, folder / "VOC2007", folder / "VOCdevkit" / "VOC2007"]
        here = [split for split, mark in marks.items() if any((p / mark).exists() for p in places)]
        for split in here:
            spec = f"{benchmark}:{folder}?split={split}"
            yield from _data(RunConfig(), f"{benchmark} {split}", spec, None)
        if here and (absent := [split for split in marks if split not in here]):
            yield _Finding(benchmark, f"not here: {', '.join(absent)}")
        found |= bool(here)
    for name, expected in _CAPTIONS.items():
        for path in (folder / name, folder / "annotations" / name):
            if path.is_file():
                yield _captions(path, expected)
                found = True
    if not found:
        raise UserError(
            f"{folder}: holds neither VOC2007, MS-COCO 2014 nor NUS-WIDE, nor their captions; "
            "docs/protocols.md says which files lie where."
        )


def _captions(path: Path, expected: int) -> _Finding:
    one = path.suffix == ".json"
    rows = read_json(path, LARGE).get("annotations", ()) if one else read_jsonl(path)
    count = sum(1 for _ in rows)
    text, wrong = f"{path.name}: {count:,} captions", count != expected
    return _Finding("captions", text + f", officially {expected:,}" * wrong, wrong)


def _machine(out: Path) -> Iterator[_Finding]:
    import torch

    for name, version in versions().items():
        yield _Finding("version", f"{name} {version}")
    yield _Finding(
        "processor", f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}"
    )
    if memory := _memory():
        yield _Finding("memory", f"{_size(memory[0])} free of {_size(memory[1])}")
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        yield _Finding("device", f"cuda:{index} {name}, {_size(free)} free of {_size(total)}")
    if torch.backends.mps.is_available():
        yield _Finding("device", "mps")
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        yield _Finding("device", "no GPU: everything runs on the processor")
    disk = shutil.disk_usage(_existing(out))
    yield _Finding("disk", f"{_size(disk.free)} free of {_size(disk.total)} for {out}")


def _cache() -> Iterator[_Finding]:
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    if constants.HF_HUB_OFFLINE:
        yield _Finding("hub", "HF_HUB_OFFLINE is set: nothing is fetched")
    try:
        repositories = sorted(scan_cache_dir().repos, key=lambda repo: repo.repo_id)
    except CacheNotFound:
        repositories = []
    found = [f"{repo.repo_id}, {_size(repo.size_on_disk)}" for repo in repositories]
    for text in found or [f"no model in {constants.HF_HUB_CACHE}"]:
        yield _Finding("cached", text)


def _clip(config: RunConfig) -> _Finding:
    from t2ipal.clip.load import PACKAGED, why_not_here

    if reason := why_not_here(config.clip):
        return _Finding("clip", reason, True)
    kind = PACKAGED.get(config.clip)
    return _Finding("clip", f"{config.clip} is here" + (f" ({kind})" if kind else ""))


def _generator(config: RunConfig) -> _Finding:
    from t2ipal.generation.diffusion.source import locate

    if not config.generates:
        return _Finding("generator", "none: no images are generated, captions alone are trained on")
    try:
        import diffusers  # noqa: F401

        assert config.generator is not None, "with_preset names one"
        source = locate(config.generator, config.revision)
    except ImportError:
        return _Finding("generator", "diffusers: pip install diffusers accelerate", True)
    except UserError as error:
        return _Finding("generator", str(error), True)
    if source.revision is None:
        fetch = f"hf download {config.generator}"
        return _Finding("generator", f"{config.generator} is not in the cache; run: {fetch}", True)
    kind = " (icon scenes, no photos)" if config.generator == "miniature" else ""
    return _Finding("generator", f"{config.generator} is here{kind}, {source.revision}")


def _data(config: RunConfig, topic: str, spec: str, folder: str | None) -> Iterator[_Finding]:
    """Whether labelled images are all there, and can be read as far as their headers tell."""
    name = spec.partition(":")[0]
    if name == "miniature":
        yield _Finding(topic, f"{spec} is rendered when a run needs it")
        return
    try:
        layout = parse_layout(spec)
        if layout is None and not config.classes:
            raise UserError(f"{spec}: name the classes that it is read for with --classes.")
        vocabulary = Vocabulary.load(config.classes or name)
        broken = Broken.of(config)
        images = read_labelled_images(spec, vocabulary, images=folder, broken=broken)
        images = images.readable(broken)
    except UserError as error:
        yield _Finding(topic, str(error), True)
        return
    present, unknown = (images.targets == 1).sum(axis=0), (images.targets < 0).sum()
    yield _Finding(
        topic, f"{images.source}: {len(images):,} images, {present.sum():,} labels present"
    )
    if images.skipped:
        yield _Finding(topic, f"{images.skipped:,} more cannot be read and are left out")
    if unknown:
        yield _Finding(topic, f"{unknown:,} labels are unknown and count nowhere")
    if nowhere := [vocabulary.names[c] for c in (present == 0).nonzero()[0]]:
        yield _Finding(topic, f"no image shows {listed(nowhere, most=8)}: no figure for these")
    if layout is not None:
        expected = layout[0].official[layout[2].get("split", layout[0].split)]
        if len(images) + images.skipped != expected and layout[2].get("images", "all") == "all":
            yield _Finding(topic, f"the official split has {expected:,} images", True)


def _run(config: RunConfig, out: Path, measure: bool, usable: bool) -> Iterator[_Finding]:
    if not config.classes:
        yield _Finding("run", "name --classes and --captions (or --compose) to hear what it costs")
        return
    vocabulary = Vocabulary.load(config.classes)
    try:
        refuse_one_class(vocabulary)
    except UserError as error:
        yield _Finding("classes", str(error), True)
    composed = replace(config, writer=None)  # as many, without loading a language model
    try:
        config.require()
        captions = [row for row in labelled_captions(composed, vocabulary) if row.labels]
    except UserError as error:
        yield _Finding("captions", str(error), True)
        return
    if not captions:
        yield _Finding("captions", "no caption names a class: add synonyms, or others", True)
        return
    named = {name for row in captions for name in row.labels}
    if missing := [name for name in vocabulary.names if name not in named]:
        done = f"{config.complete} are composed for each" if config.complete else "training stops"
        text = f"no caption names {listed(missing, most=8)}: {done}"
        yield _Finding("captions", text, not config.complete)
        captions += composed_for_missing(captions, vocabulary, config, say=lambda _: None)
    if len(vocabulary) > 1:
        try:
            hold_out(captions, vocabulary)
        except UserError as error:
            yield _Finding("captions", str(error), True)
    try:
        if (out / "config.yaml").exists():
            changed = changed_settings(config, out)
            text = f"{out} holds a run" + (f"; changed since: {'; '.join(changed)}" * bool(changed))
            yield _Finding("folder", text)
        elif not os.access(_existing(out), os.W_OK):
            yield _Finding("folder", f"{out}: cannot be written; choose another --out", True)
    except UserError as error:
        yield _Finding("folder", str(error), True)
    images = len(captions) * config.images_per_caption * config.generates
    yield _Finding("run", f"{len(captions)} captions name a class: {images} images to generate")
    if not usable:
        yield _Finding("run", "its size and time can be told once CLIP and generator are here")
        return
    backbone = Backbone.load(config)
    feature, (height, width) = backbone.cost
    views = 1 + config.crops**2
    space = images * feature
    yield _Finding(
        "features",
        f"{_size(feature)} per image (global, and local on {height} x {width}): {_size(space)}"
        + (f"; {views} times that for held-out and test images" if views > 1 else ""),
    )
    if config.height and config.width:
        pixels = config.height * config.width * PIXEL_BYTES
        space += images * pixels
        yield _Finding("images", f"at most {_size(pixels)} each: {_size(images * pixels)}")
    free = shutil.disk_usage(_existing(out)).free
    if space > free:
        yield _Finding("disk", f"the run may need {_size(space)}, {_size(free)} are free", True)
    if not images:
        return
    if not measure:
        yield _Finding("time", "not measured; --measure generates and embeds a few images to tell")
        return
    yield from _time(config, backbone, captions, images)


def _time(config: RunConfig, backbone: Any, captions: Any, images: int) -> Iterator[_Finding]:
    import torch

    from t2ipal.generation.diffusion.text_to_image import TextToImage

    assert config.generator is not None, "with_preset names one"
    generator = TextToImage.load(config.generator, revision=config.revision, settings=config)
    prompts = [row.caption for row in captions[:MEASURED_IMAGES]]
    seeds = list(range(len(prompts)))
    generator.generate(prompts, seeds)  # the first call also compares batches and warms caches
    started = time.perf_counter()
    made = generator.generate(prompts, seeds)
    generated = time.perf_counter()
    backbone.encode_image(torch.stack([backbone.preprocess(one.image) for one in made]))
    embedded = time.perf_counter()
    for what, took in (("generating", generated - started), ("embedding", embedded - generated)):
        seconds = took / len(made)
        yield _Finding("time", f"{what} {seconds:.3g} s per image: {_duration(seconds * images)}")
    device = generator.generated_on["device"]
    yield _Finding("time", f"measured on {len(made)} images on {device}; training comes on top")


def _memory() -> tuple[int, int] | None:
    """Free and total bytes of main memory, where the system tells."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return page * os.sysconf("SC_AVPHYS_PAGES"), page * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _existing(path: Path) -> Path:
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"
