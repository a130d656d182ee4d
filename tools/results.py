"""The settings of the paper, small, in one of two worlds: docs/results.md and its figures.

    python -m tools.results --world miniature
    python -m tools.results --world photo --captions captions_val2017.json \\
      --data 'voc2007:VOCdevkit?split=trainval' \\
      --real-data instances_val2017.json --real-folder captioned

All methods of a world see the same cached features. Each measurement is kept in ``--work`` and read
back, so the same command resumes. The page's section about the world is replaced; the rest stays.

Where fewer items are trained on, epochs are multiplied until a fit has at least as many steps as
T2I-PAL on all captions with one image each, so that a curve shows what items are worth, and not
steps. The seed of a fit chooses its shots and hidden labels too.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from tools.ablation import SWITCHES, interval, switched
from tools.lab import Lab, by_test_set, some_captions
from tools.plots import Values, curves, scatter

from t2ipal.clip.backbone import Backbone
from t2ipal.errors import UserError
from t2ipal.files import write_text
from t2ipal.generation.store import read_manifest
from t2ipal.method.train_config import TrainConfig
from t2ipal.metrics.gap import modality_gap
from t2ipal.miniature.world import DISTRACTORS
from t2ipal.report.content import mean, spread
from t2ipal.runs.compare import compare
from t2ipal.runs.config import RunConfig
from t2ipal.runs.fitting import RealItems, own_method
from t2ipal.runs.pipeline import generate_stage, label_stage
from t2ipal.vocabulary import ClassName, Vocabulary

ROOT = Path(__file__).parents[1]
SHOTS = (1, 2, 4, 8, 16)
COPIES = (1, 2, 4, 8)
CAPTIONS = (50, 100, 200, 400, 800)
EPOCHS = TrainConfig(epochs=10)


# --- parts of the page ----------------------------------------------------------------------------


def methods(lab: Lab) -> Iterator[str]:
    """Every method on the same features, and the ceiling; ablations where there are images."""
    comparison = compare(
        lab.main,
        lab.method,
        seeds=lab.seeds,
        ablations=bool(lab.rows),
        ceiling=lab.real(lab.seeds[0]),
    )
    rows = {
        f"{row.name}{f', {row.note}' if row.note else ''}": [row.mean_ap, *row.others]
        for row in comparison.rows
    }
    yield from table("method", ["mAP", *("other domain" for _ in lab.config.also)], rows)


def parts(lab: Lab) -> Iterator[str]:
    """T2I-PAL without one part each: what it loses, with the interval of the difference."""
    default = lab.method("t2i-pal")
    named = {"everything": default}
    named |= {name: switched(default, changes)[0] for name, changes in SWITCHES["parts"].items()}
    columns = ["mAP", *("other domain" for _ in lab.config.also)]
    yield row("t2i-pal", *(cell for name in columns for cell in (name, "change")))
    yield row("---", *(["---:", "---"] * len(columns)))
    whole: list[Values] = []
    for name, method in named.items():
        found = [lab.main.measure(method, seed, name=f"t2i-pal, {name}") for seed in lab.seeds]
        values = by_test_set(found)
        whole = whole or values
        cells = []
        for own, others in zip(values, whole, strict=True):
            change, half = interval([100 * (a - b) for a, b in zip(own, others, strict=True)])
            cells += [figure(own), "" if values is whole else f"{change:+.1f} ± {half:.1f}"]
        yield row(name, *cells)


def copies(lab: Lab) -> Iterator[str]:
    """More images of the same captions, all methods with at least as many steps."""
    names = {"T2I-PAL": "t2i-pal", "generated images alone": "t2i-pal/images"}
    experiments = [lab.main if n == 1 else lab.experiment(lab.bench(copies=n)) for n in COPIES]
    lines = {label: [lab.measure(e, name) for e in experiments] for label, name in names.items()}
    lines["captions alone"] = [lab.measure(lab.main, "t2i-pal/captions")]
    yield from drawn(lab, "copies", "images per caption", [str(n) for n in COPIES], lines)


def caption_counts(lab: Lab) -> Iterator[str]:
    """Fewer captions, with one image each; every class is named by one at least."""
    chosen = [some_captions(lab.captions, count) for count in CAPTIONS]
    experiments = [lab.experiment(lab.bench(rows)) for rows in chosen]
    names = {"T2I-PAL": "t2i-pal", "captions alone": "t2i-pal/captions", "TaI-DPT": "tai-dpt"}
    lines = {label: [lab.measure(e, name) for e in experiments] for label, name in names.items()}
    lines["zero-shot"] = [lab.measure(lab.main, "zero-shot")]
    yield from drawn(lab, "captions", "captions", [str(len(rows)) for rows in chosen], lines)


def few_shot(lab: Lab) -> Iterator[str]:
    """At least so many real images of each class."""
    settings = [(f"{shots} shots", partial(lab.real, shots=shots)) for shots in SHOTS]
    lines = with_real_images(lab, settings)
    yield from drawn(lab, "few-shot", "labelled real images per class", map(str, SHOTS), lines)


def partial_labels(lab: Lab) -> Iterator[str]:
    """All labelled real images, a part of their labels known."""
    settings = [(f"{f:.0%} of the labels", partial(lab.real, fraction=f)) for f in lab.fractions]
    lines = with_real_images(lab, settings)
    places = [f"{100 * f:.0f}" for f in lab.fractions]
    yield from drawn(lab, "partial", "known labels of real images (%)", places, lines)


def modality_gap_map(lab: Lab) -> Iterator[str]:
    """Captions, generated and real images on two principal components, and the distances."""
    bench = lab.main.bench
    sets = {"captions": bench.train_captions, "generated": bench.train_images}
    sets["real"] = lab.main.test
    features = {name: items.global_.numpy() for name, items in sets.items() if items is not None}
    gap = modality_gap(features)
    scatter(lab.image("gap"), gap.points)
    yield f"![Captions and images on two principal components]({lab.link('gap')})"
    yield ""
    yield row("between", "distance of centroids", "told apart, %")
    yield row("---", "---:", "---:")
    for pair in gap.pairs:
        yield row(
            f"{pair.first} and {pair.second}",
            f"{pair.distance:.3f}",
            f"{100 * pair.probe_accuracy:.1f}",
        )


def with_real_images(
    lab: Lab, settings: Sequence[tuple[str, Callable[[int], RealItems]]]
) -> dict[str, list[list[Values]]]:
    """The lines of the paper's figures: methods without real images, and those that take some."""
    whole = own_method(images=bool(lab.rows))
    title = "T2I-PAL" if lab.rows else "T2I-PAL's head on captions"
    flat = {"zero-shot": "zero-shot", "TaI-DPT": "tai-dpt", title: whole}
    lines = {label: [lab.measure(lab.main, name)] for label, name in flat.items()}
    given = {"DualCoOp": "dualcoop/real", "T2I-PAL + real images": "t2i-pal"}
    for label, name in given.items():
        lines[label] = [lab.measure(lab.main, name, point, real) for point, real in settings]
    return lines


# --- how figures are written ----------------------------------------------------------------------


def drawn(
    lab: Lab,
    name: str,
    across: str,
    places: Iterable[str],
    lines: Mapping[str, Sequence[Sequence[Values]]],
) -> Iterator[str]:
    """A figure of the first test set, and the table of what it shows."""
    places = list(places)
    first = {label: [sets[0] for sets in found] for label, found in lines.items()}
    curves(lab.image(name), across, places, first)
    yield f"![mAP against {across}]({lab.link(name)})"
    yield ""
    yield row(across, *places)
    yield row("---", *["---:"] * len(places))
    for label, found in first.items():
        cells = [figure(values) for values in found]
        yield row(label, *(cells if len(cells) > 1 else cells * len(places)))


def figure(values: Values) -> str:
    """Mean and sample deviation in per cent."""
    deviation = spread(values)
    error = "" if math.isnan(deviation) else f" ± {100 * deviation:.1f}"
    return f"{100 * mean(values):.1f}{error}"


def row(*cells: str) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |"


def table(head: str, columns: Sequence[str], rows: Mapping[str, Sequence[Values]]) -> Iterator[str]:
    """Figures in Markdown."""
    yield row(head, *columns)
    yield row("---", *["---:"] * len(columns))
    for name, found in rows.items():
        yield row(name, *map(figure, found))


def with_section(page: str, title: str, lines: Iterable[str]) -> str:
    """A Markdown page with its section of that title replaced, or added at its end."""
    new = "\n".join([f"## {title}", "", *lines]).rstrip() + "\n"
    start = re.search(rf"^## {re.escape(title)}$", page, re.MULTILINE)
    if start is None:
        return f"{page.rstrip()}\n\n{new}" if page.strip() else new
    end = re.compile(r"^## ", re.MULTILINE).search(page, start.end())
    return page[: start.start()] + new + (f"\n{page[end.start() :]}" if end else "")


# --- the worlds -----------------------------------------------------------------------------------

Part = tuple[str, str, Callable[[Lab], Iterator[str]]]
"""Title of a part of the page, what it says before its figures, and what makes these."""

METHODS: Part = (
    "Methods",
    "On the same features, with the same number of epochs. The ceiling is trained on the labelled "
    "real images and nothing else.",
    methods,
)
FEW_SHOT: Part = (
    "Few labelled real images",
    "Real images are added so that each class has at least so many. DualCoOp is trained on them "
    "alone, as in its paper, with as many steps as the others.",
    few_shot,
)
PARTIAL: Part = (
    "Part of the labels",
    "All labelled real images, each label known with this probability.",
    partial_labels,
)
GAP: Part = (
    "Modality gap",
    "The mean of each kind is marked. Told apart: by a linear probe; 50 is chance.",
    modality_gap_map,
)
OF_MINIATURE: tuple[Part, ...] = (
    METHODS,
    ("Parts", "T2I-PAL with one part changed; 95 % intervals of the difference.", parts),
    (
        "Images per caption",
        "More images of the same captions. An epoch is a pass over them, so more images are more "
        "steps too.",
        copies,
    ),
    (
        "Number of captions",
        "One image each. Every class is named by one caption at least.",
        caption_counts,
    ),
    FEW_SHOT,
    PARTIAL,
    GAP,
)
OF_PHOTOS: tuple[Part, ...] = (METHODS, FEW_SHOT, PARTIAL, GAP)


def miniature(options: argparse.Namespace, say: Callable[[str], None]) -> Iterator[Lab]:
    """The demonstration world with VOC's classes, then with all of its own."""
    config = RunConfig(
        classes="voc2007",
        captions=str(options.captions or ROOT / "examples" / "captions.txt"),
        generator="miniature",
        steps=12,
        images_per_caption=max(COPIES),
        data="miniature:1000",
        also=("miniature:style:1000",),
        real_data="miniature:1000",
        seeds=tuple(options.seeds),
        train=EPOCHS,
    )
    voc = Vocabulary.load("voc2007")
    others = (ClassName(one.name, one.words[0], one.words[1:]) for one in DISTRACTORS)
    world = Vocabulary("the demonstration world", (*voc.classes, *others))
    folder = options.work / "miniature"
    backbone = Backbone.load(config)
    captions = label_stage(config, world, folder, say)
    generate_stage(config, world, captions, folder, say, progress=False)
    for vocabulary in (voc, world):
        name = f"miniature-{len(vocabulary)}"
        yield Lab(
            config,
            vocabulary,
            backbone,
            label_stage(config, vocabulary, folder / name, say),
            read_manifest(folder),
            folder,
            folder / name,
            options.page,
            name,
            say,
        )


def photo(options: argparse.Namespace, say: Callable[[str], None]) -> Iterator[Lab]:
    """Photos, with VOC's classes and captions alone."""
    for name in ("captions", "data", "real_data"):
        if getattr(options, name) is None:
            raise UserError(f"--world photo needs --{name.replace('_', '-')}.")
    config = RunConfig(
        classes="voc2007",
        captions=options.captions,
        limit=5000,
        clip="photo",
        generator="none",
        data=options.data,
        real_data=options.real_data,
        real_folder=options.real_folder,
        seeds=tuple(options.seeds),
        train=EPOCHS,
    )
    config.require()
    vocabulary = Vocabulary.load(config.classes)
    folder = options.work / "photo"
    captions = label_stage(config, vocabulary, folder, say)
    backbone = Backbone.load(config)
    yield Lab(
        config, vocabulary, backbone, captions, (), folder, folder, options.page, "photo", say,
        (0.1, 0.3, 0.5, 0.7, 0.9),  # a fit takes half a minute here
    )  # fmt: skip


WORLDS: dict[str, tuple[str, Callable[..., Iterator[Lab]], tuple[tuple[Part, ...], ...]]] = {
    "miniature": ("In the demonstration world", miniature, (OF_MINIATURE, (METHODS, GAP))),
    "photo": ("On photos", photo, (OF_PHOTOS,)),
}


def section(labs: Iterable[Lab], parts: Sequence[Sequence[Part]]) -> Iterator[list[str]]:
    """A world's section, part by part, each as its lines."""
    for lab, own in zip(labs, parts, strict=True):
        bench = lab.main.bench
        classes = f"{len(lab.vocabulary)} classes"
        yield [
            f"{classes}; {len(bench.train_captions)} captions and {bench.generated_images} "
            f"generated images to train on, tested on {lab.main.images.source} "
            f"({len(lab.main.test)} images). mAP in per cent, mean and sample deviation of "
            f"{len(lab.seeds)} seeds.",
            "",
        ]
        for title, text, lines in own:
            lab.say(f"{title}, {classes}")
            yield [f"### {title}, {classes}", "", text, "", *lines(lab), ""]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--world", choices=list(WORLDS), required=True)
    parser.add_argument("--captions", help="captions file; the packaged examples in the miniature")
    parser.add_argument("--data", help="labelled test photos, written as for t2ipal eval")
    parser.add_argument("--real-data", help="labelled photos to train on, likewise")
    parser.add_argument("--real-folder", help="folder of their images, for a COCO JSON")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", type=Path, default=Path("runs/results"), help="for what is kept")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "results.md")
    options = parser.parse_args()
    started = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - started:6.0f} s  {line}", file=sys.stderr, flush=True)

    title, labs, parts = WORLDS[options.world]
    lines: list[str] = []
    try:
        for part in section(labs(options, say), parts):
            lines += part
            page = options.page.read_text(encoding="utf-8") if options.page.exists() else ""
            write_text(options.page, with_section(page, title, lines))
    except UserError as error:
        print(f"results: {error}", file=sys.stderr)
        return 2
    say(f"page {options.page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
