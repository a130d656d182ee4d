"""What a CLIP in open_clip's format may say: data, and nothing that would run code.

A folder or a repository of the hub comes from someone else. Its configuration chooses classes and
passes arguments to open_clip, timm and transformers, some of which fetch and run Python; pickled
weights can do the same. So only keys known to be harmless are let through, only safetensors are
read, and transformers is told to trust no code.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import Any

from open_clip.constants import HF_CONFIG_NAME, HF_SAFE_WEIGHTS_NAME
from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer, SimpleTokenizer
from safetensors import safe_open
from torch.nn.modules.module import register_module_parameter_registration_hook

from t2ipal.errors import UserError
from t2ipal.files.tables import read_json

_COCA_KEY = "multimodal_cfg"  # refused with a better reason afterwards, as hf_model_name is
_MODEL_KEYS = frozenset(
    "embed_dim vision_cfg text_cfg quick_gelu custom_text init_logit_scale init_logit_bias "
    f"nonscalar_logit_scale {_COCA_KEY}".split()
)
_BLOCK_KEYS = (
    "width layers mlp_ratio ls_init_value final_ln_after_pool pool_type output_tokens act_kwargs "
    "norm_kwargs block_type qk_norm scaled_cosine_attn scale_heads scale_attn_inner scale_attn "
    "scale_fc"
)
_VISION_KEYS = frozenset(
    f"{_BLOCK_KEYS} head_width patch_size image_size patch_dropout attentional_pool "
    "attn_pooler_queries attn_pooler_heads no_ln_pre pos_embed_type timm_model_name "
    "timm_model_pretrained timm_pool timm_proj timm_proj_bias timm_drop timm_drop_path".split()
)
_TEXT_KEYS = frozenset(
    f"{_BLOCK_KEYS} context_length vocab_size heads embed_cls pad_id eos_id no_causal_mask "
    "proj_bias proj_type hf_tokenizer_name tokenizer_mode tokenizer_kwargs hf_model_name "
    "hf_model_pretrained hf_proj_type hf_pooler_type".split()
)
_TOKENIZER_KEYS = frozenset(("clean", "strip_sep_token"))
# A timm model or a repository of the hub; no prefix of another source, no path.
_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_OTHER_WEIGHTS = "open_clip_pytorch_model.safetensors"
_LONGEST = 4096  # pixels, tokens, or numbers where all of the weights are smaller
_ANY_SIZE = 2**24  # numbers that are no danger to any memory
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".npz", ".npy")


def read_config(path: Path) -> dict[str, Any]:
    """``model_cfg`` of an ``open_clip_config.json``, all of whose keys are known to be harmless.

    Raises:
        UserError: the file is missing or broken, or says something else; file and key are named.
    """
    if not path.is_file():
        raise UserError(
            f"{path.parent}: no {path.name} in this folder; "
            "name a folder in open_clip's format, which holds one beside the weights."
        )
    try:
        config = read_json(path)["model_cfg"]
    except (ValueError, LookupError, TypeError):
        raise UserError(
            f"{path}: not an open_clip configuration (a JSON object with 'model_cfg'); "
            "restore the file."
        ) from None
    _known(path, "model_cfg", config, _MODEL_KEYS)
    for part, keys in (("vision_cfg", _VISION_KEYS), ("text_cfg", _TEXT_KEYS)):
        _known(path, f"model_cfg.{part}", config.get(part), keys)
    text = config["text_cfg"]
    where = "model_cfg.text_cfg.tokenizer_kwargs"
    _known(path, where, text.get("tokenizer_kwargs") or {}, _TOKENIZER_KEYS)
    names = {
        "model_cfg.vision_cfg.timm_model_name": config["vision_cfg"].get("timm_model_name"),
        "model_cfg.text_cfg.hf_tokenizer_name": text.get("hf_tokenizer_name"),
    }
    for key, name in names.items():
        if name and not (isinstance(name, str) and _NAME.fullmatch(name)):
            raise UserError(f"{path}: {key} must be a plain name, not {str(name)[:80]!r}.")
    refuse_tokenizer_code(path.with_name("tokenizer_config.json"))
    result: dict[str, Any] = config
    return result


def _known(path: Path, where: str, mapping: Any, keys: frozenset[str]) -> None:
    """Refuse what is no JSON object, and keys that are not among ``keys``."""
    if not isinstance(mapping, dict):
        raise UserError(f"{path}: {where} must be a JSON object; restore the file.")
    for key in mapping:
        if key not in keys:
            raise UserError(
                f"{path}: {where}.{key[:80]} is not a setting that a model may bring along, as it "
                "could run code or is unknown; remove it if you can do without."
            )


@contextmanager
def refusing_sizes(folder: Path, config: dict[str, Any]) -> Iterator[None]:
    """Refuse sizes that the weights of a folder do not have: they would only fill the memory.

    open_clip makes a model of random numbers first, and compares it with the weights then. While
    it does so in the block, its parameters are counted before they are filled.

    Raises:
        UserError: a size of ``model_cfg`` exceeds every one of the weights, or all of them together
            ask for more than four times the weights (open_clip drops the decoder of some text
            towers, and a table of positions may be made smaller).
    """
    files = [folder / name for name in (HF_SAFE_WEIGHTS_NAME, _OTHER_WEIGHTS)]
    weights = next((file for file in files if file.is_file()), None)
    if weights is None:
        yield
        return
    with safe_open(weights, "pt") as stored:
        shapes = [stored.get_slice(name).get_shape() for name in stored.keys()]  # noqa: SIM118
    largest = max((size for shape in shapes for size in shape), default=0)
    bounds = {"layers": len(shapes)} | dict.fromkeys(("image_size", "context_length"), _LONGEST)
    for part, keys in (("vision_cfg", config["vision_cfg"]), ("text_cfg", config["text_cfg"])):
        for key, value in {**keys, "embed_dim": config.get("embed_dim")}.items():
            most = bounds.get(key, max(largest, _LONGEST))
            for size in value if isinstance(value, list) else [value]:
                if isinstance(size, int | float) and not -most <= size <= most:
                    raise UserError(
                        f"{folder / HF_CONFIG_NAME}: {key} of model_cfg.{part} is {size}, but the "
                        f"weights are smaller; restore the file."
                    )
    there, thread, wanted = sum(map(math.prod, shapes)), get_ident(), 0
    counted = set[int]()

    def count(numbers: int) -> None:
        nonlocal wanted
        wanted += numbers
        if wanted > max(4 * there, _ANY_SIZE):
            raise UserError(
                f"{folder / HF_CONFIG_NAME}: model_cfg is of a model of {wanted:,} numbers or "
                f"more, but the weights are {there:,}; restore the file."
            )

    def registered(module: Any, name: str, parameter: Any) -> None:
        # one that several modules share is registered by each of them
        if parameter is not None and get_ident() == thread and id(parameter) not in counted:
            counted.add(id(parameter))
            count(parameter.numel())

    count(_largest_table(config))
    wanted = 0
    hook = register_module_parameter_registration_hook(registered)
    try:
        yield
    finally:
        hook.remove()


def _largest_table(config: dict[str, Any]) -> int:
    """Numbers of the largest tensor that open_clip fills before it makes a parameter of it."""
    vision = config["vision_cfg"]
    if vision.get("timm_model_name"):
        return 0
    image, patch = vision.get("image_size") or 224, vision.get("patch_size") or 16
    side = (max(image) if isinstance(image, list) else image) // (
        min(patch) if isinstance(patch, list) else patch
    )
    width = vision.get("width") or 768
    return int(width * max(3 * width, config["embed_dim"], side**2 + 1))


def refuse_tokenizer_code(path: Path) -> None:
    """Refuse a ``tokenizer_config.json`` that names code of its own."""
    try:
        names_code = "auto_map" in read_json(path)
    except (UserError, TypeError):
        return  # missing or broken: transformers says so if it is needed
    if names_code:
        raise UserError(
            f"{path}: auto_map names Python code of the model's own, which is never run; remove "
            "the key, or use a model with a tokenizer that transformers has."
        )


def refuse_pickles(path: Path, better: str = HF_SAFE_WEIGHTS_NAME) -> None:
    """Refuse pickled weights: a file of them, or a folder in which open_clip would read one.

    Args:
        path: the file or folder.
        better: what a safe file beside it would be called.

    Raises:
        UserError: the weights are pickled, with the command that converts them; or there are none.
    """
    if path.is_dir():
        preferred = (HF_SAFE_WEIGHTS_NAME, _OTHER_WEIGHTS)
        if any((path / name).is_file() for name in preferred):
            return
        files = sorted(path.iterdir())
        for file in files:
            if file.is_file():
                refuse_pickles(file)
        if not any(file.suffix == ".safetensors" for file in files):
            raise UserError(
                f"{path}: no CLIP weights beside {HF_CONFIG_NAME}; put {HF_SAFE_WEIGHTS_NAME} "
                "there."
            )
    elif path.suffix.lower() in _PICKLED:
        raise UserError(
            f"{path}: pickled weights are not loaded, because they can run code; convert them: "
            f"{conversion(path, better)}"
        )


def conversion(path: Path, better: str = HF_SAFE_WEIGHTS_NAME) -> str:
    """The command that writes pickled weights as safetensors, called ``better``, beside them."""
    new = path.with_name(better)
    return (
        'python -c "import torch, safetensors.torch as s; '
        f"w = torch.load({str(path)!r}, 'cpu', weights_only=True); w = w.get('state_dict', w); "
        f's.save_file({{k: v.clone().contiguous() for k, v in w.items()}}, {str(new)!r})"'
    )


def tokenizer_of(config: dict[str, Any], source: Path | str, revision: str | None = None) -> Any:
    """open_clip's tokenizer of a checked ``model_cfg``: texts -> token ids [B, context].

    ``open_clip.get_tokenizer`` would read the configuration again, of the hub at another revision
    perhaps, and pass on what has not been checked.

    Args:
        source: the folder, or for a model of the hub the repository that the configuration names.
        revision: of that repository.
    """
    text = config["text_cfg"]
    options = {"context_length": text.get("context_length", DEFAULT_CONTEXT_LENGTH)}
    options |= text.get("tokenizer_kwargs") or {}
    if not text.get("hf_tokenizer_name"):
        return SimpleTokenizer(**options)
    if revision:
        options["revision"] = revision
    mode = text.get("tokenizer_mode")
    return HFTokenizer(source, tokenizer_mode=mode, trust_remote_code=False, **options)
