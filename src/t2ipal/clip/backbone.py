"""A frozen CLIP as this project uses it: dense image features, text from embeddings."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from t2ipal.clip import load as sources
from t2ipal.clip.clip_settings import ClipSettings, Precision, ResizeMode
from t2ipal.clip.dense import ImageFeatures, image_encoder
from t2ipal.clip.folded import fold, fuse_attention
from t2ipal.clip.positions import resize_tower
from t2ipal.clip.preprocessing import Preprocessing
from t2ipal.clip.text import TextFeatures, TextTower
from t2ipal.errors import UserError
from t2ipal.files import sha256_text

_PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
# Bumped when the code below would give other features for the same model and files.
_FEATURES_VERSION = "2"
_PROBES = ("a photo of a dog.", "Two umbrellas & 3 children?", "")


class Backbone:
    """A frozen CLIP: its weights never change and ask for no gradient.

    Make one with :meth:`load`; the constructor takes an open_clip model that is in memory already.

    Attributes:
        spec: what the user wrote, such as ``"RN50:openai"``.
        digest: 16 hex digits of the weights and the configuration, whatever file they came from.
        preprocessing: how images become pixels.
        preprocess_digest: 16 hex digits of size, crop, interpolation and normalisation.
        text_width: Wt, the width of token embeddings.
        context_length: the most tokens a text may have.
        image_size: S; images enter as [3, S, S].
        pool_positions: whether global features are pooled with positions, as CLIP's own.
        logit_scale: what CLIP multiplies similarities with (the exponential of its parameter).
        device: where the model computes.
        precision: ``fp32``, ``bf16`` or ``fp16``, of the image tower; text is always float32, as
            prompts are learned through it.
        made_for: ``images`` in words and their ``size`` in pixels, if it knows no others; or None.
        image_space: what cached features of images depend on, as one digest.

    Args:
        model: an open_clip ``CLIP`` or ``CustomTextCLIP``, or one of transformers in such modules;
            it is frozen, and resized if asked to.
        tokenizer: open_clip's tokenizer of that model.
        settings: how it sees an image and where it computes; ``clip`` is a name for messages and
            records.
        config: open_clip's ``model_cfg``, as it cannot be read back from the model.
        pool_positions: see :func:`t2ipal.clip.dense.image_encoder`.
        preprocessing: how images become pixels; what ``model.visual.preprocess_cfg`` and
            ``settings`` say if omitted.
        made_for: see above.
        text: look at the tokenizer now; if not, then as soon as a text comes.

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
        preprocessing: Preprocessing | None = None,
        made_for: Mapping[str, Any] | None = None,
        text: bool = True,
    ) -> None:
        self.spec, self.made_for = settings.clip, made_for
        image_size, local_grid = settings.image_size, settings.local_grid
        self.device, self.precision = settings.found()
        self.model = model.eval().requires_grad_(False)
        self.digest = _digest(model, config)
        if image_size is not None:
            resize_tower(model.visual, image_size)
        self.preprocessing = preprocessing or Preprocessing.of(
            model.visual.preprocess_cfg, image_size, settings.resize_mode
        )
        self.model.to(self.device)
        self.image_size = self.preprocessing.side
        self.resize_mode = self.preprocessing.resize_mode
        self.preprocess_digest = self.preprocessing.digest
        self.pool_positions = pool_positions
        self.local_grid = local_grid
        self._memory_format = fold(model.visual)
        self._encode_image = image_encoder(model.visual, pool_positions=pool_positions)
        self._text = TextTower(model)
        fuse_attention(self._text.transformer)
        self._tokenizer = tokenizer
        self.context_length = self._text.context_length
        self.text_width = self._text.width
        self.logit_scale = float(model.logit_scale.exp())
        self.image_space = sha256_text(
            _FEATURES_VERSION, self.digest, self.preprocess_digest, self.precision,
            str(pool_positions), *([] if local_grid is None else [f"grid {local_grid}"]),
        )[:16]  # fmt: skip
        if text:
            _ = self._probes

    @cached_property
    def _probes(self) -> Tensor:
        """Tokens of some texts, by which the tokenizer is checked."""
        probes = self.tokenize(_PROBES)
        self._check_tokens(probes)
        return probes

    @property
    def _pad_id(self) -> int:
        return int(self._probes[-1, -1])

    @property
    def _pad_ends(self) -> bool:
        return _pad_ends(self._probes)

    @property
    def has_start(self) -> bool:
        """Whether every text begins with a start token."""
        return len(set(self._probes[:, 0].tolist())) == 1

    @cached_property
    def text_space(self) -> str:
        """What cached features of captions depend on, as one digest."""
        return sha256_text(_FEATURES_VERSION, self.digest, str(self._probes.tolist()))[:16]

    @cached_property
    def width(self) -> int:
        """D, the width of the space that images and texts share."""
        return self.encode_text(_PROBES[:1]).global_.shape[1]

    @classmethod
    def load(
        cls, settings: ClipSettings | str, *, pool_positions: bool = True, text: bool = True
    ) -> Backbone:
        """Load a CLIP.

        Args:
            settings: which CLIP, and how it sees an image; or its name alone: ``RN50:openai``
                (open_clip's name and tag), ``hf-hub:org/name``, a folder in open_clip's format
                (open_clip_config.json, open_clip_model.safetensors, tokenizer files),
                ``transformers:`` and such a name or folder in transformers' format, or
                a packaged one, ``photo`` or ``miniature``.
            pool_positions, text: as for the constructor.

        Raises:
            UserError: as the constructor, and when there is no such model or its weights are
                missing; the message says how to get them.
        """
        if isinstance(settings, str):
            settings = ClipSettings(clip=settings)
        source = sources.find(settings.clip)
        model, config = source.load()
        tokenizer = source.load_tokenizer() if text else _Later(source.load_tokenizer)
        return cls(
            model,
            tokenizer,
            settings,
            config=config,
            pool_positions=pool_positions,
            made_for=source.made_for,
            text=text,
        )

    @classmethod
    def wrap(
        cls,
        model: Any,
        tokenizer: Any,
        preprocess: Any,
        *,
        clip: str = "wrapped",
        device: str = "auto",
        precision: Precision = "auto",
        resize_mode: ResizeMode = "shortest",
    ) -> Backbone:
        """A model object of yours. It stays as it is: the backbone computes with a copy.

        Args:
            model: a CLIP of open_clip, of transformers (see :mod:`t2ipal.clip.from_transformers`)
                or of OpenAI's ``clip``, not compiled.
            tokenizer: turns a list of texts into token ids [B, context], as ``open_clip``'s and
                ``clip.tokenize`` do; or a tokenizer of transformers.
            preprocess: turns a PIL image into float32 [3, S, S]; or an image processor or processor
                of transformers.
            clip: its name in messages and records.
            device, precision: where the backbone computes, and in which number format.
            resize_mode: how ``preprocess`` makes a square, which only overlays need to know.

        Raises:
            UserError: another kind of model, or parts that do not fit together.
        """
        from t2ipal.clip.wrapping import parts_of

        model, config, tokenizer, preprocessing = parts_of(
            model, tokenizer, preprocess, resize_mode
        )
        settings = ClipSettings(clip=clip, device=device, precision=precision)
        return cls(model, tokenizer, settings, config=config, preprocessing=preprocessing)

    def preprocess(self, image: Image.Image) -> Tensor:
        """A PIL image as the model wants it: float32 [3, S, S], by open_clip's own transform."""
        return self.preprocessing.transform(image)

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
            features = self._encode_image(pixels.to(self.device, memory_format=self._memory_format))
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
        return self._text.eos_positions(tokens, self._pad_id, self._pad_ends)

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
        pad_id = int(tokens[-1, -1])
        eos = self._text.eos_positions(tokens, pad_id, _pad_ends(tokens))
        behind = torch.arange(tokens.shape[1]) > eos[:, None]
        if self._text.can_be_cut and bool((tokens[behind] != pad_id).any()):
            raise UserError(
                f"{self.spec}: the model takes a text's feature from its end-of-text token, but "
                "its tokenizer puts tokens behind it: that token must have the highest id of the "
                "vocabulary, or text_cfg must name it (pool_type 'eos', eos_id)."
            )


class _Later:
    """A tokenizer that is loaded when it is first called."""

    def __init__(self, load: Callable[[], Any]) -> None:
        self._load = cache(load)

    def __call__(self, texts: list[str]) -> Any:
        return self._load()(texts)


def _pad_ends(probes: Tensor) -> bool:
    """Whether padding ends a text: the empty one, which is the last, then has no other token."""
    return bool((probes[-1] == probes[-1, -1]).all())


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
