"""The verb that writes a tagger as an ONNX file."""

from __future__ import annotations

from dataclasses import KW_ONLY
from pathlib import Path
from typing import Annotated, Any

from t2ipal.cli.options import Verb
from t2ipal.cli.speech import say
from t2ipal.clip.clip_settings import ModelSettings
from t2ipal.errors import UserError, settings
from t2ipal.files.folders import LeftOut, find_images
from t2ipal.tagger import model_folder

_MOST = 400  # images that are looked at


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
