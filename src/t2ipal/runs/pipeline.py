"""A run: its stages in one folder, one after the other; each resumes and each can run alone.

    label     captions file, classes -> captions.jsonl   labels 1/0/unknown of each caption
    generate  captions.jsonl -> images/ images.jsonl     one row per generated image
    embed     images, captions -> features/              through the frozen CLIP
    train     features/ -> model/ metrics.jsonl          the tuned head, thresholds, model card
    compare   features/, test images -> measurements.jsonl compare.json
    report    all of it -> report.html images.png

With the generator none there is no generate stage, and captions alone are trained on.
config.yaml has the settings, vocabulary.yaml the classes, made_from.json what each product was
made from, log.txt what was said. With other settings only what depends on them is made anew; images
of another generator are not replaced unasked.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from t2ipal.captions.labelled import (
    LabelledCaption,
    LabelSummary,
    read_labelled,
)
from t2ipal.captions.sources import read_captions
from t2ipal.clip.backbone import Backbone
from t2ipal.clip.clip_settings import ClipSettings
from t2ipal.clip.load import find
from t2ipal.datasets.labelled_images import LabelledImages
from t2ipal.datasets.read import read_labelled_images
from t2ipal.errors import UserError, listed, settings_of
from t2ipal.files import sha256_file, sha256_text, write_jsonl, write_text
from t2ipal.files.broken import Broken
from t2ipal.files.lock import locking
from t2ipal.generation.diffusion.source import locate
from t2ipal.generation.generate import generate
from t2ipal.generation.inspector import ClipInspector
from t2ipal.generation.store import read_manifest
from t2ipal.generation.summary import GenerateSummary
from t2ipal.metrics.uncertainty import bootstrap_map
from t2ipal.runs.compare import Comparison, compare
from t2ipal.runs.config import CaptionSettings, RunConfig
from t2ipal.runs.fitting import (
    RealItems,
    Say,
    class_figures,
    fit_tagger,
    methods_of,
    own_method,
    refuse_one_class,
)
from t2ipal.runs.folder import changed_settings, logged, made_from, note_made
from t2ipal.runs.held_out import hold_out
from t2ipal.runs.labelling import composed_for_missing, labelled_captions
from t2ipal.runs.measure import Experiment
from t2ipal.runs.real_images import SCENES, read_real_images
from t2ipal.runs.run_report import write_report
from t2ipal.runs.workbench import Workbench
from t2ipal.tagger import CONFIG
from t2ipal.tagger.card import weak_classes
from t2ipal.tagger.tagger import Tagger
from t2ipal.vocabulary import Vocabulary

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunResult:
    """What a run left behind; ``computed`` counts the measurements made now, not read back."""

    model: Path
    report: Path
    comparison: Comparison | None
    computed: int


@locking
def run(
    config: RunConfig,
    out: str | Path,
    *,
    overwrite: bool = False,
    say: Say = log.info,
    progress: bool = True,
) -> RunResult:
    """Label, generate, embed, train, compare and report in one folder; resumes.

    Started again with other settings, or with classes or captions that have changed, it makes
    anew what depends on them and keeps the rest.

    Args:
        overwrite: replace images that were generated with other settings.

    Raises:
        UserError: bad input, or ``out`` holds images generated with other settings.
    """
    config = config.with_preset()
    config.require()
    out = Path(out)
    vocabulary = Vocabulary.load(config.classes)
    refuse_one_class(vocabulary)
    changed = changed_settings(config, out, overwrite=overwrite)
    # Before the folder belongs to these settings: a mistake among them can then be corrected.
    # And before hours of generation: a mistake in what comes later is found first.
    if config.captions is not None:
        read_captions(config.captions, limit=1)
    broken = Broken.of(config)
    photos = read_real_images(config, vocabulary, out / SCENES, broken)
    test = ceiling = None
    if config.also and config.data is None:
        raise UserError("--also names further test images: name the first with --data.")
    also = [_labelled(config, vocabulary, out, spec, broken, seed=0) for spec in config.also]
    if config.data is not None:
        test = _labelled(config, vocabulary, out, config.data, broken, seed=0)
    if config.real_data is not None:
        # Another seed than the test images', so that the miniature renders other scenes.
        ceiling = _labelled(config, vocabulary, out, config.real_data, broken, seed=1)
    find(config.clip)
    if config.generator is not None and config.generates:
        locate(config.generator, config.revision)
    config.write(out / "config.yaml")
    write_text(out / "vocabulary.yaml", vocabulary.to_yaml())
    say = logged(say, out / "log.txt")
    if changed:
        say("changed since the last start: " + "; ".join(changed))
    for images in filter(None, (test, *also, ceiling)):
        for line in images.lines():
            say(line)
    for line in photos.read if photos is not None else ():
        say(line)

    captions = label_stage(config, vocabulary, out, say)
    summary = None
    if config.generates:
        summary = generate_stage(config, vocabulary, captions, out, say, progress, overwrite)
    else:
        say("generate: skipped, the generator is none: there are no generated images")
    bench = embed_stage(
        config,
        vocabulary,
        captions,
        out,
        say,
        progress,
        broken=broken,
        generated=config.generates,
    )
    experiment = None
    if test is not None:
        experiment = Experiment(bench, test, out, also=also, say=say)
    real = RealItems.of(bench, photos, experiment.test if experiment else None, say)
    tagger = _train_stage(config, bench, experiment, real, out, say)
    comparison = _compare_stage(config, experiment, real, ceiling, out, say) if experiment else None
    report = write_report(
        out,
        config=config,
        tagger=tagger,
        captions=captions,
        images=read_manifest(out) if config.generates else (),
        experiment=experiment,
        comparison=comparison,
        summary=summary,
    )
    for line in (*weak_classes(tagger.about), *broken.write(out)):
        say(line)
    say(f"model   {out / 'model'}")
    say(f"report  {report}")
    return RunResult(out / "model", report, comparison, experiment.computed if experiment else 0)


def label_stage(
    config: RunConfig, vocabulary: Vocabulary, out: Path, say: Say
) -> Sequence[LabelledCaption]:
    """Captions file or composed captions -> captions.jsonl, with the labels of each.

    Raises:
        UserError: no caption names a class, or too few do.
    """
    path = out / "captions.jsonl"
    given = asdict(settings_of(CaptionSettings, config)) | {"complete": config.complete}
    given["classes"] = vocabulary.digest
    if config.captions is not None:
        given["captions"] = sha256_file(config.captions)
    digest = sha256_text(json.dumps(given))
    if path.exists():
        if made_from(out).get(path.name) == digest:
            before = read_labelled(path)
            say(f"label: {len(before)} captions, done before")
            return before
        say("label: classes or captions have changed, so captions are labelled anew")
    rows = list(labelled_captions(config, vocabulary))
    summary = LabelSummary.of(rows, vocabulary)
    for line in summary.lines():
        say(line)
    if not any(row.labels for row in rows):
        raise UserError(
            f"{config.captions or 'the composed captions'}: no caption names any of the "
            f"{len(vocabulary)} classes; check --classes, or add synonyms to its YAML file."
        )
    rows += composed_for_missing(rows, vocabulary, config, say)
    hold_out(rows, vocabulary)  # refuses too few
    write_jsonl(path, rows)
    note_made(out, path.name, digest)
    return rows


def generate_stage(
    config: RunConfig,
    vocabulary: Vocabulary,
    captions: Sequence[LabelledCaption],
    out: Path,
    say: Say,
    progress: bool,
    overwrite: bool = False,
) -> GenerateSummary:
    """captions.jsonl -> images/ and images.jsonl, a row per generated image.

    Raises:
        UserError: no caption names some class, so that no image would show it.
    """
    named = {name for row in captions for name in row.labels}
    missing = [name for name in vocabulary.names if name not in named]
    if missing and config.head.needs_images and config.real_images is None:
        raise UserError(
            f"no caption names {listed(missing)}, and training needs images of every class: add "
            "captions, have some composed with --complete N, or take the class out."
        )
    started = time.monotonic()
    inspector = None
    if config.inspect:
        inspector = ClipInspector(settings_of(ClipSettings, config), vocabulary, config.patience)
    assert config.generator is not None, "with_preset names one"
    summary = generate(
        captions,
        config.generator,
        out,
        images_per_caption=config.images_per_caption,
        seed=config.seed,
        batch_size=config.batch_size,
        settings=config,
        revision=config.revision,
        max_retries=config.max_retries,
        inspector=inspector,
        overwrite=overwrite,
        progress=progress,
    )
    for line in summary.lines():
        say(line)
    log.info("generate took %.1f s", time.monotonic() - started)
    return summary


def embed_stage(
    config: RunConfig,
    vocabulary: Vocabulary,
    captions: Sequence[LabelledCaption],
    out: Path,
    say: Say,
    progress: bool,
    *,
    generated: bool = True,
    pool_positions: bool = True,
    broken: Broken | None = None,
) -> Workbench:
    """captions.jsonl, images.jsonl -> features/: what the frozen CLIP makes of them.

    Args:
        generated: whether there are generated images; captions alone are trained on otherwise.
        pool_positions: as :class:`Backbone` takes it.
        broken: told of images that cannot be read, which are an error if omitted.
    """
    backbone = Backbone.load(config, pool_positions=pool_positions)
    bench = Workbench(
        vocabulary,
        backbone,
        out / "features",
        captions,
        read_manifest(out) if generated else (),
        out,
        crops=config.crops,
        broken=broken,
        progress=progress,
    )
    say(
        f"embed: {bench.generated_images} generated images and "
        f"{len(bench.train_captions)} captions to train on, "
        f"{len(bench.valid)} {'generated images' if generated else 'captions'} held out"
    )
    return bench


def _train_stage(
    config: RunConfig,
    bench: Workbench,
    experiment: Experiment | None,
    real: RealItems | None,
    out: Path,
    say: Say,
) -> Tagger:
    """features/ -> model/, metrics.jsonl: the head tuned with the run's seed, with thresholds.

    With test images its row of measurements.jsonl, too, which its card repeats: the table has the
    saved model in it, and does not fit it again.
    """
    folder = out / "model"
    method = methods_of(config)(own_method(images=config.generates or real is not None))
    items = real.items if real is not None else None
    digest = sha256_text(bench.digest(items), method.identity, str(config.seed), str(config.crops))
    there = (folder / CONFIG).exists()
    if there and made_from(out).get(folder.name) == digest:
        say("train: model, done before")
        tagger = Tagger.from_pretrained(folder, device=config.device, precision=config.precision)
    else:
        if there:
            say("train: features, labels or settings have changed, so the model is fitted anew")
            note_made(out, folder.name, None)
        tagger = fit_tagger(bench, method, config.seed, real=real, metrics=out / "metrics.jsonl")
        tagger.about.update(
            captions=Path(config.captions).name
            if config.captions
            else f"{config.compose} composed",
            generator=config.generator,
            generated_images=bench.generated_images,
            classes=class_figures(bench, tagger, config.patience),
        )
        tagger.save_pretrained(folder)
        note_made(out, folder.name, digest)
        held_out = "generated images" if config.generates else "captions"
        say(
            f"train: {method.name}, mAP {tagger.about['held_out_map']} on held-out {held_out}, "
            f"kept epoch {tagger.about['epoch']}"
        )
    if experiment is not None:
        found = experiment.measure(method, config.seed, real=real, tagger=tagger)
        row = found.evaluation.to_json()
        scores = {"source": experiment.images.source}
        scores |= {key: row[key] for key in ("images", "mAP", "classes")}
        scores |= {key: row["top_k"][key] for key in ("rule", "CF1", "OF1")}
        known = tagger.about.get("scores", {})
        if {key: known[key] for key in known if key != "interval"} != scores:
            tagger.about["scores"] = scores | {"interval": _interval(tagger, experiment)}
            tagger.save_pretrained(folder)
    return tagger


def _interval(tagger: Tagger, experiment: Experiment) -> tuple[float, float] | None:
    """Ends of the 95 % interval of mAP on the test images, if it has one."""
    scores = tagger.clip.head.score_items(experiment.test).cpu().numpy()
    ends = bootstrap_map(scores, experiment.test.targets.numpy())
    return None if math.isnan(sum(ends)) else (float(ends[0]), float(ends[1]))


def _compare_stage(
    config: RunConfig,
    experiment: Experiment,
    real: RealItems | None,
    images: LabelledImages | None,
    out: Path,
    say: Say,
) -> Comparison:
    """features/, test images -> measurements.jsonl, compare.json: the table of methods.

    ``images`` are the labelled images of the ceiling row, if there is one.
    """
    ceiling = None
    if images is not None:
        ceiling = RealItems(experiment.bench.labelled(images), images.source)
    say(f"compare: every method, seeds {', '.join(map(str, config.seeds))}")
    comparison = compare(
        experiment,
        methods_of(config),
        seeds=config.seeds,
        ablations=config.ablations,
        real=real,
        ceiling=ceiling,
    )
    write_text(out / "compare.json", json.dumps(comparison.to_json(), indent=1) + "\n")
    if not experiment.computed:
        say("compare: every method was evaluated before")
    for line in (*comparison.lines(), "", *comparison.gap.lines()):
        say(line)
    return comparison


def _labelled(
    config: RunConfig, vocabulary: Vocabulary, out: Path, spec: str, broken: Broken, *, seed: int
) -> LabelledImages:
    return read_labelled_images(
        spec,
        vocabulary,
        images=config.data_folder,
        cache=out / SCENES,
        seed=seed,
        broken=broken,
    ).readable(broken)
