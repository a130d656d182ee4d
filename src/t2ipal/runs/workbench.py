"""One run's captions and images as cached features, on which any method is fitted.

Every method of a table sees the same features, the same held-out part and the same seeds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from t2ipal.captions.labelled import LabelledCaption
from t2ipal.clip.backbone import Backbone
from t2ipal.clip.class_prompts import (
    IMAGENET_TEMPLATES,
    class_ensemble,
    class_tokens,
    template_captions,
)
from t2ipal.clip.features import FeatureCache, image_items
from t2ipal.datasets.labelled_images import LabelledImages
from t2ipal.errors import UserError
from t2ipal.files import sha256_text
from t2ipal.files.broken import Broken
from t2ipal.files.row_file import Lazy, at_positions
from t2ipal.generation.store import ImageRow
from t2ipal.method.build import build_head
from t2ipal.method.head import T2IPALHead
from t2ipal.method.head_config import ClassNames, HeatmapConfig
from t2ipal.method.items import ItemSet
from t2ipal.method.methods import MethodConfig
from t2ipal.method.prompts import ClassTokens
from t2ipal.method.training import FitResult, fit
from t2ipal.method.verification import doubtful, evidence, verified
from t2ipal.runs.held_out import GeneratedImages, NamedCaptions, held_last
from t2ipal.tagger.thresholds import Thresholds, fit_thresholds
from t2ipal.vocabulary import Vocabulary

_BLOCK = 4096  # items whose bytes are hashed together


class Workbench:
    """Cached features of a run.

    Args:
        vocabulary: the C classes.
        backbone: the frozen CLIP.
        cache: folder of the feature cache.
        captions: labelled captions; those without a label are left out.
        images: manifest rows of the images generated from them; may be empty, then only what needs
            no image can be fitted.
        folder: where the rows' files lie.
        crops: crops per side that held-out and test images are seen through too.
        broken: told of images that cannot be read, which are an error if omitted.
        progress: show progress bars.

    Attributes:
        train_captions, train_images: what is trained on.
        valid: the held-out items by which epochs are chosen and thresholds fitted: generated
            images, or captions if there are none; never real images.

    Raises:
        UserError: no caption has a label.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        backbone: Backbone,
        cache: str | Path,
        captions: Sequence[LabelledCaption],
        images: Sequence[ImageRow] = (),
        folder: str | Path = ".",
        *,
        crops: int = 0,
        broken: Broken | None = None,
        progress: bool = True,
    ) -> None:
        self.vocabulary = vocabulary
        self.backbone = backbone
        self.cache = FeatureCache(cache, backbone, broken=broken)
        self.crops = crops
        self._progress = progress
        self._tokens_of: dict[ClassNames, ClassTokens] = {}
        named = NamedCaptions(captions, vocabulary)
        held = named.held_out()
        rows = at_positions(captions, named.rows)
        texts = Lazy(len(rows), lambda i: rows[i].caption)
        self.cache.embed_captions(texts, named.hashes, progress=progress)
        order, kept = held_last(held)
        bank = self.cache.captions(
            at_positions(texts, order), at_positions(named.hashes, order), progress=progress
        )
        targets = torch.from_numpy(named.targets[order])
        items = ItemSet(bank.global_, bank.local, bank.mask, targets, "caption")
        self.train_captions, self.valid = items.take(slice(kept)), items.take(slice(kept, None))
        self.train_images: ItemSet | None = None
        if images:
            found = GeneratedImages(images, named)
            shown = at_positions(images, found.rows)
            files = Lazy(len(shown), lambda i: Path(folder) / shown[i].file)
            self.cache.embed_images(files, found.hashes, progress=progress)
            readable = np.arange(len(found))
            if lost := self.cache.broken.reasons:
                readable = readable[[str(file) not in lost for file in files]]
            order, kept = held_last(held[found.captions[readable]])
            order = readable[order]
            generated = self._image_items(
                at_positions(files, order), found.targets(order), at_positions(found.hashes, order)
            )
            self.train_images = generated.take(slice(kept))
            self.valid = generated.take(slice(kept, None))
            if crops and len(self.valid):
                order = order[kept:]
                self.valid = self._image_items(
                    at_positions(files, order),
                    self.valid.targets.numpy(),
                    at_positions(found.hashes, order),
                    crops,
                )
        if not ((self.valid.targets == 1).any() and (self.valid.targets == 0).any()):
            raise UserError(
                f"too few images of held-out captions are left: {len(self.valid)}, of which none "
                "is known to show a class, or none to lack one; add captions, or generate more "
                "images of each with --images-per-caption."
            )

    @property
    def generated_images(self) -> int:
        """How many generated images are trained on."""
        return 0 if self.train_images is None else len(self.train_images)

    def readable(self, images: LabelledImages, *, test: bool = False) -> LabelledImages:
        """Those of real images that can be embedded (:meth:`FeatureCache.readable`)."""
        crops = self.crops if test else 0
        return self.cache.readable(images, crops=crops, progress=self._progress)

    def labelled(self, images: LabelledImages, *, test: bool = False) -> ItemSet:
        """Features and labels of readable real images; of ``test`` images with their crops."""
        images = self.readable(images, test=test)
        return self._image_items(images.files, images.targets, None, self.crops if test else 0)

    def fit(
        self,
        method: MethodConfig,
        seed: int,
        *,
        real: ItemSet | None = None,
        alone: bool = False,
        test: ItemSet | None = None,
        log: Callable[[dict[str, Any]], None] | None = None,
    ) -> tuple[T2IPALHead, FitResult | None]:
        """Build and train a method; the result is None for one that trains nothing.

        Args:
            seed: of the start and of the order of the items.
            real: labelled real images to train on too. A method that trains on captions alone then
                trains on both kinds.
            alone: train on ``real`` and nothing else; every fifth of them is held out.
            test: test images; read by a method that chooses its epoch by them, and by no other.
            log: called with each epoch's figures.

        Raises:
            UserError: the method needs images and there are none, a class has no image, or the
                method pools image features in another way than the backbone.
        """
        if method.pool_positions != self.backbone.pool_positions:
            raise UserError(
                f"method {method.name!r} reads global features pooled in another way than those of "
                "this comparison: run it alone, with 't2ipal train --method' and 't2ipal eval'."
            )
        head = build_head(
            method.head,
            self.vocabulary.names,
            tokens=self._tokens(method.head.prompts.class_names),
            text_encoder=self.backbone.encode_prompts,
            class_embeddings=self._imagenet if method.imagenet_prompts else self._ensemble,
            seed=seed,
        )
        if method.train is None:
            return head.bake(), None
        config = method.train
        if alone:
            assert real is not None, "there must be something to train on"
            every_fifth = torch.arange(len(real)) % 5 == 4
            train = [real.take((~every_fifth).nonzero().squeeze(1))]
            valid = real.take(every_fifth.nonzero().squeeze(1))
            return head, fit(head, train, valid, config, seed=seed, log=log)
        images = self._images_for(method, real)
        if config.train_on == "captions" and real is not None:
            # Generated images start what starts from images, as without real ones, and no more.
            if method.head.needs_images:
                head.start(ItemSet.join(images), seed=seed)
            images, config = [real], replace(config, train_on="both")
        train = [self.train_captions, *images]
        if method.template_captions:
            train.append(self._template_captions(method.head.prompts.class_names))
        valid = self.valid
        if method.best_on_test:
            if test is None:
                raise UserError(
                    f"method {method.name!r} chooses its epoch by the test images: name them with "
                    "--data, or use the method without 'best-on-test'."
                )
            valid = test
        # An epoch is chosen on whole images, which is cheap.
        return head, fit(head, train, valid.whole(), config, seed=seed, log=log)

    def _images_for(self, method: MethodConfig, real: ItemSet | None) -> list[ItemSet]:
        """Generated images, then real ones: those that the method may see."""
        generated = None if method.real_only else self._generated(method)
        images = [items for items in (generated, real) if items is not None]
        kinds = method.train.kinds if method.train is not None else ()
        if not images and (method.head.needs_images or "image" in kinds):
            if method.real_only:
                raise UserError(
                    f"method {method.name!r} trains on labelled real images and there are none: "
                    f"give some with --real-images, or use {method.name.partition('/')[0]!r}."
                )
            raise UserError(
                f"method {method.name!r} needs images and there are none: generate some with "
                "'t2ipal generate', give labelled ones with --real-images, or use "
                "t2i-pal/captions or tai-dpt, which train on captions alone."
            )
        return images

    def _generated(self, method: MethodConfig) -> ItemSet | None:
        """The generated images, their labels verified if the method asks for it."""
        if self.train_images is None or method.train is None:
            return self.train_images
        if method.train.verify.kind == "none":
            return self.train_images
        temperature = method.head.heatmap.image_temperature
        scores = evidence(self.train_images, self._ensemble, temperature)
        return verified(self.train_images, scores, method.train.verify)

    def found(self, patience: int) -> tuple[list[int], list[int]]:
        """Per class: in how many of its generated images CLIP finds it, and how many there are."""
        if self.train_images is None:
            return [0] * len(self.vocabulary), [0] * len(self.vocabulary)
        temperature = HeatmapConfig().image_temperature
        found = images = torch.zeros(len(self.vocabulary), dtype=torch.int64)
        for batch in self.train_images.batches():
            missing, _ = doubtful(
                batch.targets, evidence(batch, self._ensemble, temperature), patience
            )
            shown = batch.targets == 1
            found, images = found + (shown & ~missing).sum(dim=0), images + shown.sum(dim=0)
        return found.tolist(), images.tolist()

    def thresholds(self, head: T2IPALHead) -> Thresholds:
        """Thresholds and calibration fitted on the held-out items."""
        scores = head.score_items(self.valid).cpu().numpy()
        return fit_thresholds(scores, self.valid.targets.numpy(), self.vocabulary.names)

    def digest(self, *others: ItemSet | None) -> str:
        """Identity of the features and labels that methods are fitted on, and of ``others``."""
        return sha256_text(self._digest, *map(_items_digest, others))[:16]

    @cached_property
    def _digest(self) -> str:
        parts = [self.vocabulary.digest, self.backbone.image_space, self.backbone.text_space]
        items = [self.train_captions, self.train_images, self.valid]
        return sha256_text(*parts, *map(_items_digest, items))

    def _image_items(
        self,
        files: Sequence[Path],
        targets: np.ndarray,
        hashes: Sequence[str] | None,
        crops: int = 0,
    ) -> ItemSet:
        return image_items(self.cache, files, targets, hashes, crops=crops, progress=self._progress)

    @cached_property
    def _ensemble(self) -> Tensor:
        return class_ensemble(self.backbone, self.vocabulary)

    @cached_property
    def _imagenet(self) -> Tensor:
        return class_ensemble(self.backbone, self.vocabulary, IMAGENET_TEMPLATES)

    def _tokens(self, form: ClassNames) -> ClassTokens:
        if form not in self._tokens_of:
            self._tokens_of[form] = class_tokens(self.backbone, self.vocabulary, form=form)
        return self._tokens_of[form]

    def _template_captions(self, form: ClassNames) -> ItemSet:
        """Captions made of a template and a class name, which is their one label."""
        rows = template_captions(self.vocabulary, form)
        bank = self.cache.captions([text for text, _ in rows], progress=self._progress)
        targets = torch.zeros(len(rows), len(self.vocabulary), dtype=torch.int8)
        targets[torch.arange(len(rows)), torch.tensor([label for _, label in rows])] = 1
        return ItemSet(bank.global_, bank.local, bank.mask, targets, "caption")


def _items_digest(items: ItemSet | None) -> str:
    """Identity of a set's global features and labels; empty for no set."""
    if items is None:
        return ""
    digest = hashlib.sha256(str(tuple(items.global_.shape)).encode())
    for tensor in (items.global_, items.targets, *(crop.global_ for crop in items.crops)):
        for part in torch.split(tensor, _BLOCK):
            digest.update(part.contiguous().numpy().data)
    return digest.hexdigest()
