"""Verbs that are one stage of a run each: label, generate, embed, train."""

from __future__ import annotations

from dataclasses import KW_ONLY
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Le

from t2ipal.cli.options import ConfigFile, Verb, require_paths
from t2ipal.cli.speech import say
from t2ipal.clip.clip_settings import ClipSettings
from t2ipal.errors import Batch, Count, UserError, settings, settings_of
from t2ipal.files.broken import Broken, ReadingSettings
from t2ipal.generation.diffusion.settings import GenerationSettings
from t2ipal.runs.config import (
    CaptionSettings,
    ClassSettings,
    RunConfig,
    SeedSettings,
    TrainingSettings,
)


@settings
class Label(CaptionSettings, Verb):
    """Find the classes that captions name."""

    needed = ("classes",)
    examples = """
        t2ipal label --classes voc2007 --captions captions.txt --out captions.jsonl
        t2ipal label --classes classes.yaml --compose 200 --out captions.jsonl
    """
    _: KW_ONLY
    out: Annotated[Path, "FILE"]
    """JSONL file to write: id, caption, labels, unknown, matches"""

    def run(self) -> int:
        from t2ipal.captions.labelled import LabelSummary
        from t2ipal.files import written_jsonl
        from t2ipal.runs.labelling import labelled_captions
        from t2ipal.vocabulary import Vocabulary

        self.require()
        if self.out.is_dir():
            raise UserError(f"{self.out}: is a folder; name a file to write.")
        vocabulary = Vocabulary.load(self.classes)
        rows = written_jsonl(self.out, labelled_captions(self, vocabulary))
        for line in LabelSummary.of(rows, vocabulary).lines():
            say(line)
        say(f"wrote {self.out}")
        return 0


@settings
class _SharedWork:
    """Over which processes the work is spread."""

    shard: Annotated[str, "I/N"] | None = None
    """do the I-th of N parts (from 0), beside other processes that write to the same folder"""
    engine: Literal["local", "ray"] = "local"
    """local (this process) or ray (the workers of a Ray cluster, which share the folders)"""
    workers: Annotated[Count, Le(10_000)] | None = None
    """workers of --engine ray; if omitted one per GPU, or one per node without GPUs"""


@settings
class Generate(GenerationSettings, ClipSettings, ClassSettings, _SharedWork, SeedSettings, Verb):
    """Generate images for the captions that name a class."""

    examples = """
        t2ipal generate --labelled-captions captions.jsonl --preset fast --out images
        t2ipal generate --labelled-captions captions.jsonl --preset fast --inspect \\
            --clip ViT-B-16:openai --classes voc2007 --out images
    """
    _: KW_ONLY
    labelled_captions: Annotated[Path, "FILE"]
    """captions with their labels, as 't2ipal label' writes them"""
    out: Annotated[Path, "DIR"]
    """folder for images/ and images.jsonl"""
    overwrite: bool = False
    """replace images in the folder that were generated with other settings"""

    def run(self) -> int:
        from t2ipal.captions.labelled import read_labelled
        from t2ipal.generation.generate import generate
        from t2ipal.parallel.cluster import choose_engine
        from t2ipal.parallel.sharding import Shard

        if self.generator is None and self.preset is None:
            raise UserError("name a --generator (a hub id, a folder, or miniature) or a --preset.")
        cluster = choose_engine(self.engine, self.workers, self.shard)
        chosen = self.with_preset()
        assert chosen.generator is not None, "with_preset names one"
        inspector = None
        if self.inspect:
            if not self.classes:
                raise UserError("--inspect asks about classes: name them with --classes.")
            from t2ipal.generation.inspector import ClipInspector
            from t2ipal.vocabulary import Vocabulary

            inspector = ClipInspector(
                settings_of(ClipSettings, self), Vocabulary.load(self.classes), self.patience
            )
        summary = generate(
            read_labelled(self.labelled_captions),
            chosen.generator,
            self.out,
            images_per_caption=self.images_per_caption,
            seed=self.seed,
            batch_size=self.batch_size,
            settings=settings_of(GenerationSettings, chosen),
            revision=self.revision,
            max_retries=self.max_retries,
            inspector=inspector,
            overwrite=self.overwrite,
            shard=None if self.shard is None else Shard.parse(self.shard),
            cluster=cluster,
        )
        for line in summary.lines():
            say(line)
        if inspector is not None or (summary.near and not summary.nothing_to_do):
            from t2ipal.report.contact import write_inspected

            if sheet := write_inspected(self.out):
                say(f"doubtful images are shown in {sheet}")
        return 0


@settings
class Embed(ClipSettings, ReadingSettings, _SharedWork, Verb):
    """Bring generated images and captions through a frozen CLIP into the feature cache."""

    needed = ("clip",)
    examples = """
        t2ipal embed --images images --labelled-captions captions.jsonl --clip ViT-B-16:openai
    """
    _: KW_ONLY
    images: Annotated[Path, "DIR"]
    """folder of a generated set (images.jsonl and images/)"""
    labelled_captions: Annotated[Path, "FILE"] | None = None
    """captions to embed too, as 't2ipal label' writes them"""
    features: Annotated[Path, "DIR"] | None = None
    """folder of the feature cache; IMAGES/features if omitted"""
    batch_size: Batch = 32
    """images processed together"""
    verify: bool = False
    """compare what is in the cache with its checksums, and embed again what has changed"""

    def run(self) -> int:
        import numpy as np

        from t2ipal.captions.labelled import read_labelled
        from t2ipal.files import sha256_text
        from t2ipal.files.lock import one_job
        from t2ipal.files.row_file import at_positions
        from t2ipal.generation.store import read_manifest
        from t2ipal.parallel.cluster import choose_engine
        from t2ipal.parallel.sharding import Shard

        cluster = choose_engine(self.engine, self.workers, self.shard)
        rows = read_manifest(self.images)
        file = self.labelled_captions
        captions = () if file is None else read_labelled(file)
        if self.shard is not None:
            shard = Shard.parse(self.shard)
            taken = (shard.takes(row.sha256) for row in rows)
            own = np.flatnonzero(np.fromiter(taken, bool))
            rows = at_positions(rows, own)
            taken = (shard.takes(sha256_text(row.caption)) for row in captions)
            own = np.flatnonzero(np.fromiter(taken, bool))
            captions = at_positions(captions, own)
        folder = self.features or self.images / "features"
        from t2ipal.clip.backbone import Backbone  # after what can be mistyped: takes seconds
        from t2ipal.clip.features import FeatureCache
        from t2ipal.files.row_file import Lazy

        with one_job(folder, None if self.shard is None else self.shard.replace("/", "-of-")):
            load = partial(Backbone.load, settings_of(ClipSettings, self))
            backbone, broken = load(), Broken.of(self)
            cache = FeatureCache(folder, backbone, verify=self.verify, broken=broken)
            files = Lazy(len(rows), lambda i: self.images / rows[i].file)
            hashes = Lazy(len(rows), lambda i: rows[i].sha256)
            texts = Lazy(len(captions), lambda i: captions[i].caption)
            size, (height, width) = backbone.cost
            say(
                f"embed: {len(rows)} images of {size:,} bytes (global, and local on {height} x "
                f"{width}): {len(rows) * size / 1e6:,.1f} MB"
            )
            if cluster is not None:
                from t2ipal.clip.ray_embed import embed_on

                new, new_texts = embed_on(
                    cluster, cache, load, files, hashes, texts, self.batch_size
                )
            else:
                new = cache.embed_images(files, hashes, batch_size=self.batch_size)
                new_texts = cache.embed_captions(texts) if texts else 0
            say(f"embed: {len(rows)} images of {self.images / 'images.jsonl'}, {new} of them new")
            for line in broken.write(folder):
                say(line)
            if captions:
                source = f"captions of {self.labelled_captions}"
                say(f"embed: {len(captions)} {source}, {new_texts} of them new")
            return 0


@settings
class Train(TrainingSettings, ClassSettings, ConfigFile):
    """Tune one method on labelled captions and the images generated from them, if any."""

    needed = ("classes",)
    common = """
        classes labelled_captions images out method features config clip data real_images shots
        label_fraction seed device train.train_on train.epochs
    """
    examples = """
        t2ipal train --classes voc2007 --labelled-captions captions.jsonl --images images \\
            --clip ViT-B-16:openai --out model
        t2ipal train --config RUN/config.yaml --labelled-captions RUN/captions.jsonl \\
            --images RUN --method tai-dpt --out tai-dpt
    """
    _: KW_ONLY
    labelled_captions: Annotated[Path, "FILE"]
    """captions with their labels, as 't2ipal label' writes them"""
    images: Annotated[Path, "DIR"] | None = None
    """folder of a generated set (images.jsonl and images/); if omitted, captions alone are trained
    on, and the labelled images of --real-images"""
    out: Annotated[Path, "DIR"]
    """model folder to write"""
    method: str | None = None
    """t2i-pal, tai-dpt, tai-dpt-original, dualcoop, clip-dpt, zero-shot, or an ablation, such as
    t2i-pal/no-adapter; if omitted t2i-pal, or t2i-pal/captions where there are no images"""
    features: Annotated[Path, "DIR"] | None = None
    """folder of the feature cache; if omitted IMAGES/features, or features beside the captions"""

    def run(self) -> int:
        paths = self.labelled_captions, self.images, self.data_folder, self.real_folder
        require_paths(*paths, data=[self.data, self.real_images])
        from t2ipal.runs.fitting import train

        tagger = train(
            self.classes,
            self.labelled_captions,
            self.images,
            self.out,
            method=self.method,
            features=self.features,
            config=settings_of(RunConfig, self),
            say=say,
        )
        if self.images is None:
            say("train: without --images there are no generated images")
        valid = tagger.about.get("held_out_map")
        on_held_out = f", mAP {valid} on held-out items" if valid else ""
        say(f"train: {tagger.about['method']}{on_held_out}")
        say(f"wrote {self.out}")
        return 0
