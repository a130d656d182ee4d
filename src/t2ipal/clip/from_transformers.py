"""CLIPs of transformers: their weights, in the modules that open_clip computes with.

CLIPModel, MetaClip2Model, ChineseCLIPModel, SiglipModel and Siglip2Model are the same networks as
open_clip's under other names, so their weights are renamed, and everything that this room knows of
towers (local features, other image sizes, prompts from embeddings) holds for them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from open_clip.timm_model import TimmModel
from open_clip.transformer import QuickGELU, TextTransformer, VisionTransformer
from torch import Tensor, nn

from t2ipal.errors import UserError, listed

_CAUSAL, SIGLIP = ("clip", "metaclip_2"), ("siglip", "siglip2")
KINDS = (*_CAUSAL, "chinese_clip", *SIGLIP)
"""The ``model_type`` of what can be converted."""

# Buffers that old checkpoints hold, and weights that no feature depends on.
_UNUSED = ("position_ids", "logit_bias", ".pooler.dense.weight", ".pooler.dense.bias")


_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "quick_gelu": QuickGELU,
    "gelu": nn.GELU,
    "gelu_pytorch_tanh": partial(nn.GELU, approximate="tanh"),
    "gelu_new": partial(nn.GELU, approximate="tanh"),
}
"""By transformers' name, ``hidden_act``."""


def convert(
    config: Any, weights: dict[str, Tensor], where: str
) -> tuple[TransformersCLIP, dict[str, Any]]:
    """A model of transformers as open_clip's modules, and what describes it beside its weights.

    Args:
        config: its configuration.
        weights: its ``state_dict``, which stays as it is.
        where: from where these are, for messages.

    Raises:
        UserError: no such CLIP, or weights that do not belong to it.
    """
    kind = config.model_type
    if kind not in KINDS:
        raise no_clip(where, kind)
    seen, read = config.vision_config, config.text_config
    patches = seen.num_patches**0.5 if kind == "siglip2" else seen.image_size / seen.patch_size
    vision = _shape(seen, where) | {
        "patch_size": seen.patch_size,
        "image_size": round(patches) * seen.patch_size,
    }
    text = _shape(read, where) | {
        "vocabulary": read.vocab_size,
        "positions": read.max_position_embeddings,
        "eos": read.eos_token_id if kind in _CAUSAL else None,
    }
    take = _Taken(weights, where)
    if max(vision["layers"], text["layers"]) > len(weights):
        raise UserError(f"{where}: says of more layers than there are weights; restore the file.")
    there, positions = sum(tensor.numel() for tensor in weights.values()), round(patches) ** 2
    out = read.projection_size if kind in SIGLIP else config.projection_dim
    wanted = _numbers(vision, positions + out)
    wanted += _numbers(text, text["vocabulary"] + text["positions"] + out)
    if wanted > max(2 * there, 2**24):  # which would fill the memory with random ones first
        raise UserError(
            f"{where}: is of a model of {wanted:,} numbers, but the weights are {there:,}; restore "
            "the file."
        )
    try:
        if kind in SIGLIP:
            visual: Any = _SiglipTower(vision)
            visual.trunk.load_state_dict(_siglip_vision(take, vision))
            words: nn.Module = _text_tower(text, read.projection_size, siglip=True)
        else:
            visual = VisionTransformer(
                image_size=vision["image_size"],
                patch_size=vision["patch_size"],
                output_dim=config.projection_dim,
                **_open_clip(vision),
            )
            visual.load_state_dict(_clip_vision(take, vision))
            make = BertTower if kind == "chinese_clip" else _text_tower
            words = make(text, config.projection_dim)
        state = _bert if kind == "chinese_clip" else partial(_text, siglip=kind in SIGLIP)
        words.load_state_dict(state(take, text))
    except RuntimeError as error:  # torch's, of sizes that do not fit
        last = str(error).strip().splitlines()[-1].strip()[:200]
        raise UserError(
            f"{where}: the configuration does not belong to the weights ({last}); fetch both again."
        ) from None
    scale = take("logit_scale").reshape(())
    take.refuse_rest()
    described = {"model_type": kind, "vision": vision, "text": text}
    return TransformersCLIP(visual, words, scale), described


def _numbers(shape: dict[str, Any], rows: int) -> int:
    """About how many numbers a tower has, with so many rows of embeddings and outputs."""
    width = shape["width"]
    blocks = shape["layers"] * (4 * width + 2 * shape["hidden"])
    return int(width * (blocks + rows))


def no_clip(where: str, kind: Any) -> UserError:
    return UserError(
        f"{where}: a model of type {str(kind)[:40]!r} is none of the CLIPs of transformers that "
        f"are known here: {listed(KINDS)}."
    )


def _shape(config: Any, where: str) -> dict[str, Any]:
    if config.hidden_act not in _ACTIVATIONS:
        raise UserError(
            f"{where}: the activation {config.hidden_act!r} is not known here; CLIPs have "
            f"{listed(tuple(_ACTIVATIONS))}."
        )
    return {
        "width": config.hidden_size,
        "layers": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "hidden": config.intermediate_size,
        "activation": config.hidden_act,
        "eps": config.layer_norm_eps,
    }


def _open_clip(shape: dict[str, Any]) -> dict[str, Any]:
    """A tower's shape as open_clip's transformers take it."""
    return {
        "width": shape["width"],
        "layers": shape["layers"],
        "heads": shape["heads"],
        "mlp_ratio": _mlp_ratio(shape),
        "act_layer": _ACTIVATIONS[shape["activation"]],
        "norm_layer": partial(nn.LayerNorm, eps=shape["eps"]),
    }


def _text_tower(shape: dict[str, Any], output_dim: int, siglip: bool = False) -> TextTransformer:
    # until 2023 transformers wrote 2 for CLIP's end-of-text token and looked for the highest id
    eos = shape["eos"]
    pool = "last" if siglip else "argmax" if eos == 2 else "eos"
    return TextTransformer(
        context_length=shape["positions"],
        vocab_size=shape["vocabulary"],
        output_dim=output_dim,
        no_causal_mask=siglip,
        proj_bias=siglip,
        pool_type=pool,
        eos_id=-1 if eos is None else eos,
        **_open_clip(shape),
    )


class _Taken:
    """Weights that are taken out one by one, so that none is missed or left."""

    def __init__(self, weights: dict[str, Tensor], where: str) -> None:
        self.where = where
        self.left = {name: t for name, t in weights.items() if not name.endswith(_UNUSED)}

    def __call__(self, *names: str) -> Tensor:
        """The tensor of this name, or those of several, one under another."""
        for name in names:
            if name not in self.left:
                raise UserError(
                    f"{self.where}: the weights lack {name}; a CLIP with both towers is needed."
                )
        return (
            torch.cat([self.left.pop(name) for name in names])
            if names[1:]
            else self.left.pop(names[0])
        )

    def layer(self, new: str, *old: str) -> dict[str, Tensor]:
        """Weight and bias of one layer, or of several stacked, under a new name."""
        found = {}
        for kind in ("weight", "bias"):
            found[f"{new}.{kind}"] = self(*(f"{name}.{kind}" for name in old))
        return found

    def refuse_rest(self) -> None:
        if self.left:
            names = listed(tuple(self.left)[:3])
            raise UserError(
                f"{self.where}: {len(self.left)} of the weights have no place in such a model "
                f"({names}); merge adapters into it, and save the plain CLIP."
            )


def _block(take: _Taken, old: str, new: str) -> dict[str, Tensor]:
    """One block of open_clip's transformers."""
    attention = take.layer("", *(f"{old}.self_attn.{part}_proj" for part in "qkv"))
    return {
        **take.layer(f"{new}.ln_1", f"{old}.layer_norm1"),
        f"{new}.attn.in_proj_weight": attention[".weight"],
        f"{new}.attn.in_proj_bias": attention[".bias"],
        **take.layer(f"{new}.attn.out_proj", f"{old}.self_attn.out_proj"),
        **take.layer(f"{new}.ln_2", f"{old}.layer_norm2"),
        **take.layer(f"{new}.mlp.c_fc", f"{old}.mlp.fc1"),
        **take.layer(f"{new}.mlp.c_proj", f"{old}.mlp.fc2"),
    }


def _text(take: _Taken, shape: dict[str, Any], *, siglip: bool) -> dict[str, Tensor]:
    """open_clip's ``TextTransformer``."""
    state = {
        "token_embedding.weight": take("text_model.embeddings.token_embedding.weight"),
        "positional_embedding": take("text_model.embeddings.position_embedding.weight"),
        **take.layer("ln_final", "text_model.final_layer_norm"),
    }
    if siglip:
        state |= take.layer("text_projection", "text_model.head")
    else:
        state["text_projection"] = take("text_projection.weight").T
    for i in range(shape["layers"]):
        state |= _block(take, f"text_model.encoder.layers.{i}", f"transformer.resblocks.{i}")
    return state


def _clip_vision(take: _Taken, shape: dict[str, Any]) -> dict[str, Tensor]:
    """open_clip's ``VisionTransformer``."""
    state = {
        "class_embedding": take("vision_model.embeddings.class_embedding"),
        "conv1.weight": take("vision_model.embeddings.patch_embedding.weight"),
        "positional_embedding": take("vision_model.embeddings.position_embedding.weight"),
        **take.layer("ln_pre", "vision_model.pre_layrnorm"),  # spelled so there
        **take.layer("ln_post", "vision_model.post_layernorm"),
        "proj": take("visual_projection.weight").T,
    }
    for i in range(shape["layers"]):
        state |= _block(take, f"vision_model.encoder.layers.{i}", f"transformer.resblocks.{i}")
    return state


def _siglip_vision(take: _Taken, shape: dict[str, Any]) -> dict[str, Tensor]:
    """timm's ``VisionTransformer`` with attention pooling."""
    patch = take.layer("patch_embed.proj", "vision_model.embeddings.patch_embedding")
    kernel, side = patch["patch_embed.proj.weight"], shape["patch_size"]
    if kernel.ndim == 2:  # SigLIP 2 cuts patches out itself: [W, side * side * 3], colours last
        kernel = kernel.reshape(-1, side, side, 3).permute(0, 3, 1, 2)
    head = "vision_model.head"
    attention = [take(f"{head}.attention.in_proj_{kind}") for kind in ("weight", "bias")]
    state = patch | {
        "patch_embed.proj.weight": kernel,
        "pos_embed": take("vision_model.embeddings.position_embedding.weight")[None],
        **take.layer("norm", "vision_model.post_layernorm"),
        "attn_pool.latent": take(f"{head}.probe"),
        **take.layer("attn_pool.proj", f"{head}.attention.out_proj"),
        **take.layer("attn_pool.norm", f"{head}.layernorm"),
        **take.layer("attn_pool.mlp.fc1", f"{head}.mlp.fc1"),
        **take.layer("attn_pool.mlp.fc2", f"{head}.mlp.fc2"),
    }
    for kind, tensor in zip(("weight", "bias"), attention, strict=True):
        state[f"attn_pool.q.{kind}"] = tensor[: shape["width"]]
        state[f"attn_pool.kv.{kind}"] = tensor[shape["width"] :]
    for i in range(shape["layers"]):
        old, new = f"vision_model.encoder.layers.{i}", f"blocks.{i}"
        attended = (f"{old}.self_attn.{part}_proj" for part in "qkv")
        state |= take.layer(f"{new}.norm1", f"{old}.layer_norm1")
        state |= take.layer(f"{new}.attn.qkv", *attended)
        state |= take.layer(f"{new}.attn.proj", f"{old}.self_attn.out_proj")
        state |= take.layer(f"{new}.norm2", f"{old}.layer_norm2")
        state |= take.layer(f"{new}.mlp.fc1", f"{old}.mlp.fc1")
        state |= take.layer(f"{new}.mlp.fc2", f"{old}.mlp.fc2")
    return state


def _bert(take: _Taken, shape: dict[str, Any]) -> dict[str, Tensor]:
    """:class:`BertTower`; all its tokens are of the first type, so that it joins the positions."""
    embeddings = "text_model.embeddings"
    types = take(f"{embeddings}.token_type_embeddings.weight")
    state = {
        "token_embedding.weight": take(f"{embeddings}.word_embeddings.weight"),
        "positional_embedding": take(f"{embeddings}.position_embeddings.weight") + types[0],
        **take.layer("transformer.norm", f"{embeddings}.LayerNorm"),
        "text_projection": take("text_projection.weight").T,
    }
    for i in range(shape["layers"]):
        old, new = f"text_model.encoder.layer.{i}", f"transformer.layers.{i}"
        own = (f"{old}.attention.self.{part}" for part in ("query", "key", "value"))
        attention = take.layer("", *own)
        state[f"{new}.self_attn.in_proj_weight"] = attention[".weight"]
        state[f"{new}.self_attn.in_proj_bias"] = attention[".bias"]
        state |= take.layer(f"{new}.self_attn.out_proj", f"{old}.attention.output.dense")
        state |= take.layer(f"{new}.norm1", f"{old}.attention.output.LayerNorm")
        state |= take.layer(f"{new}.linear1", f"{old}.intermediate.dense")
        state |= take.layer(f"{new}.linear2", f"{old}.output.dense")
        state |= take.layer(f"{new}.norm2", f"{old}.output.LayerNorm")
    return state


# --- towers that open_clip has no class for, with the attributes of those that it has ------------


class TransformersCLIP(nn.Module):
    """A CLIP of transformers as :class:`t2ipal.clip.backbone.Backbone` takes one.

    Attributes:
        visual: an open_clip vision tower, with ``preprocess_cfg``.
        text: an open_clip text tower, or a :class:`BertTower`.
        logit_scale: the logarithm of what similarities are multiplied with.
    """

    def __init__(self, visual: nn.Module, text: nn.Module, logit_scale: Tensor) -> None:
        super().__init__()
        self.visual = visual
        self.text = text
        self.logit_scale = nn.Parameter(logit_scale.float())


class BertTower(nn.Module):
    """The BERT of Chinese-CLIP (arXiv 2211.01335, section 2), from token embeddings on.

    Its attributes are those of open_clip's ``TextTransformer``. Each token sees all others up to
    the text's end; the first one is the text's feature.
    """

    def __init__(self, shape: dict[str, Any], output_dim: int) -> None:
        super().__init__()
        width = shape["width"]
        self.token_embedding = nn.Embedding(shape["vocabulary"], width)
        self.positional_embedding = nn.Parameter(torch.empty(shape["positions"], width))
        self.transformer = _BertLayers(shape)
        self.ln_final = nn.Identity()
        self.text_projection = nn.Parameter(torch.empty(width, output_dim))
        self.attn_mask = None
        self.cls_emb = None
        self.pool_type = "first"
        self.eos_id = -1


class _BertLayers(nn.Module):
    """Norm, then layers that normalise behind each branch."""

    def __init__(self, shape: dict[str, Any]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(shape["width"], eps=shape["eps"])
        layer = partial(
            nn.TransformerEncoderLayer,
            shape["width"],
            shape["heads"],
            shape["hidden"],
            dropout=0.0,
            activation=_ACTIVATIONS[shape["activation"]](),
            layer_norm_eps=shape["eps"],
            batch_first=True,
        )
        self.layers = nn.ModuleList(layer() for _ in range(shape["layers"]))

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """[B, T, W] and [B, T] bool, what lies behind the text's end -> [B, T, W]."""
        x = self.norm(x)
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=hidden)
        return x


class _SiglipTower(TimmModel):  # type: ignore[misc]  # which mypy does not see
    """A vision transformer of timm that pools with a learned query, of any size."""

    def __init__(self, shape: dict[str, Any]) -> None:
        from timm.models.vision_transformer import VisionTransformer as TimmTransformer

        nn.Module.__init__(self)  # TimmModel's own makes trunks of known names only
        side = shape["image_size"]
        self.image_size = (side, side)
        self.trunk = TimmTransformer(
            img_size=side,
            patch_size=shape["patch_size"],
            num_classes=0,
            global_pool="map",
            embed_dim=shape["width"],
            depth=shape["layers"],
            num_heads=shape["heads"],
            mlp_ratio=_mlp_ratio(shape),
            class_token=False,
            norm_layer=partial(nn.LayerNorm, eps=shape["eps"]),
            act_layer=_ACTIVATIONS[shape["activation"]],
        )
        self.head = nn.Sequential()


def _mlp_ratio(shape: dict[str, Any]) -> float:
    """What gives the hidden width again when multiplied with the width and rounded down."""
    return float((shape["hidden"] + 0.5) / shape["width"])
