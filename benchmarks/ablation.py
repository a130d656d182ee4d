"""Every switch of T2I-PAL against its default, on the miniature: which parts help, and by how much?

    python benchmarks/ablation.py --run runs/miniature [--seeds 0 1 2 3 4] [--only loss ...]
    python benchmarks/ablation.py --quick

A switch changes one setting and nothing else. A seed decides about the start and the order of
training, and about the 1,000 test scenes too, so that the spread over seeds contains what another
test set would change. The figures are mAP in per cent, and the difference from the default with the
same seed: its mean and 95 % confidence interval (Student's t over the seeds). What decides is the
first test set; ``hard`` (small things, more of them, rare classes) is printed beside it and guards
against tuning to the first.

``--run`` names a finished run (``make run`` leaves one), whose captions and drawings are used.
``--quick`` makes a small one of its own under ``--work`` and takes few switches, seeds and epochs.
Every result is kept in ``--work``; a second start goes on where the first ended.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

from t2ipal.benchmarks.labelled import read_labelled_images
from t2ipal.benchmarks.metrics import average_precision
from t2ipal.config import RunConfig
from t2ipal.errors import UserError
from t2ipal.files import append_jsonl, read_jsonl, sha256_text
from t2ipal.fitting import backbone_of, methods_of
from t2ipal.pipeline import embed_stage, generate_stage, label_stage
from t2ipal.recognizer.baselines import MethodConfig
from t2ipal.recognizer.config import HeadConfig, TrainConfig
from t2ipal.recognizer.head import T2IPALHead
from t2ipal.recognizer.items import ItemSet
from t2ipal.vocabulary import Vocabulary
from t2ipal.workbench import Workbench, items_digest

DEFAULT = "default"
TESTS = {"test": "miniature:test", "hard": "miniature:hard"}

# Group: switch -> settings, by their paths in HeadConfig, after "train." in TrainConfig and after
# "input." in View.
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
        "bottleneck": {"adapter.kind": "bottleneck"},
        "projection": {"adapter.kind": "projection", "adapter.ratio": 0.3, "adapter.beta": 30.0},
        "alpha 0.3": {"adapter.alpha": 0.3},
        "alpha 3": {"adapter.alpha": 3.0},
        "beta 2": {"adapter.beta": 2.0},
        "beta 15": {"adapter.beta": 15.0},
        "4 a class": {"adapter.per_class": 4},
        "64 a class": {"adapter.per_class": 64},
        "typical images": {"adapter.selection": "typical"},
        "random images": {"adapter.selection": "random"},
        "frozen keys": {"adapter.learn_keys": False},
        "values by rows": {"adapter.values": "rows"},
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
        "2 x 2 crops": {"input.crops": 2},
        "2 x 2 crops, mean": {"input.crops": 2, "fusion.crops": "mean"},
        "3 x 3 crops": {"input.crops": 3},
        "input 3/4": {"input.scale": 0.75},
        "input 3/2": {"input.scale": 1.5},
    },
    "training": {
        "last epoch": {"train.select": "last"},
        "EMA 0.98": {"train.ema": 0.98},
        "learning rates x 3": {
            "train.lr_prompts": 3e-3,
            "train.lr_prototypes": 3e-3,
            "train.lr_adapter": 3e-3,
        },
        "SGD": {"train.optimiser": "sgd"},
    },
}
QUICK = ("parts", "items", "fusion")


@dataclass(frozen=True)
class View:
    """How test images are looked at: windows a side, and CLIP's input size against its own."""

    crops: int = 0
    scale: float = 1.0


def switched(method: MethodConfig, settings: dict[str, Any]) -> tuple[MethodConfig, View]:
    """The method and the view with some settings changed; an unknown or bad one is a UserError."""
    parts: dict[str, dict[str, Any]] = {
        "head": method.head.to_dict(),
        "train": (method.train or TrainConfig()).to_dict(),
        "input": asdict(View()),
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
    head, train = HeadConfig.from_dict(parts["head"]), TrainConfig.from_dict(parts["train"])
    return replace(method, head=head, train=train), View(**parts["input"])


def switches(
    default: MethodConfig, groups: list[str]
) -> Iterator[tuple[str, str, MethodConfig, View]]:
    """(group, switch, method, view), the default first."""
    yield DEFAULT, "t2i-pal", default, View()
    for group in groups:
        for name, settings in SWITCHES[group].items():
            yield group, name, *switched(default, settings)


def mean_ap(head: T2IPALHead, items: ItemSet) -> float:
    """mAP in per cent."""
    per_class = average_precision(head.score_items(items).cpu().numpy(), items.targets.numpy())
    return 100 * float(np.nanmean(per_class))


def interval(values: list[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % confidence interval."""
    if len(values) < 2:
        return values[0], math.nan
    half = student.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return statistics.mean(values), float(half)


class Ablation:
    """Fits and judges switches, and keeps what it found in ``folder/ablation.jsonl``."""

    def __init__(self, bench_of: Callable[[View], Workbench], folder: Path, scenes: int) -> None:
        self.bench_of, self.folder, self.scenes = bench_of, folder, scenes
        self.bench = bench_of(View())
        self.journal = folder / "ablation.jsonl"
        rows = read_jsonl(self.journal) if self.journal.exists() else ()
        self.known = {row["key"]: row for _, row in rows}
        self._sets: dict[tuple[int, View], dict[str, ItemSet]] = {}

    def sets(self, seed: int, view: View) -> dict[str, ItemSet]:
        """The test sets of a seed and the held-out drawings, drawn and embedded once."""
        if (seed, view) not in self._sets:
            bench = self.bench_of(view)
            found = self._sets[seed, view] = {}
            for name, spec in TESTS.items():
                images = read_labelled_images(
                    f"{spec}:{self.scenes}",
                    bench.vocabulary,
                    cache=self.folder / "scenes",
                    seed=seed,
                )
                found[name] = bench.labelled(images, judged=True)
            found["drawings"] = bench.valid
        return self._sets[seed, view]

    def judged(self, method: MethodConfig, seed: int, view: View = View()) -> dict[str, float]:
        """mAP on each test set and on the held-out drawings."""
        sets = self.sets(seed, view)
        digests = [items_digest(items) for items in sets.values()]
        key = sha256_text(self.bench.digest, method.identity, str(seed), *digests)
        if key not in self.known:
            started = time.perf_counter()
            fitted = self.bench.fit(method, seed)
            found = {name: mean_ap(fitted.head, items) for name, items in sets.items()}
            seconds = time.perf_counter() - started
            row = {"key": key, "seed": seed, "seconds": round(seconds, 1), **found}
            append_jsonl(self.journal, row)
            self.known[key] = row
        return self.known[key]


def table(
    ablation: Ablation, default: MethodConfig, groups: list[str], seeds: list[int]
) -> Iterator[str]:
    """The lines of the table in Markdown, each as soon as it is known."""
    yield f"| switch | {' | '.join(f'{name} | change' for name in TESTS)} | drawings |"
    yield f"| --- |{' ---: | --- |' * len(TESTS)} ---: |"
    base = [ablation.judged(default, seed) for seed in seeds]
    for group, name, method, view in switches(default, groups):
        rows = [ablation.judged(method, seed, view) for seed in seeds]
        cells = []
        for test in TESTS:
            cells.append(f"{statistics.mean(row[test] for row in rows):.1f}")
            change, half = interval(
                [row[test] - b[test] for row, b in zip(rows, base, strict=True)]
            )
            cells.append("" if group == DEFAULT else f"{change:+.1f} ± {half:.1f}")
        cells.append(f"{statistics.mean(row['drawings'] for row in rows):.1f}")
        label = "**t2i-pal, its defaults**" if group == DEFAULT else f"{group}: {name}"
        yield f"| {label} | {' | '.join(cells)} |"


def workbenches(
    config: RunConfig, run: Path, say: Callable[[str], None]
) -> Callable[[View], Workbench]:
    """View to the features of a run, made now where they are missing."""
    vocabulary = Vocabulary.load(config.classes)
    captions = label_stage(config, vocabulary, run, say)
    generate_stage(config, vocabulary, captions, run, say, progress=True)
    own = backbone_of(config, config.clip).image_size

    @cache
    def bench_of(view: View) -> Workbench:
        size = None if view.scale == 1 else round(view.scale * own)
        seen = replace(config, image_size=size or config.image_size, crops=view.crops)
        return embed_stage(seen, vocabulary, captions, run, say, progress=True)

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
        bench_of = workbenches(config, arguments.run, say)
        bench, ablation = bench_of(View()), Ablation(bench_of, arguments.work, arguments.scenes)
        default = methods_of(config)("t2i-pal")
        seeds = ", ".join(map(str, arguments.seeds))
        print(
            f"{config.train.epochs} epochs, seeds {seeds}, {arguments.scenes} scenes a test set "
            f"and seed, {0 if bench.train_images is None else len(bench.train_images)} drawings\n"
        )
        for line in table(ablation, default, arguments.only, arguments.seeds):
            print(line, flush=True)
    except UserError as error:
        print(f"ablation: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
