"""Verbs that bring sets of images in and send them out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from t2ipal.cli.speech import say


@dataclass(frozen=True)
class Import:
    """Take images with captions that were made elsewhere, as if they had been drawn here."""

    source: Positional[str]
    """a folder of images with a metadata.jsonl, a metadata.csv or a .txt beside each image; a
    webdataset shard (.tar), or a folder of them; or hf:NAME[?split=train&image=COLUMN&
    caption=COLUMN&revision=REV], a data set on the Hugging Face hub, a folder that save_to_disk
    made or a folder of parquet files"""
    classes: str
    """voc2007, coco2014, nuswide, or a YAML file of class names"""
    out: Path
    """folder for images/, images.jsonl and captions.jsonl"""

    def run(self) -> int:
        from t2ipal.captions.labelled import LabelSummary, write_labelled
        from t2ipal.generation.exchange import import_images
        from t2ipal.vocabulary import Vocabulary

        vocabulary = Vocabulary.load(self.classes)
        captions, rows = import_images(self.source, vocabulary, self.out)
        write_labelled(self.out / "captions.jsonl", captions)
        for line in LabelSummary.of(captions, vocabulary).lines():
            say(line)
        say(f"{len(rows)} images are in {self.out / 'images.jsonl'}")
        return 0


@dataclass(frozen=True)
class Pack:
    """Write a generated set as webdataset shards: image, caption and manifest row of each."""

    folder: Positional[Path]
    """folder of a generated set (images.jsonl and images/)"""
    out: Path
    """folder for 000000.tar, 000001.tar, ..."""
    per_shard: int = 1000
    """images a shard"""

    def run(self) -> int:
        from t2ipal.generation.exchange import pack

        shards = pack(self.folder, self.out, per_shard=self.per_shard)
        say(f"wrote {len(shards)} shard{'s' * (len(shards) != 1)} to {self.out}")
        return 0
