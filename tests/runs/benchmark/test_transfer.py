"""Tuned contexts before other class names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from t2ipal.clip.backbone import Backbone
from t2ipal.clip.class_prompts import class_tokens
from t2ipal.errors import UserError
from t2ipal.method.build import build_head
from t2ipal.method.head_config import HeadConfig, PromptConfig
from t2ipal.method.methods import method_config
from t2ipal.runs.benchmark.run import _transferred
from t2ipal.vocabulary import Vocabulary
from tiny_clip import build_tiny_clip


def test_the_same_classes_keep_their_embeddings_and_others_get_their_own(tmp_path: Path) -> None:
    backbone = Backbone.load(str(build_tiny_clip(tmp_path / "clip")))
    head = HeadConfig(prompts=PromptConfig(start="random"))
    method = method_config("t2i-pal/prompts-only", head=head)
    old, new = Vocabulary.of(["dog", "cat"]), Vocabulary.of(["bus", "cat", "dog"])
    tuned_head = build_head(
        method.head,
        old.names,
        tokens=class_tokens(backbone, old),
        text_encoder=backbone.encode_prompts,
    )
    with torch.no_grad():
        for parameter in tuned_head.prompts.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.manual_seed(0)))
    tuned = tuned_head.class_embeddings()
    moved = _transferred(tuned_head, method, backbone, new)
    assert moved.names == new.names
    for branch in ("global_", "local"):
        before, after = getattr(tuned, branch), getattr(moved.class_embeddings(), branch)
        assert torch.allclose(after[[2, 1]], before, atol=1e-6)
    untuned = build_head(
        method.head,
        new.names,
        tokens=class_tokens(backbone, new),
        text_encoder=backbone.encode_prompts,
    ).class_embeddings()
    assert not torch.allclose(moved.class_embeddings().global_, untuned.global_, atol=1e-3)


@pytest.mark.parametrize("name", ["t2i-pal", "zero-shot", "dualcoop/per-class"])
def test_what_belongs_to_single_classes_stays(name: str) -> None:
    with pytest.raises(UserError, match="cannot go to other classes"):
        _transferred(None, method_config(name), None, None)  # type: ignore[arg-type]
