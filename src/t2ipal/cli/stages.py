"""Verbs that are one stage of a run each: label, generate, embed, train."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from t2ipal.cli.speech import say
from t2ipal.errors import UserError
from t2ipal.runs.config import RunConfig


@dataclass(frozen=True)
class Label:
    """Find the classes that captions name."""

    classes: str
    """voc2007, coco2014, nuswide, or a YAML file of class names"""
    out: Path
    """JSONL file to write: id, caption, labels, unknown, matches"""
    captions: Path | None = None
    """captions: text, JSONL, CSV, COCO captions JSON, or Localized Narratives JSONL"""
    compose: int | None = None
    """make this many captions from the class names instead"""
    limit: int | None = None
    """use at most this many captions"""
    per_class: int | None = None
    """keep at most this many captions a class, each filed under the rarest class it names"""
    spread: str = "chance"
    """which ones: chance, or co-occurrence (some that name the class alone, the rest spread over
    the sets of classes named together)"""
    seed: int = 0
    """of the composed captions and of the choice per class"""

    def run(self) -> int:
        from t2ipal.captions.labelled import LabelSummary, write_labelled
        from t2ipal.runs.labelling import labelled_captions
        from t2ipal.vocabulary import Vocabulary

        config = RunConfig(
            classes=self.classes,
            captions=None if self.captions is None else str(self.captions),
            compose=self.compose,
            limit=self.limit,
            per_class=self.per_class,
            spread=self.spread,
            seed=self.seed,
        )
        config.require()
        vocabulary = Vocabulary.load(self.classes)
        rows = labelled_captions(config, vocabulary)
        write_labelled(self.out, rows)
        for line in LabelSummary.of(rows, vocabulary).lines():
            say(line)
        say(f"wrote {self.out}")
        return 0


@dataclass(frozen=True)
class Generate:
    """Draw the captions that name a class."""

    captions: Path
    """labelled captions, as 't2ipal label' writes them"""
    out: Path
    """folder for images/ and images.jsonl"""
    generator: str | None = None
    """diffusers text-to-image pipeline: a hub id, a folder, or miniature"""
    preset: str | None = None
    """a generator with steps, guidance and size for what is not given: paper (Stable Diffusion
    1.5), fast (SD-Turbo), sdxl-turbo, sdxl, sd3, pixart, sana, flux"""
    images_per_caption: int = 1
    """drawings of each caption"""
    seed: int = 0
    """of the run; each image has its own seed from it, the caption's id and its number"""
    batch_size: int = 8
    """drawings made together; does not change them"""
    steps: int | None = None
    """denoising steps; the pipeline's own number where not given"""
    guidance: float | None = None
    """guidance scale; the pipeline's own where not given"""
    negative_prompt: str | None = None
    """what the drawings should not show"""
    height: int | None = None
    """pixels"""
    width: int | None = None
    """pixels"""
    revision: str | None = None
    """of the generator on the hub"""
    precision: str = "auto"
    """auto, fp32, bf16, fp16"""
    device: str = "auto"
    """auto, cpu, cuda, mps"""
    exact: bool = True
    """the same bytes whatever the batch size; on a GPU that draws one image at a time"""
    ancestral: bool = False
    """keep a scheduler that adds noise in every step; else its sibling without draws"""
    max_redraws: int = 3
    """attempts beyond the first at a drawing that is black, flat, flagged or unseen"""
    inspect: str | None = None
    """a CLIP (NAME:PRETRAINED, hf-hub:ORG/NAME, a folder, miniature) to ask whether each drawing
    shows its labels: what it does not see becomes unknown, a drawing without any is drawn again"""
    classes: str | None = None
    """the classes to ask it about: voc2007, coco2014, nuswide, or a YAML file"""
    patience: int = 3
    """a label is seen unless more than so many absent classes look likelier"""
    overwrite: bool = False
    """replace images in OUT that belong to another job"""
    shard: str | None = None
    """I/N: draw the I-th of N parts (from 0), beside other processes with the same OUT"""
    engine: str = "local"
    """local (this process) or ray (the workers of a Ray cluster, which share OUT)"""
    workers: int | None = None
    """how many with --engine ray; one a GPU, or else one a node where not given"""

    def run(self) -> int:
        from t2ipal.captions.labelled import read_labelled
        from t2ipal.generation.diffusion.settings import settings_of
        from t2ipal.generation.generate import generate
        from t2ipal.parallel.cluster import choose_engine
        from t2ipal.parallel.sharding import Shard

        if self.generator is None and self.preset is None:
            raise UserError("name a --generator (a hub id, a folder, or miniature) or a --preset.")
        cluster = choose_engine(self.engine, self.workers, self.shard)
        drawn = RunConfig(
            generator=self.generator or "miniature", preset=self.preset, **settings_of(self)
        ).with_preset()
        inspector = None
        if self.inspect is not None:
            if self.classes is None:
                raise UserError("--inspect asks about classes: name them with --classes.")
            from t2ipal.generation.inspector import ClipInspector
            from t2ipal.vocabulary import Vocabulary

            vocabulary = Vocabulary.load(self.classes)
            inspector = ClipInspector(self.inspect, vocabulary, self.patience, device=self.device)
        summary = generate(
            read_labelled(self.captions),
            drawn.generator,
            self.out,
            images_per_caption=self.images_per_caption,
            seed=self.seed,
            batch_size=self.batch_size,
            settings=drawn.drawing(),
            revision=self.revision,
            max_redraws=self.max_redraws,
            inspector=inspector,
            overwrite=self.overwrite,
            shard=None if self.shard is None else Shard.parse(self.shard),
            cluster=cluster,
        )
        for line in summary.lines():
            say(line)
        if inspector is not None or (summary.near and not summary.nothing_to_do):
            from t2ipal.report.inspected import write_inspected

            if sheet := write_inspected(self.out):
                say(f"doubtful drawings are shown in {sheet}")
        return 0


@dataclass(frozen=True)
class Embed:
    """Bring drawn images and captions through a frozen CLIP into the feature cache."""

    images: Path
    """folder of a generated set (images.jsonl and images/)"""
    clip: str
    """open_clip model: NAME:PRETRAINED, hf-hub:ORG/NAME, a folder, or miniature"""
    captions: Path | None = None
    """labelled captions to embed too"""
    out: Path | None = None
    """folder of the feature cache; IMAGES/features where not given"""
    batch_size: int = 32
    """images that go through CLIP together"""
    shard: str | None = None
    """I/N: embed the I-th of N parts (from 0), beside other processes with the same OUT"""
    engine: str = "local"
    """local (this process) or ray (the workers of a Ray cluster, which share IMAGES and OUT)"""
    workers: int | None = None
    """how many with --engine ray; one a GPU, or else one a node where not given"""
    image_size: int | None = None
    """input size; the model's own where not given"""
    resize_mode: str | None = None
    """shortest (cut the centre out), squash, longest (borders); the model's own where not given"""
    local_grid: int | None = None
    """average local features on so many cells a side, where they are finer"""
    device: str = "auto"
    """auto, cpu, cuda, mps"""
    precision: str = "auto"
    """auto, fp32, bf16, fp16"""
    verify: bool = False
    """read what is in the cache and compare it with its checksums; what has changed is embedded
    again"""

    def run(self) -> int:
        from t2ipal.captions.labelled import read_labelled
        from t2ipal.clip.backbone import Backbone
        from t2ipal.clip.features import FeatureCache
        from t2ipal.files import sha256_text
        from t2ipal.generation.store import read_manifest
        from t2ipal.parallel.cluster import choose_engine
        from t2ipal.parallel.sharding import Shard

        cluster = choose_engine(self.engine, self.workers, self.shard)
        rows = read_manifest(self.images)
        captions = [] if self.captions is None else read_labelled(self.captions)
        if self.shard is not None:
            shard = Shard.parse(self.shard)
            rows = [row for row in rows if shard.takes(row.sha256)]
            captions = [row for row in captions if shard.takes(sha256_text(row.caption))]
        load = partial(
            Backbone.load,
            self.clip,
            device=self.device,
            precision=self.precision,
            image_size=self.image_size,
            resize_mode=self.resize_mode,
            local_grid=self.local_grid,
        )
        backbone = load()
        cache = FeatureCache(self.out or self.images / "features", backbone, verify=self.verify)
        files = [self.images / row.file for row in rows]
        size, (height, width) = backbone.cost
        say(
            f"embed: {len(rows)} images of {size:,} bytes (global, and local on {height} x "
            f"{width}): {len(rows) * size / 1e6:,.1f} MB"
        )
        hashes, texts = [row.sha256 for row in rows], [row.caption for row in captions]
        if cluster is not None:
            from t2ipal.clip.ray_embed import embed_on

            new, new_texts = embed_on(cluster, cache, load, files, hashes, texts, self.batch_size)
        else:
            new = cache.embed_images(files, hashes, batch_size=self.batch_size)
            new_texts = cache.captions(texts).computed if texts else 0
        say(f"embed: {len(rows)} images, {new} of them new")
        if captions:
            say(f"embed: {len(captions)} captions, {new_texts} of them new")
        return 0


@dataclass(frozen=True)
class Train:
    """Tune one method on labelled captions and the images drawn from them."""

    classes: str
    """voc2007, coco2014, nuswide, or a YAML file of class names"""
    captions: Path
    """labelled captions, as 't2ipal label' writes them"""
    images: Path
    """folder of a generated set (images.jsonl and images/)"""
    out: Path
    """model folder to write"""
    clip: str = "miniature"
    """open_clip model: NAME:PRETRAINED, hf-hub:ORG/NAME, a folder, or miniature"""
    method: str = "t2i-pal"
    """t2i-pal, tai-dpt, tai-dpt-original, dualcoop, clip-dpt, zero-shot, or an ablation, say
    t2i-pal/no-adapter"""
    features: Path | None = None
    """folder of the feature cache; IMAGES/features where not given"""
    config: Path | None = None
    """YAML file with settings of head and training"""
    data: str | None = None
    """test images; only tai-dpt-original/best-on-test looks at them, to choose its epoch"""
    seed: int = 0
    """of the start, of the order of the items and of the choice of the shots"""
    real_images: str | None = None
    """labelled real images to train on too: a folder with labels.csv or of folders named by
    class (DIR?others=unknown if they may show several), a COCO-format JSON, or
    miniature[:test|known][:N]"""
    real_folder: Path | None = None
    """folder of the images of a COCO JSON in --real-images, where it cannot be guessed"""
    shots: int | None = None
    """take so few of them that each class has just this many or a few more; all where not given"""
    label_fraction: float | None = None
    """keep each of their labels with this probability, as in partial-label papers (0.1 to 0.9)"""
    mask_seed: int | None = None
    """of the labels that are kept; 0 where not given"""

    def run(self) -> int:
        from dataclasses import replace

        from t2ipal.runs.fitting import train

        config = RunConfig() if self.config is None else RunConfig.read(self.config)
        given: dict[str, Any] = {
            "data": self.data,
            "real_images": self.real_images,
            "real_folder": None if self.real_folder is None else str(self.real_folder),
            "shots": self.shots,
            "label_fraction": self.label_fraction,
            "mask_seed": self.mask_seed,
        }
        config = replace(config, **{k: v for k, v in given.items() if v is not None})
        tagger = train(
            self.classes,
            self.captions,
            self.images,
            self.out,
            clip=self.clip,
            method=self.method,
            features=self.features,
            config=replace(config, seed=self.seed),
            say=say,
        )
        valid = tagger.about.get("held_out_map")
        say(f"train: {self.method}" + (f", mAP {valid} on held-out items" if valid else ""))
        say(f"wrote {self.out}")
        return 0
