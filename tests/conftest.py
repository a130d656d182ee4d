"""One finished run of tiny random models, shared by the tests that look at what a run leaves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tiny_clip import build_tiny_clip

if TYPE_CHECKING:
    from loopback_hub import Hub
    from t2ipal.clip.backbone import Backbone
    from t2ipal.runs.config import RunConfig
    from t2ipal.runs.workbench import Workbench

settings.register_profile("slow-machine", deadline=None)
settings.load_profile("slow-machine")


@dataclass(frozen=True)
class TinyRun:
    """A finished run, what it said, and how it was asked for."""

    folder: Path
    said: list[str]
    config: RunConfig

    def bench(self, backbone: Backbone, cache: Path | None = None) -> Workbench:
        """What the run's methods were fitted on, seen by ``backbone``."""
        from t2ipal.captions.labelled import read_labelled
        from t2ipal.generation.store import read_manifest
        from t2ipal.runs.workbench import Workbench
        from t2ipal.vocabulary import Vocabulary

        return Workbench(
            Vocabulary.load(self.folder / "vocabulary.yaml"),
            backbone,
            cache or self.folder / "features",
            read_labelled(self.folder / "captions.jsonl"),
            read_manifest(self.folder),
            self.folder,
            progress=False,
        )


CLASSES = """\
- dog
- {name: person, synonyms: [man, woman]}
- cat
- {name: bus, readable: city bus, synonyms: [bus]}
- car
- boat
"""


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    from t2ipal.method.head_config import HeadConfig, PromptConfig
    from t2ipal.method.train_config import TrainConfig
    from t2ipal.runs.config import RunConfig
    from t2ipal.runs.pipeline import run
    from tiny_diffusion import build

    base = tmp_path_factory.mktemp("tiny")
    (base / "classes.yaml").write_text(CLASSES)
    config = RunConfig(
        classes=str(base / "classes.yaml"),
        compose=30,
        clip=str(build_tiny_clip(base / "clip", "vit")),
        generator=str(build(base / "generator")),
        steps=1,
        resize_mode="squash",
        data="miniature:24",
        real_data="miniature:known:60",
        seeds=(0, 1),
        head=HeadConfig(prompts=PromptConfig(context_tokens=14)),
        train=TrainConfig(epochs=2, batch_size=16),
    )
    said: list[str] = []
    run(config, base / "run", say=said.append, progress=False)
    return TinyRun(base / "run", said, config)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """An empty hub on the loopback address, with an empty cache."""
    from loopback_hub import serving

    with serving(tmp_path / "hub-cache") as hub:
        yield hub
