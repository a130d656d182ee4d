"""A frozen open_clip model as this project uses it: dense image features, text from embeddings."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor

from t2ipal.clip import load as sources
from t2ipal.clip.clip_settings import ClipSettings
from t2ipal.clip.dense import ImageFeatures, image_encoder
from t2ipal.clip.positions import resize_tower
from t2ipal.clip.text import TextFeatures, TextTower
from t2ipal.errors import UserError
from t2ipal.files import sha256_text

_PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
# Bumped when the code below would give other features for the same model and files.
_FEATURES_VERSION = "1"
_PROBES = ("a photo of a dog.", "Two umbrellas & 3 children?", "")


class Backbone:
    """A frozen CLIP: its weights never change and ask for no gradient.

    Make one with :meth:`load`; the constructor takes an open_clip model that is in memory already.

    Attributes:
        spec: what the user wrote, such as ``"RN50:openai"``.
        digest: 16 hex digits of the weights and the configuration, whatever file they came from.
        preprocess_digest: 16 hex digits of size, crop, interpolation and normalisation.
        width: D, the width of the space that images and texts share.
        text_width: Wt, the width of token embeddings.
        context_length: the most tokens a text may have.
        image_size: S; images enter as [3, S, S].
        pool_positions: whether global features are pooled with positions, as CLIP's own.
        logit_scale: what CLIP multiplies similarities with (the exponential of its parameter).
        device: where the model computes.
        precision: ``fp32``, ``bf16`` or ``fp16``, of the image tower; text is always float32, as
            prompts are learned through it.
        image_space, text_space: what cached features of images and of captions depend on, as one
            digest each.

    Args:
        model: an open_clip ``CLIP`` or ``CustomTextCLIP``; it is frozen, and resized if asked to.
        tokenizer: open_clip's tokenizer of that model.
        settings: how it sees an image and where it computes; ``clip`` is a name for messages and
            records.
        config: open_clip's ``model_cfg``, as it cannot be read back from the model.
        pool_positions: see :func:`t2ipal.clip.dense.image_encoder`.

    Raises:
        UserError: a text or vision tower that cannot be used, a device that is not there, or an
            image size that the tower's stride does not divide.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        settings: ClipSettings,
        *,
        config: dict[str, Any],
        pool_positions: bool = True,
    ) -> None:
        self.spec = settings.clip
        image_size, local_grid = settings.image_size, settings.local_grid
        self.device, self.precision = settings.found()
        self.model = model.eval().requires_grad_(False)
        self.digest = _digest(model, config)
        if image_size is not None:
            resize_tower(model.visual, image_size)
        self._preprocess_cfg = _preprocess_cfg(model, image_size, settings.resize_mode)
        self._transform = image_transform_v2(self._preprocess_cfg, is_train=False)
        self.model.to(self.device)
        self.image_size = _side(self._preprocess_cfg.size)
        self.resize_mode = self._preprocess_cfg.resize_mode
        self.preprocess_digest = sha256_text(
            json.dumps(asdict(self._preprocess_cfg), sort_keys=True)
        )[:16]
        self.pool_positions = pool_positions
        self.local_grid = local_grid
        self._encode_image = image_encoder(model.visual, pool_positions=pool_positions)
        self._text = TextTower(model)
        self._tokenizer = tokenizer
        self.context_length = self._text.context_length
        self.text_width = self._text.width
        self.logit_scale = float(model.logit_scale.exp())
        probes = self.tokenize(_PROBES)
        self._pad_id = int(probes[-1, -1])
        self._check_tokens(probes)
        self.width = self.encode_text(_PROBES[:1]).global_.shape[1]
        self.image_space = sha256_text(
            _FEATURES_VERSION, self.digest, self.preprocess_digest, self.precision,
            str(pool_positions), *([] if local_grid is None else [f"grid {local_grid}"]),
        )[:16]  # fmt: skip
        self.text_space = sha256_text(_FEATURES_VERSION, self.digest, str(probes.tolist()))[:16]

    @classmethod
    def load(cls, settings: ClipSettings | str, *, pool_positions: bool = True) -> Backbone:
        """Load a CLIP.

        Args:
            settings: which CLIP, and how it sees an image; or its name alone: ``RN50:openai``
                (open_clip's name and tag), ``hf-hub:org/name``, a folder in open_clip's format
                (open_clip_config.json, open_clip_model.safetensors, tokenizer files), or
                a packaged one, ``photo`` or ``miniature``.
            pool_positions: as for the constructor.

        Raises:
            UserError: as the constructor, and when there is no such model or its weights are
                missing; the message says how to get them.
        """
        if isinstance(settings, str):
            settings = ClipSettings(clip=settings)
        source = sources.find(settings.clip)
        return cls(
            source.load(),
            source.load_tokenizer(),
            settings,
            config=source.config,
            pool_positions=pool_positions,
        )

    def preprocess(self, image: Image.Image) -> Tensor:
        """A PIL image as the model wants it: float32 [3, S, S], by open_clip's own transform."""
        pixels: Tensor = self._transform(image)
        return pixels

    @torch.no_grad()
    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        """Preprocessed images [B, 3, S, S] -> global [B, D] and local [B, P, D], not normalised."""
        if pixels.ndim != 4 or tuple(pixels.shape[1:]) != (3, self.image_size, self.image_size):
            raise ValueError(
                f"pixels have shape {tuple(pixels.shape)}; this backbone takes "
                f"[B, 3, {self.image_size}, {self.image_size}]"
            )
        dtype = _PRECISIONS[self.precision]
        lower = torch.autocast(self.device.type, dtype) if dtype else contextlib.nullcontext()
        with lower:
            features = self._encode_image(pixels.to(self.device))
        if self.local_grid is not None:
            features = _pooled(features, self.local_grid)
        return replace(features, global_=features.global_.float(), local=features.local.float())

    @cached_property
    def cost(self) -> tuple[int, tuple[int, int]]:
        """Bytes that the features of one image take in the cache, and their grid (h, w)."""
        probe = self.encode_image(torch.zeros(1, 3, self.image_size, self.image_size))
        return 4 * self.width + 2 * probe.local[0].numel(), probe.grid

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Texts -> token ids [B, context_length] int64 on the CPU; longer ones are cut."""
        tokens: Tensor = self._tokenizer(list(texts))
        return tokens

    def eos_positions(self, tokens: Tensor) -> Tensor:
        """Where each text ends: the position of its end-of-text token, [B] int64."""
        return self._text.eos_positions(tokens, self._pad_id)

    @torch.no_grad()
    def embed_tokens(self, tokens: Tensor) -> Tensor:
        """Token ids [B, T] -> token embeddings [B, T, Wt], without positions."""
        return self._text.embed(tokens.to(self.device))

    def encode_text_embeddings(self, embeddings: Tensor, eos: Tensor) -> TextFeatures:
        """Token embeddings [B, T, Wt] -> features, differentiable with respect to the embeddings.

        Args:
            embeddings: T may be anything up to the context length; positions are added here.
            eos: [B], the position of each text's end-of-text token; what is behind is ignored.

        Returns:
            global [B, D] (the feature at ``eos``), local [B, T, D], mask [B, T]; not normalised.
        """
        return self._text.encode(embeddings.to(self.device), eos.to(self.device), self._pad_id)

    def encode_prompts(self, prompts: Tensor, eos: Tensor, shared: int = 0) -> Tensor:
        """Prompts [G, C, T, Wt] -> global features [G, C, D], not normalised.

        Args:
            prompts: token embeddings; the first ``shared`` positions are the same within each of
                the G groups and are computed once (gradients reach the first prompt's copy).
            eos: [C], the position of each prompt's end-of-text token.
        """
        return self._text.encode_prompts(
            prompts.to(self.device), eos.to(self.device), shared, self._pad_id
        )

    @torch.no_grad()
    def encode_tokens(self, tokens: Tensor) -> TextFeatures:
        """Token ids [B, T] that hold each text's end -> features at that T, not normalised."""
        return self.encode_text_embeddings(self.embed_tokens(tokens), self.eos_positions(tokens))

    def encode_text(self, texts: Sequence[str]) -> TextFeatures:
        """Texts -> features cut to the longest text T; global as open_clip's ``encode_text``."""
        tokens = self.tokenize(texts)
        longest = int(self.eos_positions(tokens).max()) + 1
        return self.encode_tokens(tokens[:, :longest])

    def _check_tokens(self, tokens: Tensor) -> None:
        """A tokenizer that does not belong to the text tower would give plausible nonsense."""
        vocabulary = self._text.token_embedding.num_embeddings
        if int(tokens.max()) >= vocabulary or tokens.shape[1] != self.context_length:
            raise UserError(
                f"{self.spec}: the tokenizer gives ids up to {int(tokens.max())} in rows of "
                f"{tokens.shape[1]}, but the text tower knows {vocabulary} words and "
                f"{self.context_length} positions; use the tokenizer the model was trained with."
            )
        eos = self.eos_positions(tokens)
        behind = torch.arange(tokens.shape[1]) > eos[:, None]
        if self._text.can_be_cut and bool((tokens[behind] != self._pad_id).any()):
            raise UserError(
                f"{self.spec}: the model takes a text's feature from its end-of-text token, but "
                "its tokenizer puts tokens behind it: that token must have the highest id of the "
                "vocabulary, or text_cfg must name it (pool_type 'eos', eos_id)."
            )


def _digest(model: Any, config: dict[str, Any]) -> str:
    """Hash of every weight (name, type, shape, bytes) and of the configuration, 16 hex digits."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def _pooled(features: ImageFeatures, grid: int) -> ImageFeatures:
    """The features with local ones averaged on ``grid`` x ``grid`` cells, where they are finer."""
    height, width = features.grid
    if max(height, width) <= grid:
        return features
    batch, _, depth = features.local.shape
    maps = features.local.transpose(1, 2).reshape(batch, depth, height, width)
    cells = F.adaptive_avg_pool2d(maps, (min(grid, height), min(grid, width)))
    return replace(
        features, local=cells.flatten(2).transpose(1, 2), grid=(cells.shape[2], cells.shape[3])
    )


def _preprocess_cfg(model: Any, image_size: int | None, resize_mode: str | None) -> PreprocessCfg:
    cfg = PreprocessCfg(**model.visual.preprocess_cfg)
    if image_size is not None:
        cfg = replace(cfg, size=(image_size, image_size))
    if resize_mode is not None:
        cfg = replace(cfg, resize_mode=resize_mode)
    side = _side(cfg.size)
    return replace(cfg, size=(side, side), mean=tuple(cfg.mean), std=tuple(cfg.std))


def _side(size: int | Sequence[int]) -> int:
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise UserError(
            f"this model takes images of {height} x {width} pixels; only square ones are supported."
        )
    return height
