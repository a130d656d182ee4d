"""Every switch of T2I-PAL against its default, on the miniature: which parts help, and by how much?

    python tools/ablation.py --run runs/miniature [--seeds 0 1 2 3 4] [--only loss ...]
    python tools/ablation.py --quick

A switch changes one setting and nothing else. A seed decides about the start and the order of
training, and about the 1,000 test scenes too, so that the spread over seeds contains what another
test set would change. The figures are mAP in per cent, and the difference from the default with the
same seed: its mean and 95 % confidence interval (Student's t over the seeds). Decisions are made on
``dev``, scenes for development; ``style`` (another domain, an icon style that no model has seen) is
printed beside it and guards against tuning to the first.

``--run`` names a finished run (``make run`` leaves one), whose captions and images are used.
``--quick`` makes a small one of its own under ``--work`` and takes few switches, seeds and epochs.
Every measurement is kept in ``--work``; the same command resumes. mAP on held-out images is of
whole images, also where test images are seen through crops.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from scipy.stats import t as student

from t2ipal.clip.backbone import Backbone
from t2ipal.datasets.read import read_labelled_images
from t2ipal.errors import UserError, read_settings
from t2ipal.method.head_config import HeadConfig
from t2ipal.method.methods import MethodConfig
from t2ipal.method.train_config import TrainConfig
from t2ipal.runs.config import RunConfig
from t2ipal.runs.fitting import methods_of
from t2ipal.runs.measure import Experiment
from t2ipal.runs.pipeline import embed_stage, generate_stage, label_stage
from t2ipal.runs.workbench import Workbench
from t2ipal.vocabulary import Vocabulary

DEFAULT = "default"
TESTS = {"dev": "miniature:dev", "style": "miniature:style"}

# Group: switch -> settings, by their paths in HeadConfig, after "train." in TrainConfig and after
# "images." in Images.
SWITCHES: dict[str, dict[str, dict[str, Any]]] = {
    "parts": {
        "no adapter": {"adapter.kind": "none"},
        "no prototypes": {"prototypes.enabled": False},
        "no heatmap": {"heatmap.enabled": False},
        "prompts only": {"adapter.kind": "none", "prototypes.enabled": False},
        "no global branch": {"fusion.global_weight": 0.0},
        "no local branch": {"fusion.local_weight": 0.0},
    },
    "items": {
        "captions": {
            "train.train_on": "captions",
            "adapter.kind": "none",
            "prototypes.enabled": False,
        },
        "images": {"train.train_on": "images"},
        "unseen labels unknown": {"train.verify.kind": "unknown"},
        "unseen labels dropped": {"train.verify.kind": "drop"},
        "unseen labels soft": {"train.verify.kind": "soft"},
        "caption weight 0.25": {"train.caption_weight": 0.25},
        "caption weight 0.75": {"train.caption_weight": 0.75},
    },
    "generated images": {
        "2 per caption": {"images.copies": 2},
        "inspected, rejected ones retried": {"images.inspect": True},
    },
    "prompts": {
        "per class": {"prompts.per_class": True},
        "M = 8": {"prompts.context_tokens": 8},
        "M = 16": {"prompts.context_tokens": 16},
        "random start": {"prompts.start": "random"},
        "class in the middle": {"prompts.class_position": "middle"},
        "class in front": {"prompts.class_position": "front"},
        "frozen": {"train.lr_prompts": 0.0},
    },
    "heatmap": {
        "images 1/20": {"heatmap.image_temperature": 1 / 20},
        "images 1/80": {"heatmap.image_temperature": 1 / 80},
        "captions 1/25": {"heatmap.caption_temperature": 1 / 25},
        "captions 1/100": {"heatmap.caption_temperature": 1 / 100},
    },
    "prototypes": {
        "K = 2": {"prototypes.per_class": 2},
        "K = 4": {"prototypes.per_class": 4},
        "K = 4, maximum": {"prototypes.per_class": 4, "prototypes.aggregation": "max"},
        "K = 4, mean": {"prototypes.per_class": 4, "prototypes.aggregation": "mean"},
        "K = 4, from means": {"prototypes.per_class": 4, "prototypes.start": "mean"},
        "from text": {"prototypes.start": "text"},
        "frozen": {"train.lr_prototypes": 0.0},
    },
    "adapter": {
        "cache of global features": {
            "adapter.kind": "cache",
            "adapter.alpha": 1.0,
            "adapter.beta": 5.5,
        },
        "bottleneck": {"adapter.kind": "bottleneck"},
        "projection": {"adapter.kind": "projection", "adapter.ratio": 0.3, "adapter.beta": 30.0},
        "alpha 0.5": {"adapter.alpha": 0.5},
        "alpha 0.5, no prototypes": {"adapter.alpha": 0.5, "prototypes.enabled": False},
        "alpha 1": {"adapter.alpha": 1.0},
        "alpha 1, no prototypes": {"adapter.alpha": 1.0, "prototypes.enabled": False},
        "beta 5": {"adapter.beta": 5.0},
        "beta 80": {"adapter.beta": 80.0},
        "4 per class": {"adapter.per_class": 4},
        "64 per class": {"adapter.per_class": 64},
        "frozen keys": {"adapter.learn_keys": False},
    },
    "loss": {
        "pair-normalised hinge": {"train.loss.kind": "pair-hinge"},
        "log-sum-exp": {"train.loss.kind": "log-sum-exp", "train.loss.margin": 0.0},
        "log-sum-exp, margin 1": {"train.loss.kind": "log-sum-exp"},
        "asymmetric": {"train.loss.kind": "asymmetric"},
        "BCE": {"train.loss.kind": "bce"},
        "logit scale 1": {"logit_scale": 1.0},
        "logit scale 16": {"logit_scale": 16.0},
    },
    "fusion": {
        "standardised": {"fusion.kind": "standardised"},
        "global 0.5": {"fusion.global_weight": 0.5},
        "local 2": {"fusion.local_weight": 2.0},
        "prototypes 0.3": {"fusion.prototype_weight": 0.3},
    },
    "test images": {
        "2 x 2 crops": {"images.crops": 2},
        "2 x 2 crops, mean": {"images.crops": 2, "fusion.crops": "mean"},
        "input 3/4": {"images.scale": 0.75},
        "input 3/2": {"images.scale": 1.5},
    },
    "training": {
        "best epoch on held-out images": {"train.select": "best"},
        "EMA 0.98": {"train.ema": 0.98},
        "learning rates x 3": {
            "train.lr_prompts": 3e-3,
            "train.lr_prototypes": 3e-3,
            "train.lr_adapter": 3e-3,
        },
        "SGD": {"train.optimiser": "sgd"},
    },
    # Of few classes a batch of the default size shows nearly all, so none would be left out.
    "classes per step": {
        "all, batch 8": {"train.batch_size": 8},
        "25, batch 8": {"train.batch_size": 8, "train.classes_per_step": 25},
        "10, batch 8": {"train.batch_size": 8, "train.classes_per_step": 10},
    },
}
QUICK = ("parts", "items", "fusion")


@dataclass(frozen=True)
class Images:
    """How images are generated (how many per caption, inspected or not) and seen.

    ``crops`` are crops per side on test images, ``scale`` is CLIP's input size against its own.
    """

    copies: int = 1
    inspect: bool = False
    crops: int = 0
    scale: float = 1.0

    @property
    def generated(self) -> tuple[int, bool]:
        """What decides about the generated images."""
        return self.copies, self.inspect


def switched(method: MethodConfig, settings: dict[str, Any]) -> tuple[MethodConfig, Images]:
    """Method and images with some settings changed; an unknown or bad one is a UserError."""
    parts: dict[str, dict[str, Any]] = {
        "head": asdict(method.head),
        "train": asdict(method.train or TrainConfig()),
        "images": asdict(Images()),
    }
    for path, value in settings.items():
        first, _, rest = path.partition(".")
        target, inner = (parts[first], rest) if first in parts else (parts["head"], path)
        *parents, name = inner.split(".")
        for parent in parents:
            target = target[parent]
        if name not in target:
            raise UserError(f"there is no setting {path!r}.")
        target[name] = value
    head = read_settings(HeadConfig, parts["head"])
    train = read_settings(TrainConfig, parts["train"])
    return replace(method, head=head, train=train), Images(**parts["images"])


def switches(
    default: MethodConfig, groups: list[str]
) -> Iterator[tuple[str, str, MethodConfig, Images]]:
    """(group, switch, method, images), the default first."""
    yield DEFAULT, "t2i-pal", default, Images()
    for group in groups:
        for name, settings in SWITCHES[group].items():
            method, images = switched(default, settings)
            yield group, name, replace(method, name=f"{group}: {name}"), images


def interval(values: list[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % confidence interval."""
    if len(values) < 2:
        return values[0], math.nan
    half = student.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return statistics.mean(values), float(half)


class Ablation:
    """Measures switches with each seed; what was measured in ``folder`` before is read back."""

    def __init__(
        self,
        bench_of: Callable[[Images], Workbench],
        folder: Path,
        scenes: int,
        say: Callable[[str], None],
    ) -> None:
        self.bench_of, self.folder, self.scenes, self.say = bench_of, folder, scenes, say
        self._experiments: dict[tuple[int, Images], Experiment] = {}

    def measured(
        self, method: MethodConfig, seed: int, images: Images = Images()
    ) -> dict[str, float]:
        """mAP in per cent on the test sets of the seed, and on the held-out images."""
        if (seed, images) not in self._experiments:
            bench = self.bench_of(images)
            test, *also = (
                read_labelled_images(
                    f"{spec}:{self.scenes}",
                    bench.vocabulary,
                    cache=self.folder / "scenes",
                    seed=seed,
                )
                for spec in TESTS.values()
            )
            self._experiments[seed, images] = Experiment(
                bench, test, self.folder, also=also, say=self.say
            )
        found = self._experiments[seed, images].measure(method, seed)
        evaluations = (found.evaluation, *found.others)
        sets = zip(TESTS, evaluations, strict=True)
        row = {name: 100 * evaluation.mean_average_precision for name, evaluation in sets}
        return row | {"held-out": math.nan if found.held_out_map is None else found.held_out_map}


def table(
    ablation: Ablation, default: MethodConfig, groups: list[str], seeds: list[int]
) -> Iterator[str]:
    """The lines of the table in Markdown, each as soon as it is known."""
    yield f"| switch | {' | '.join(f'{name} | change' for name in TESTS)} | held-out |"
    yield f"| --- |{' ---: | --- |' * len(TESTS)} ---: |"
    base = [ablation.measured(default, seed) for seed in seeds]
    for group, name, method, images in switches(default, groups):
        rows = [ablation.measured(method, seed, images) for seed in seeds]
        cells = []
        for test in TESTS:
            cells.append(f"{statistics.mean(row[test] for row in rows):.1f}")
            change, half = interval(
                [row[test] - b[test] for row, b in zip(rows, base, strict=True)]
            )
            cells.append("" if group == DEFAULT else f"{change:+.1f} ± {half:.1f}")
        cells.append(f"{statistics.mean(row['held-out'] for row in rows):.1f}")
        label = "**t2i-pal, its defaults**" if group == DEFAULT else f"{group}: {name}"
        yield f"| {label} | {' | '.join(cells)} |"


def workbenches(
    config: RunConfig, run: Path, work: Path, say: Callable[[str], None]
) -> Callable[[Images], Workbench]:
    """How images are made and seen -> the features of such a run, made now where missing."""
    vocabulary = Vocabulary.load(config.classes)
    captions = label_stage(config, vocabulary, run, say)
    own = Backbone.load(config).image_size

    @cache
    def bench_of(images: Images) -> Workbench:
        size = config.image_size if images.scale == 1 else round(images.scale * own)
        wanted = replace(config, image_size=size, crops=images.crops)
        folder = run
        if images.generated != Images().generated:
            wanted = replace(wanted, images_per_caption=images.copies, inspect=images.inspect)
            folder = work / f"images-{images.copies}{'-inspected' if images.inspect else ''}"
        generate_stage(wanted, vocabulary, captions, folder, say, progress=True)
        return embed_stage(wanted, vocabulary, captions, folder, say, progress=True)

    return bench_of


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, default=Path("runs/miniature"), help="a finished run")
    parser.add_argument("--work", type=Path, default=Path("runs/ablation"), help="for the results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--only", nargs="+", choices=list(SWITCHES), default=list(SWITCHES))
    parser.add_argument("--scenes", type=int, default=1000, help="test scenes a seed")
    parser.add_argument("--quick", action="store_true", help="a small run and table, in 3 minutes")
    arguments = parser.parse_args()

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    try:
        if arguments.quick:
            arguments.run = arguments.work / "quick"
            arguments.seeds, arguments.only, arguments.scenes = [0, 1], list(QUICK), 500
            config = RunConfig(
                classes="voc2007",
                compose=240,
                steps=8,
                batch_size=16,
                train=replace(TrainConfig(), epochs=6),
            )
        else:
            config = RunConfig.read(arguments.run / "config.yaml")
        bench_of = workbenches(config, arguments.run, arguments.work, say)
        bench = bench_of(Images())
        ablation = Ablation(bench_of, arguments.work, arguments.scenes, say)
        default = methods_of(config)("t2i-pal")
        seeds = ", ".join(map(str, arguments.seeds))
        print(
            f"{config.train.epochs} epochs, seeds {seeds}, {arguments.scenes} scenes per test set "
            f"and seed, {0 if bench.train_images is None else len(bench.train_images)} "
            "generated images\n"
        )
        for line in table(ablation, default, arguments.only, arguments.seeds):
            print(line, flush=True)
    except UserError as error:
        print(f"ablation: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
