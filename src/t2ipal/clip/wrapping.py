"""A user's model object, taken apart into what a backbone is made of."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from open_clip import CLIP, CustomTextCLIP
from open_clip.model import build_model_from_openai_state_dict
from torch import nn

from t2ipal.clip.from_transformers import convert
from t2ipal.clip.preprocessing import Preprocessing, of_transformers
from t2ipal.clip.transformers_folder import padding
from t2ipal.errors import UserError

Parts = tuple[nn.Module, dict[str, Any], Callable[..., Any], Preprocessing]


def parts_of(model: Any, tokenizer: Any, preprocess: Any, resize_mode: str) -> Parts:
    """A copy of the model, what describes it beside its weights, its tokenizer, its preprocessing.

    The arguments are those of :meth:`t2ipal.clip.backbone.Backbone.wrap`.

    Raises:
        UserError: a model of another kind, or a tokenizer or preprocessing that is none.
    """
    name = type(model).__name__
    if type(model) in (CLIP, CustomTextCLIP):
        ours: Any = copy.deepcopy(model).float()
        described: dict[str, Any] = {"modules": repr(model)}  # activations are in no weight
    elif type(model).__module__.startswith("transformers.") and hasattr(model, "config"):
        ours, described = convert(model.config, model.state_dict(), name)
        if hasattr(tokenizer, "pad_token_id"):
            tokenizer = padding(tokenizer, model.config)
    elif type(model).__module__ == "clip.model":
        weights = model.state_dict()
        ours = build_model_from_openai_state_dict(dict(weights)).float()
        ours.load_state_dict(weights)  # once more, as the above rounds them to float16
        described = {"quick_gelu": True}
    else:
        raise UserError(
            f"a {name} is no CLIP that is known here; give one of open_clip (CLIP, "
            "CustomTextCLIP), of transformers (CLIPModel, SiglipModel, ...) or of OpenAI's clip, "
            "not compiled and without adapters."
        )
    if not callable(tokenizer):
        raise UserError(
            f"tokenizer is a {type(tokenizer).__name__}; give a function of a list of texts that "
            "returns token ids [B, context], or a tokenizer of transformers."
        )
    processor = getattr(preprocess, "image_processor", preprocess)
    if hasattr(processor, "to_dict"):
        kind = described.get("model_type", "clip")
        cfg = of_transformers(processor.to_dict(), kind, type(processor).__name__)
        preprocessing = Preprocessing.of(cfg, None, None)
    elif callable(preprocess):
        preprocessing = Preprocessing.by(preprocess, resize_mode)
    else:
        raise UserError(
            f"preprocess is a {type(preprocess).__name__}; give a function of a PIL image that "
            "returns float32 [3, S, S], or an image processor of transformers."
        )
    size = ours.visual.image_size
    side = size if isinstance(size, int) else size[0]
    if preprocessing.side != side:
        raise UserError(
            f"preprocess makes images of {preprocessing.side} pixels, but this {name} takes "
            f"{side}; give the one that belongs to it."
        )
    return ours, described, tokenizer, preprocessing
