"""Cross-dataset: contexts tuned on one benchmark's classes before the class names of another.

As CoOp and CoCoOp (Zhou et al., 2022) transfer theirs: the context is shared by all classes, so it
can stand before names it was not tuned with. Prototypes, adapter and contexts of single classes
are about the classes they were tuned on.
"""

from __future__ import annotations

import torch

from t2ipal.clip.backbone import Backbone
from t2ipal.clip.class_prompts import class_tokens
from t2ipal.errors import UserError
from t2ipal.method.build import build_head
from t2ipal.method.head import T2IPALHead
from t2ipal.method.methods import MethodConfig
from t2ipal.method.prompts import LearnedPrompts
from t2ipal.vocabulary import Vocabulary


def require_transferable(method: MethodConfig) -> None:
    """Raise a UserError unless all that the method tunes is contexts shared by all classes."""
    prompts = method.head.prompts
    if method.head.needs_images or prompts.kind == "fixed" or prompts.per_class:
        raise UserError(
            f"method {method.name!r} cannot go to other classes: it takes tuned contexts shared by "
            "all classes and nothing else, such as tai-dpt or t2i-pal/prompts-only."
        )


@torch.no_grad()
def transferred(
    head: T2IPALHead, method: MethodConfig, backbone: Backbone, vocabulary: Vocabulary
) -> T2IPALHead:
    """The head with the classes of ``vocabulary`` behind its tuned contexts, baked.

    Raises:
        UserError: the method tunes more than shared contexts.
    """
    require_transferable(method)
    other = build_head(
        method.head,
        vocabulary.names,
        tokens=class_tokens(backbone, vocabulary, form=method.head.prompts.class_names),
        text_encoder=backbone.encode_prompts,
    )
    assert isinstance(head.prompts, LearnedPrompts) and isinstance(other.prompts, LearnedPrompts)
    other.prompts.global_context.copy_(head.prompts.global_context)
    other.prompts.local_context.copy_(head.prompts.local_context)
    return other.to(backbone.device).bake()
