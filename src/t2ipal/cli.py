"""The command line: each verb a few lines over the Python API.

Exit status: 0 done, 1 something went wrong inside, 2 a mistake in what was asked, 130 interrupted.
"""

from __future__ import annotations

import csv
import itertools
import json
import logging
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import Positional

from t2ipal.config import RunConfig
from t2ipal.errors import UserError, nearest
from t2ipal.image_files import find_images

if TYPE_CHECKING:
    import numpy as np

    from t2ipal.tagger import Tagged, Tagger

_VERBS = {
    "run": "label, generate, embed, train and compare in one go, in one folder",
    "label": "captions -> the classes they name",
    "generate": "labelled captions -> drawn images",
    "embed": "images and captions -> cached CLIP features",
    "train": "labelled captions and drawn images -> a tagger",
    "eval": "measure a tagger on labelled images",
    "compare": "table of methods and ablations on labelled images",
    "predict": "tag images",
    "doctor": "what is here, what a run still needs, how long and large it would be",
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    verb = arguments[0] if arguments else "--help"
    if verb in ("-h", "--help", "help"):
        print(_usage())
        return 0
    if verb == "--version":
        import importlib.metadata

        print(importlib.metadata.version("t2ipal"))
        return 0
    if verb not in _VERBS:
        _complain(f"there is no command {verb!r}{nearest(verb, _VERBS)}; see 't2ipal --help'.")
        return 2
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        return _parse(verb, arguments[1:]).run()
    except UserError as error:
        _complain(str(error))
        return 2
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        _complain("interrupted; start it again to go on where it was.")
        return 130


def _usage() -> str:
    width = max(map(len, _VERBS))
    lines = [
        "usage: t2ipal COMMAND [OPTIONS]",
        "",
        "Class names and captions in, a multi-label image tagger out (T2I-PAL).",
        "",
        *(f"  {verb:<{width}}  {text}" for verb, text in _VERBS.items()),
        "",
        "'t2ipal COMMAND --help' shows a command's options.",
        "The first thing to try: t2ipal run --classes voc2007 --compose 200 --out runs/first",
    ]
    return "\n".join(lines)


def _complain(message: str) -> None:
    print(f"t2ipal: {message}", file=sys.stderr)


def _say(line: str) -> None:
    print(line, flush=True)


def _parse(verb: str, arguments: list[str]) -> Any:
    kwargs: dict[str, Any] = {}
    # Flags win over the file, the file over the defaults.
    if verb == "run":
        kwargs["default"] = Run(out=tyro.MISSING, settings=_defaults(arguments))
    if verb == "doctor":
        kwargs["default"] = Doctor(settings=_defaults(arguments))
    return tyro.cli(_COMMANDS[verb], prog=f"t2ipal {verb}", args=arguments, **kwargs)


def _defaults(arguments: list[str]) -> Any:
    """The run's settings before flags: those of ``--config FILE``, or the built-in ones."""
    for option, value in itertools.pairwise([*arguments, ""]):
        if option == "--config":
            return RunConfig.read(value)
        if option.startswith("--config="):
            return RunConfig.read(option.partition("=")[2])
    return RunConfig()


@dataclass(frozen=True)
class Run:
    """Label, generate, embed, train and compare in one folder; a second start goes on."""

    out: Path
    """folder of the run"""
    config: Path | None = None
    """YAML file of settings, such as another run's config.yaml; flags win over it"""
    settings: Annotated[RunConfig, tyro.conf.arg(name="")] = field(default_factory=RunConfig)

    def run(self) -> int:
        from t2ipal.pipeline import run

        run(self.settings, self.out, say=_say)
        return 0


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
    seed: int = 0
    """of the composed captions and of the choice per class"""

    def run(self) -> int:
        from t2ipal.captions.labelled import LabelSummary, write_labelled
        from t2ipal.pipeline import labelled_captions
        from t2ipal.vocabulary import Vocabulary

        config = RunConfig(
            classes=self.classes,
            captions=None if self.captions is None else str(self.captions),
            compose=self.compose,
            limit=self.limit,
            per_class=self.per_class,
            seed=self.seed,
        )
        config.require()
        vocabulary = Vocabulary.load(self.classes)
        rows = labelled_captions(config, vocabulary)
        write_labelled(self.out, rows)
        for line in LabelSummary.of(rows, vocabulary).lines():
            _say(line)
        _say(f"wrote {self.out}")
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

    def run(self) -> int:
        from t2ipal.captions.labelled import read_labelled
        from t2ipal.inspection import ClipInspector
        from t2ipal.pipeline import drawing_settings
        from t2ipal.report.inspected import write_inspected
        from t2ipal.sharding import Shard
        from t2ipal.synthesis.generator import generate
        from t2ipal.vocabulary import Vocabulary

        if self.generator is None and self.preset is None:
            raise UserError("name a --generator (a hub id, a folder, or miniature) or a --preset.")
        drawn = RunConfig(
            generator=self.generator or "miniature",
            preset=self.preset,
            steps=self.steps,
            guidance=self.guidance,
            negative_prompt=self.negative_prompt,
            height=self.height,
            width=self.width,
            precision=self.precision,
            device=self.device,
            exact=self.exact,
        ).with_preset()
        inspector = None
        if self.inspect is not None:
            if self.classes is None:
                raise UserError("--inspect asks about classes: name them with --classes.")
            vocabulary = Vocabulary.load(self.classes)
            inspector = ClipInspector(self.inspect, vocabulary, self.patience, device=self.device)
        summary = generate(
            read_labelled(self.captions),
            drawn.generator,
            self.out,
            images_per_caption=self.images_per_caption,
            seed=self.seed,
            batch_size=self.batch_size,
            settings=drawing_settings(drawn),
            revision=self.revision,
            max_redraws=self.max_redraws,
            inspector=inspector,
            overwrite=self.overwrite,
            shard=None if self.shard is None else Shard.parse(self.shard),
        )
        for line in summary.lines():
            _say(line)
        if inspector is not None and (sheet := write_inspected(self.out)):
            _say(f"doubtful drawings are shown in {sheet}")
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

    def run(self) -> int:
        from t2ipal.captions.labelled import read_labelled
        from t2ipal.clip.backbone import Backbone
        from t2ipal.clip.features import FeatureCache
        from t2ipal.files import sha256_text
        from t2ipal.sharding import Shard
        from t2ipal.synthesis.store import read_manifest

        rows = read_manifest(self.images)
        captions = [] if self.captions is None else read_labelled(self.captions)
        if self.shard is not None:
            shard = Shard.parse(self.shard)
            rows = [row for row in rows if shard.takes(row.sha256)]
            captions = [row for row in captions if shard.takes(sha256_text(row.caption))]
        backbone = Backbone.load(
            self.clip,
            device=self.device,
            precision=self.precision,
            image_size=self.image_size,
            resize_mode=self.resize_mode,
            local_grid=self.local_grid,
        )
        cache = FeatureCache(self.out or self.images / "features", backbone)
        files = [self.images / row.file for row in rows]
        size, (height, width) = backbone.cost
        _say(
            f"embed: {len(rows)} images of {size:,} bytes (global, and local on {height} x "
            f"{width}): {len(rows) * size / 1e6:,.1f} MB"
        )
        new = cache.embed_images(files, [row.sha256 for row in rows], batch_size=self.batch_size)
        _say(f"embed: {len(rows)} images, {new} of them new")
        if captions:
            bank = cache.captions([row.caption for row in captions])
            _say(f"embed: {len(captions)} captions, {bank.computed} of them new")
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
    """labelled real images to train on too: a folder with labels.csv, a COCO-format JSON, or
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

        from t2ipal.fitting import train

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
            say=_say,
        )
        valid = tagger.about.get("held_out_map")
        _say(f"train: {self.method}" + (f", mAP {valid} on held-out items" if valid else ""))
        _say(f"wrote {self.out}")
        return 0


@dataclass(frozen=True)
class Eval:
    """Measure a tagger on labelled images."""

    model: Positional[Path]
    """model folder, such as RUN/model"""
    data: str
    """a folder with labels.csv, a COCO-format JSON, or miniature[:test|known][:N]"""
    images: Path | None = None
    """folder of the images of a COCO JSON, where it cannot be guessed"""
    cache: Path | None = None
    """folder of the feature cache; beside the model where not given"""
    out: Path | None = None
    """JSON file to write the figures to"""
    image_size: int | None = None
    """input size of CLIP, where another than the model was tuned with"""
    crops: int | None = None
    """see each image through so many windows a side too; the model's own number if left out"""
    device: str = "auto"
    """auto, cpu, cuda, mps"""

    def run(self) -> int:
        from t2ipal.files import write_text
        from t2ipal.pipeline import evaluate

        evaluation = evaluate(
            self.model,
            self.data,
            images=self.images,
            cache=self.cache,
            device=self.device,
            image_size=self.image_size,
            crops=self.crops,
        )
        for line in evaluation.lines():
            _say(line)
        if self.out is not None:
            write_text(self.out, json.dumps(evaluation.to_json(), indent=1) + "\n")
        return 0


@dataclass(frozen=True)
class Compare:
    """Fit and judge every method and ablation on a run's features."""

    run_folder: Positional[Path]
    """folder of a run"""
    data: str | None = None
    """test images: a folder with labels.csv, COCO-format JSON, or miniature (default: the run's)"""
    real_data: str | None = None
    """labelled real training images for the ceiling row, like data"""
    images: Path | None = None
    """folder of the images of a COCO JSON, where it cannot be guessed"""
    seeds: tuple[int, ...] | None = None
    """seeds of the methods; the run's own if left out"""

    def run(self) -> int:
        from dataclasses import replace

        from t2ipal.pipeline import run

        path = self.run_folder / "config.yaml"
        if not path.exists():
            raise UserError(f"{self.run_folder}: holds no run; make one with 't2ipal run'.")
        config = RunConfig.read(path)
        given: dict[str, Any] = {
            "data": self.data,
            "real_data": self.real_data,
            "images": None if self.images is None else str(self.images),
            "seeds": self.seeds,
        }
        config = replace(config, **{k: v for k, v in given.items() if v is not None})
        if config.data is None:
            raise UserError("no test images: give --data FOLDER, a COCO-format JSON, or miniature.")
        run(config, self.run_folder, say=_say)
        return 0


@dataclass(frozen=True)
class Predict:
    """Tag images: files, folders and globs."""

    model: Positional[str]
    """model folder, such as RUN/model, or ORG/NAME on the Hugging Face hub"""
    paths: Positional[tuple[str, ...]]
    """image files, folders (searched through) and glob patterns"""
    top: int | None = None
    """show the K most probable classes; those above their thresholds where not given"""
    format: Literal["table", "jsonl", "csv"] = "table"
    """how to print"""
    heatmaps: Path | None = None
    """folder for one overlay a shown tag"""
    batch_size: int = 16
    """images that go through CLIP together"""
    image_size: int | None = None
    """input size of CLIP, where another than the model was tuned with"""
    crops: int | None = None
    """see each image through so many windows a side too; the model's own number if left out"""
    device: str = "auto"
    """auto, cpu, cuda, mps"""

    def run(self) -> int:
        from t2ipal.tagger import Tagger

        if self.top is not None and self.top < 1:
            raise UserError(f"--top must be at least 1, not {self.top}.")
        files = find_images(self.paths)
        first = next(files, None)
        if first is None:
            raise UserError(f"no image among {', '.join(self.paths)}; check the paths.")
        tagger = Tagger.from_pretrained(
            self.model, device=self.device, image_size=self.image_size, crops=self.crops
        )
        writer = csv.writer(sys.stdout, lineterminator="\n")
        if self.format == "csv":
            writer.writerow(("image", "labels", *tagger.names))
        failed = done = 0
        for tagged in tagger.stream(
            itertools.chain([first], files),
            batch_size=self.batch_size,
            heatmaps=self.heatmaps is not None,
        ):
            if tagged.error is not None:
                _complain(tagged.error)
                failed += 1
                continue
            done += 1
            shown = shown_tags(tagged, self.top)
            if self.heatmaps is not None:
                write_heatmaps(tagged, shown, tagger, self.heatmaps)
            names = [tagger.names[i] for i in shown]
            values = [round(float(tagged.probabilities[i]), 4) for i in shown]
            if self.format == "jsonl":
                scores = dict(
                    zip(tagger.names, tagged.probabilities.round(4).tolist(), strict=True)
                )
                row = {"image": str(tagged.image), "tags": names, "scores": scores}
                print(json.dumps(row, ensure_ascii=False), flush=True)
            elif self.format == "csv":
                scores = tagged.probabilities.round(4).tolist()
                writer.writerow((str(tagged.image), "|".join(names), *scores))
            else:
                pairs = zip(names, values, strict=True)
                tags = ", ".join(f"{name} {value:.2f}" for name, value in pairs)
                print(f"{tagged.image}  {tags or '-'}", flush=True)
        if failed:
            _complain(f"{failed} of {failed + done} images could not be read.")
        return 1 if failed else 0


@dataclass(frozen=True)
class Doctor:
    """Tell what is here, what a run still needs, and how long and large it would be."""

    out: Path = Path("runs")
    """folder in which the run would be"""
    config: Path | None = None
    """YAML file of settings, such as another run's config.yaml; flags win over it"""
    measure: bool = False
    """draw and embed a few images to tell how long it would take"""
    settings: Annotated[RunConfig, tyro.conf.arg(name="")] = field(default_factory=RunConfig)

    def run(self) -> int:
        from t2ipal.doctor import examine

        missing = False
        for finding in examine(self.settings, self.out, measure=self.measure):
            _say(str(finding))
            missing |= finding.missing
        return 1 if missing else 0


_COMMANDS: dict[str, type] = {
    "run": Run,
    "label": Label,
    "generate": Generate,
    "embed": Embed,
    "train": Train,
    "eval": Eval,
    "compare": Compare,
    "predict": Predict,
    "doctor": Doctor,
}


def shown_tags(tagged: Tagged, top: int | None) -> list[int]:
    """Class indices to show, most probable first: the top K, or those above their thresholds."""
    order = [int(i) for i in (-tagged.probabilities).argsort(kind="stable")]
    return order[:top] if top is not None else [i for i in order if tagged.chosen[i]]


def write_heatmaps(tagged: Tagged, shown: list[int], tagger: Tagger, folder: Path) -> None:
    """One overlay a shown tag: FOLDER/IMAGE-CLASS.png."""
    from t2ipal.clip.pictures import load_image
    from t2ipal.files import atomic_path
    from t2ipal.report.overlay import heat_overlay

    assert tagged.image is not None, "predict streams files"
    image = load_image(tagged.image)
    for i in shown:
        heat: np.ndarray = tagged.heatmaps[..., i]
        name = tagger.names[i].replace("/", "-").replace(" ", "-")
        with atomic_path(folder / f"{tagged.image.stem}-{name}.png") as path:
            heat_overlay(image, heat).save(path)


if __name__ == "__main__":
    sys.exit(main())
