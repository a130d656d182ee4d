"""Classes added to a tagger in a second: a tuned context before a new name, and no training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, islice
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from t2ipal.clip.backbone import Backbone
from t2ipal.clip.class_prompts import IMAGENET_TEMPLATES, TEMPLATES, class_ensemble, class_tokens
from t2ipal.errors import UserError
from t2ipal.files.broken import MAX_MEGAPIXELS
from t2ipal.method.build import build_head
from t2ipal.method.grown import GrownHead, added_config
from t2ipal.method.items import ItemSet
from t2ipal.method.methods import METHOD_NAMES, method_config
from t2ipal.tagger.clip_model import ClipModel
from t2ipal.tagger.inputs import ImageLike, one_image, open_image, with_new
from t2ipal.vocabulary import ClassName, Vocabulary

if TYPE_CHECKING:
    from t2ipal.tagger.tagger import Tagger

_BATCH = 32


def grown(
    tagger: Tagger,
    names: Sequence[str | ClassName],
    images: Mapping[str, Iterable[ImageLike]] | None = None,
) -> Tagger:
    """What :meth:`Tagger.with_classes` gives."""
    if isinstance(names, str):
        raise UserError(f"expected a list of class names, found the text {names!r}.")
    images = images or {}
    classes = [ClassName(one) if isinstance(one, str) else one for one in names]
    vocabulary = with_new(tagger.vocabulary, classes)
    for name in images:
        Vocabulary("the new classes", tuple(classes)).index(name)
    model, head = tagger.clip, tagger.clip.head
    method = tagger.about.get("method", "")
    eighty = method in METHOD_NAMES and method_config(method).imagenet_prompts
    templates = IMAGENET_TEMPLATES if eighty else TEMPLATES  # of fixed prompts
    # A class with images is a group of its own; those without are embedded together.
    for own, group in groupby(classes, lambda one: one.name if one.name in images else None):
        new = Vocabulary("new", tuple(group))
        config = added_config(head.config, images=own is not None)
        embeddings, tokens = None, None
        if config.prompts.kind == "fixed":
            embeddings = class_ensemble(model.backbone, new, templates)
        else:
            tokens = class_tokens(model.backbone, new, form=config.prompts.class_names)
        added = build_head(
            config,
            new.names,
            tokens=tokens,
            text_encoder=model.backbone.encode_prompts,
            class_embeddings=embeddings,
        ).to(model.backbone.device)
        head = GrownHead.of(head, added)
        if own is not None:
            added.start(_items(model.backbone, own, images[own]))
    keys = [one.name for one in classes]
    return type(tagger)(
        ClipModel(model.backbone, head, model.crops),
        vocabulary,
        tagger.thresholds.grown(keys),
        tagger.about,
    )


def _items(backbone: Backbone, name: str, images: Iterable[ImageLike]) -> ItemSet:
    """Features of images that show the class ``name``."""
    globals_, locals_ = [], []
    source = iter([images] if one_image(images) else images)
    while batch := list(islice(source, _BATCH)):
        pixels = [backbone.preprocess(open_image(image, MAX_MEGAPIXELS)) for image in batch]
        features = backbone.encode_image(torch.stack(pixels))
        globals_.append(F.normalize(features.global_, dim=-1))
        locals_.append(F.normalize(features.local, dim=-1))
    if not globals_:
        raise UserError(f"there is no image of {name!r}; give some, or leave them out.")
    count = sum(map(len, globals_))
    targets = torch.ones(count, 1, dtype=torch.int8)
    return ItemSet(torch.cat(globals_), torch.cat(locals_), None, targets, "image")
