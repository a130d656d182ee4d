"""Captions, a generator that takes no time, and the tiny diffusion pipeline, made once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from t2ipal.captions.labelled import LabelledCaption
from t2ipal.generation.diffusion.settings import Settings
from t2ipal.generation.diffusion.text_to_image import GeneratedImage, TextToImage
from tiny_diffusion import build

TEXTS = (
    "a dog on the grass",
    "two cats sleep",
    "the train is at the station, and a person waits for it with a bag",
    "a person rides a bike",
    "a boat",
    "a dog, a cat and a horse",
    "the car is parked",
    "birds",
    "a sheep next to a cow",
    "a bus in the city",
)


@pytest.fixture(autouse=True)
def rows_stay_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of large files do."""
    monkeypatch.setattr("t2ipal.files.row_file._SMALL", 0)


class NoiseGenerator:
    """Stands in for TextToImage: noise from the seed; ``spoil`` says which seeds go wrong."""

    def __init__(
        self,
        spoil: Callable[[int], str | None] = lambda seed: None,
        settings: Settings | None = None,
        revision: str = "abc",
        exact: bool = True,
    ) -> None:
        self.spec = "noise"
        self.revision = revision
        self.settings = settings or Settings()
        self.generated_on = {"device": "cpu", "dtype": "float32", "exact": exact}
        self.spoil = spoil
        self.calls: list[tuple[tuple[str, ...], tuple[int, ...]]] = []

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[GeneratedImage]:
        self.calls.append((tuple(prompts), tuple(seeds)))
        return [self._one(seed) for seed in seeds]

    def _one(self, seed: int) -> GeneratedImage:
        fault = self.spoil(seed)
        pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        if fault == "black":
            pixels[:] = 0
        if fault == "flat":
            pixels[:] = (90, 10, 200)
        return GeneratedImage(Image.fromarray(pixels), fault == "flagged")

    @property
    def generated(self) -> int:
        """Images so far, rejected ones included."""
        return sum(len(seeds) for _, seeds in self.calls)


@pytest.fixture
def noise() -> type[NoiseGenerator]:
    return NoiseGenerator


@pytest.fixture
def captions() -> list[LabelledCaption]:
    return [
        LabelledCaption(id=f"c{number}", caption=text, labels=("dog",), unknown=(), matches={})
        for number, text in enumerate(TEXTS)
    ]


def tree(folder: Path) -> dict[str, bytes]:
    """Every file under ``folder``, hidden ones too, with its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(name="tree")
def tree_fixture() -> Callable[[Path], dict[str, bytes]]:
    return tree


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Stable Diffusion, saved."""
    return build(tmp_path_factory.mktemp("tiny") / "stable-diffusion")


@pytest.fixture(scope="session")
def tiny_generator(tiny: Path) -> TextToImage:
    """The tiny Stable Diffusion, loaded."""
    return TextToImage.load(str(tiny), settings=Settings(steps=3, device="cpu"))
