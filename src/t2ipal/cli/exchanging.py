"""Verbs that bring sets of images in, and send sets of images and taggers out."""

from __future__ import annotations

from dataclasses import KW_ONLY
from pathlib import Path
from typing import Annotated, Any

from t2ipal.cli.options import Verb
from t2ipal.cli.speech import say
from t2ipal.clip.clip_settings import ModelSettings
from t2ipal.errors import Count, UserError, settings
from t2ipal.files.broken import Broken, ReadingSettings
from t2ipal.files.folders import LeftOut, find_images
from t2ipal.runs.config import ClassSettings
from t2ipal.tagger import model_folder

_MOST = 400  # images that an exported tagger is looked at with


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


@settings
class Export(ModelSettings, Verb):
    """Write a tagger as one ONNX file, which tags images without PyTorch."""

    positional = ("model",)
    examples = """
        t2ipal export runs/mine/model --out tagger.onnx
        t2ipal export photo --out small.onnx --int8 --images holiday/
    """
    _: KW_ONLY
    model: str
    """photo (the tagger of this package), a model folder such as RUN/model, or ORG/NAME on the
    Hugging Face hub"""
    out: Annotated[Path, "FILE"]
    """the .onnx file"""
    int8: bool = False
    """image tower in 8 bits: a quarter of the size; how much that costs is measured and said"""
    images: tuple[str, ...] = ()
    """image files, folders and globs to compare by, and to fit 8 bits to; if omitted, the images
    generated for the run that the model lies in, or else scenes of the demonstration world"""

    def run(self) -> int:
        if self.out.suffix.lower() != ".onnx":
            raise UserError(f"--out {self.out}: does not end in .onnx; rename it.")
        folder = model_folder(self.model, typed=True)
        if folder is not None and folder.is_file():
            raise UserError(f"{self.model}: is a file; name the folder of the model.")
        images, source = self._images(folder)
        from t2ipal.tagger.export import export_onnx
        from t2ipal.tagger.tagger import Tagger

        tagger = Tagger.from_pretrained(
            self.model,
            device="cpu",
            precision="fp32",
            image_size=self.image_size,
            resize_mode=self.resize_mode,
            crops=self.crops,
        )
        found = export_onnx(tagger, self.out, images, source=source, int8=self.int8)
        say(f"compared with PyTorch on {source}: {found}")
        say(f"wrote {self.out} ({self.out.stat().st_size / 1e6:.1f} MB)")
        return 0

    def _images(self, folder: Path | None) -> tuple[list[Any], str]:
        """What to compare by, and what to call it."""
        if self.images:
            left_out = LeftOut()
            files = list(find_images(self.images, left_out))
            if not files:
                raise UserError(f"no image among {', '.join(self.images)}; check the paths.")
            if str(left_out):
                say(str(left_out))
            found, source = [Path(file) for file in files], "the images given"
        elif folder is not None and (folder.parent / "images.jsonl").is_file():
            from t2ipal.generation.store import read_manifest

            found = [folder.parent / row.file for row in read_manifest(folder.parent)]
            source = "images generated for its run"
        else:
            from t2ipal.miniature.scenes import random_scene, scene_rng

            rngs = (scene_rng("export", 0, number) for number in range(_MOST))
            return [random_scene(rng, split="known").image for rng in rngs], (
                "scenes of the demonstration world"
            )
        return found[:: max(1, len(found) // _MOST)][:_MOST], source


@settings
class Push(Verb):
    """Put a tagger on the Hugging Face hub, with its card; 't2ipal predict ORG/NAME' uses it.

    Log in first, with 'hf auth login', or set HF_TOKEN.
    """

    positional = ("model", "repository")
    examples = """
        t2ipal push runs/mine/model ORG/NAME --private --license apache-2.0
    """
    _: KW_ONLY
    model: str
    """a model folder such as RUN/model"""
    repository: str
    """ORG/NAME on the hub, made if it is not there"""
    private: bool | None = None
    """whether a new repository is private; your account's default if omitted"""
    license: Annotated[str, "NAME"] | None = None
    """licence of this model, as the hub calls it, such as apache-2.0"""
    branch: Annotated[str, "BRANCH"] | None = None
    """branch to put it on; main if omitted"""

    def run(self) -> int:
        model_folder(self.model, typed=True)  # before PyTorch is imported, which takes seconds
        from t2ipal.tagger.tagger import Tagger

        commit = Tagger.from_pretrained(self.model, device="cpu").push_to_hub(
            self.repository, private=self.private, revision=self.branch, license=self.license
        )
        say(f"pushed to {commit}")
        return 0
