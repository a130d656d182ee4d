"""Verbs that use a trained model on labelled images."""

from __future__ import annotations

import json
from dataclasses import KW_ONLY
from pathlib import Path
from typing import Annotated

from t2ipal.cli.options import Verb, require_data, require_paths
from t2ipal.cli.speech import say
from t2ipal.clip.clip_settings import DeviceSettings, ModelSettings
from t2ipal.errors import settings
from t2ipal.runs.config import EvaluationSettings
from t2ipal.tagger import from_hub, model_folder


@settings
class Eval(ModelSettings, DeviceSettings, EvaluationSettings, Verb):
    """Measure a tagger on labelled images."""

    positional = ("model",)
    needed = ("data",)
    examples = """
        t2ipal eval runs/mine/model --data photos/
        t2ipal eval runs/mine/model --data coco2014:COCO --out eval.json
    """
    _: KW_ONLY
    model: Path
    """photo (the tagger of this package), a model folder such as RUN/model, or an ONNX file"""
    features: Annotated[Path, "DIR"] | None = None
    """folder of the feature cache; beside the model if omitted"""
    out: Annotated[Path, "FILE"] | None = None
    """JSON file to write the figures to"""

    def run(self) -> int:
        assert self.data is not None, "it is needed"
        # before PyTorch is imported, which takes seconds
        model_folder(self.model, typed=True) or from_hub(str(self.model))
        require_paths(self.data_folder)
        require_data(self.data)
        from t2ipal.files import write_text
        from t2ipal.tagger.scoring import evaluate

        evaluation = evaluate(
            self.model,
            self.data,
            images=self.data_folder,
            cache=self.features,
            device=self.device,
            precision=self.precision,
            image_size=self.image_size,
            resize_mode=self.resize_mode,
            crops=self.crops,
            skip_broken=self.skip_broken,
            max_megapixels=self.max_megapixels,
            say=say,
        )
        for line in evaluation.lines():
            say(line)
        if self.out is not None:
            write_text(self.out, json.dumps(evaluation.to_json(), indent=1) + "\n")
        return 0
