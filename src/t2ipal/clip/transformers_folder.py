"""A CLIP's folder as transformers writes it: JSON, safetensors and the tokenizer's files.

Nothing else of a checkpoint is read, so that no code of its own runs.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from t2ipal.clip.from_transformers import KINDS, SIGLIP, TransformersCLIP, convert, no_clip
from t2ipal.clip.model_folder import refuse_pickles, refuse_tokenizer_code
from t2ipal.clip.preprocessing import of_transformers
from t2ipal.errors import UserError
from t2ipal.files.tables import read_text

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
FILES = ["*.json", "*.txt", "*.model", WEIGHTS, "model-*-of-*.safetensors"]
"""What of a repository is used."""

_PROCESSORS = ("preprocessor_config.json", "processor_config.json")


def read_folder(folder: Path, config: Any) -> tuple[TransformersCLIP, dict[str, Any]]:
    """The CLIP in a folder with this :func:`read_config`, and what describes it.

    Raises:
        UserError: a file is missing, broken, pickled, or does not belong to the configuration.
    """
    weights = _read_weights(folder)
    for name in _PROCESSORS:
        if (folder / name).is_file():
            settings = _read_json(folder / name)
            settings = settings.get("image_processor", settings)
            model, described = convert(config, weights, str(folder / CONFIG))
            model.visual.preprocess_cfg = of_transformers(  # type: ignore[assignment]
                settings, config.model_type, str(folder / name)
            )
            return model, described
    raise UserError(f"{folder}: no {_PROCESSORS[0]} in this folder; copy the model's own there.")


def read_config(folder: Path) -> Any:
    """transformers' configuration of a CLIP's folder, with what it leaves out.

    Raises:
        UserError: it is missing or broken, or of a model that is none of these CLIPs.
    """
    from transformers import CONFIG_MAPPING
    from transformers.utils import logging

    path = folder / CONFIG
    if not path.is_file():
        raise UserError(
            f"{folder}: no {CONFIG} in this folder; name one that transformers' save_pretrained "
            "wrote, or a model of open_clip without 'transformers:' before it."
        )
    said = _read_json(path)
    kind = said.get("model_type")
    if kind not in KINDS:
        raise no_clip(str(path), kind)
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # it warns of SigLIP's defaults, which are its own
    try:
        return CONFIG_MAPPING[kind].from_dict(said)
    except Exception as error:  # whatever transformers makes of wrong types and sizes
        raise UserError(
            f"{path}: {str(error).strip().splitlines()[-1][:200]}; restore the file."
        ) from None
    finally:
        logging.set_verbosity(level)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_text(path))
    except UserError:
        raise
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{path}: is no JSON object; restore the file.")
    return found


def _read_weights(folder: Path) -> dict[str, Tensor]:
    files = [folder / WEIGHTS]
    if not files[0].is_file() and (folder / INDEX).is_file():
        named = _read_json(folder / INDEX).get("weight_map")
        names = [str(name) for name in named.values()] if isinstance(named, dict) else [""]
        if not names or not all(name and Path(name).name == name for name in names):
            raise UserError(f"{folder / INDEX}: names no files of this folder; restore the file.")
        files = [folder / name for name in sorted(set(names))]
    elif not files[0].is_file():
        for file in sorted(folder.iterdir()):
            refuse_pickles(file, WEIGHTS)
        raise UserError(
            f"{folder}: no {WEIGHTS}; if the model has pickled weights alone (pytorch_model.bin), "
            "download all of it into a folder, and name that after 'transformers:' to be told how "
            "to convert them."
        )
    weights: dict[str, Tensor] = {}
    for file in files:
        try:
            weights |= load_file(file)
        except (SafetensorError, OSError) as error:
            reason = "is not there" if not file.exists() else str(error)[:200]
            raise UserError(
                f"{file}: the weights cannot be loaded ({reason}); fetch them again."
            ) from None
    return weights


def tokenizer_of(folder: Path, config: Any) -> Callable[[Sequence[str]], Tensor]:
    """The tokenizer in a folder: texts -> token ids [B, context].

    Raises:
        UserError: it names code of its own, or needs a library that is not installed.
    """
    from transformers import AutoTokenizer

    settings = folder / "tokenizer_config.json"
    refuse_tokenizer_code(settings)
    named = _read_json(settings).get("tokenizer_class") if settings.is_file() else None
    if named == "SiglipTokenizer" and not importlib.util.find_spec("sentencepiece"):
        # without it transformers takes another tokenizer, which keeps capitals and punctuation
        raise UserError(
            f"{folder}: its tokenizer needs SentencePiece; run: pip install sentencepiece protobuf"
        )
    return padding(AutoTokenizer.from_pretrained(folder, trust_remote_code=False), config)


def padding(tokenizer: Any, config: Any) -> Callable[[Sequence[str]], Tensor]:
    """A tokenizer of transformers as open_clip's: it fills rows up behind the text, and cuts them.

    SigLIP was trained on lower-case texts; not every tokenizer saved with one says so.
    """
    length = config.text_config.max_position_embeddings
    lower = config.model_type in SIGLIP

    def tokenize(texts: Sequence[str]) -> Tensor:
        ids: Tensor = tokenizer(
            [text.lower() if lower else text for text in texts],
            padding="max_length",
            padding_side="right",
            truncation=True,
            max_length=length,
            return_tensors="pt",
        )["input_ids"]
        return ids

    return tokenize
