"""Verbs that bring sets of images in and send them out."""

from __future__ import annotations

from dataclasses import KW_ONLY
from pathlib import Path
from typing import Annotated

from t2ipal.cli.options import Verb
from t2ipal.cli.speech import say
from t2ipal.errors import Count, settings
from t2ipal.files.broken import Broken, ReadingSettings
from t2ipal.files.folders import LeftOut
from t2ipal.runs.config import ClassSettings


@settings
class Import(ClassSettings, ReadingSettings, Verb):
    """Take images with captions that were made elsewhere, as if they had been generated here."""

    positional = ("source",)
    needed = ("classes",)
    examples = """
        t2ipal import generated/ --classes voc2007 --out images
        t2ipal import 'hf:ORG/NAME?split=train&caption=text' --classes voc2007 --out images
    """
    _: KW_ONLY
    source: str
    """a folder of images with a metadata.jsonl, a metadata.csv or a text beside each image
    (a.jpg.txt, a.txt, .caption, .json); a webdataset shard (.tar, .tar.gz), or a folder of them; or
    hf:NAME[?split=train&image=COLUMN&caption=COLUMN&revision=REV], a data set on the Hugging Face
    hub, a folder that save_to_disk made, or a folder of parquet files"""
    out: Annotated[Path, "DIR"]
    """folder for images/, images.jsonl and captions.jsonl"""

    def run(self) -> int:
        from t2ipal.captions.labelled import LabelSummary
        from t2ipal.files import write_jsonl
        from t2ipal.generation.exchange import import_images
        from t2ipal.vocabulary import Vocabulary

        vocabulary = Vocabulary.load(self.classes)
        left_out, broken = LeftOut(), Broken.of(self)
        captions, rows = import_images(self.source, vocabulary, self.out, left_out, broken)
        write_jsonl(self.out / "captions.jsonl", captions)
        say(f"read {len(captions)} images with captions from {self.source}")
        for line in filter(None, [str(left_out), *broken.write(self.out)]):
            say(line)
        for line in LabelSummary.of(captions, vocabulary).lines():
            say(line)
        say(f"{len(rows)} images are in {self.out / 'images.jsonl'}")
        return 0


@settings
class Pack(Verb):
    """Write a generated set as webdataset shards: image, caption and manifest row of each."""

    positional = ("folder",)
    examples = """
        t2ipal pack runs/mine --out shards
    """
    _: KW_ONLY
    folder: Path
    """folder of a generated set (images.jsonl and images/)"""
    out: Annotated[Path, "DIR"]
    """folder for 000000.tar, 000001.tar, ..."""
    per_shard: Count = 1000
    """images per shard"""

    def run(self) -> int:
        from t2ipal.generation.exchange import pack

        shards = pack(self.folder, self.out, per_shard=self.per_shard)
        say(f"wrote {len(shards)} shard{'s' * (len(shards) != 1)} to {self.out}")
        return 0
