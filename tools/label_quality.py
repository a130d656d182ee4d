"""How good are the labels that captions give? Compare them with the classes really in the images.

    python tools/label_quality.py --captions captions_val2017.json --labels labels.json

``--captions`` is a COCO captions JSON; ``--labels`` a JSON ``{"classes": [names], "images": {file
name: [class index, ...]}}`` with everything that is really in those images. Each pair of a caption
and a class that it is said to name is correct when the image shows the class; a pair that is really
there and not named is missed. Unknown counts as not named. Three ways of labelling are compared:

* names: the bare class names and their plurals, word by word;
* words: the vocabulary's names and synonyms with their plurals, longest first, in any context;
* filter: t2ipal's noun filter.

The images are also split in two halves (every second one in the order of file names), so that a
figure on the half that nobody developed on stands beside the other.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from t2ipal.captions.nouns.noun_filter import NounFilter
from t2ipal.vocabulary import Vocabulary


@dataclass(frozen=True)
class Item:
    """A caption and the classes its image really shows."""

    file: str
    text: str
    present: frozenset[str]


@dataclass(frozen=True)
class Quality:
    """Counts of (caption, class) pairs."""

    right: int
    wrong: int
    missed: int
    unknown: int

    @property
    def precision(self) -> float:
        return self.right / max(self.right + self.wrong, 1)

    @property
    def recall(self) -> float:
        return self.right / max(self.right + self.missed, 1)

    def line(self, title: str) -> str:
        f1 = 2 * self.precision * self.recall / max(self.precision + self.recall, 1e-9)
        return (
            f"{title:28s} precision {self.precision:.3f}  recall {self.recall:.3f}  F1 {f1:.3f}  "
            f"right {self.right:5d}  wrong {self.wrong:4d}  missed {self.missed:5d}  "
            f"unknown {self.unknown:4d}"
        )


Labeller = Callable[[str], tuple[frozenset[str], frozenset[str]]]


def read_items(captions: Path, labels: Path) -> tuple[list[Item], tuple[str, ...]]:
    """Captions whose image is labelled, in the order of file names and annotations."""
    truth = json.loads(labels.read_text(encoding="utf-8"))
    names = tuple(truth["classes"])
    coco = json.loads(captions.read_text(encoding="utf-8"))
    file_of = {image["id"]: image["file_name"] for image in coco["images"]}
    items = []
    for row in coco["annotations"]:
        file = file_of[row["image_id"]]
        if file in truth["images"]:
            present = frozenset(names[index] for index in truth["images"][file])
            items.append(Item(file, row["caption"].strip(), present))
    return sorted(items, key=lambda item: item.file), names


def measure(items: list[Item], label: Labeller, names: frozenset[str]) -> Quality:
    """Count right, wrong, missed and unknown pairs."""
    right = wrong = missed = unknown = 0
    for item in items:
        found, doubt = label(item.text)
        found &= names
        right += len(found & item.present)
        wrong += len(found - item.present)
        missed += len(item.present - found)
        unknown += len(doubt & names)
    return Quality(right, wrong, missed, unknown)


def by_filter(vocabulary: Vocabulary) -> Labeller:
    nouns = NounFilter(vocabulary)

    def label(text: str) -> tuple[frozenset[str], frozenset[str]]:
        found = nouns.label(text)
        return frozenset(found.labels), frozenset(found.unknown)

    return label


def by_words(vocabulary: Vocabulary) -> Labeller:
    """Every occurrence counts, whatever stands around it; ambiguous words and idioms too."""
    nouns = NounFilter(vocabulary)

    def label(text: str) -> tuple[frozenset[str], frozenset[str]]:
        return frozenset(finding.name for finding in nouns.explain(text)), frozenset()

    return label


def details(items: list[Item], label: Labeller, names: tuple[str, ...]) -> list[str]:
    """Classes with false labels, most first, each with the captions."""
    wrong: Counter[str] = Counter()
    right: Counter[str] = Counter()
    lines: dict[str, list[str]] = {}
    for item in items:
        for name in sorted(label(item.text)[0]):
            if name in item.present:
                right[name] += 1
            else:
                wrong[name] += 1
                lines.setdefault(name, []).append(f"      {item.file}  {item.text}")
    out = []
    for name, count in sorted(wrong.items(), key=lambda pair: (-pair[1], names.index(pair[0]))):
        out.append(f"  {name}: {count} wrong, {right[name]} right")
        out.extend(lines[name])
    return out


def timing(captions: Path, classes: str) -> str:
    """Processor time of labelling every caption of the file; called before anything is cached."""
    document = json.loads(captions.read_text(encoding="utf-8"))
    texts = [row["caption"] for row in document["annotations"]]
    started = time.process_time()
    nouns = NounFilter(Vocabulary.load(classes))
    built = time.process_time()
    for text in texts:
        nouns.label(text)
    done = time.process_time()
    return (
        f"{len(texts)} captions in {done - started:.2f} s of processor time: {built - started:.2f} "
        f"s to build the filter, {len(texts) / (done - built):.0f} captions a second after that"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--captions", type=Path, required=True, help="COCO captions JSON")
    parser.add_argument("--labels", type=Path, required=True, help="classes really present, JSON")
    parser.add_argument("--classes", default="coco2014", help="vocabulary (default coco2014)")
    parser.add_argument("--wrong", choices=("first", "second", "all"), help="list false labels")
    arguments = parser.parse_args()

    print(timing(arguments.captions, arguments.classes))
    items, names = read_items(arguments.captions, arguments.labels)
    vocabulary = Vocabulary.load(arguments.classes)
    files = sorted({item.file for item in items})
    first = frozenset(files[::2])
    parts = {
        "first half": [item for item in items if item.file in first],
        "second half": [item for item in items if item.file not in first],
        "all": items,
    }
    bare = Vocabulary.of([item.readable for item in vocabulary.classes])
    key_of = dict(zip(bare.names, vocabulary.names, strict=True))
    bare_words = by_words(bare)

    def by_names(text: str) -> tuple[frozenset[str], frozenset[str]]:
        return frozenset(key_of[name] for name in bare_words(text)[0]), frozenset()

    labellers = {"names": by_names, "words": by_words(vocabulary), "filter": by_filter(vocabulary)}
    print(f"{len(files)} images, {len(items)} captions, vocabulary {vocabulary.title}")
    for part, chosen in parts.items():
        for title, label in labellers.items():
            quality = measure(chosen, label, frozenset(names))
            print(quality.line(f"{part}: {title}"))
    if arguments.wrong:
        print(
            "\n".join(
                details(
                    parts[arguments.wrong + " half" if arguments.wrong != "all" else "all"],
                    labellers["filter"],
                    names,
                )
            )
        )


if __name__ == "__main__":
    main()
