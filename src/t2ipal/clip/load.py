"""Where a CLIP comes from: a specification turned into what open_clip loads, or one clear sentence.

open_clip continues with random weights when it finds none and says so only in a log. Here a model
without weights is refused, with the command that fetches them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import open_clip
from huggingface_hub import snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from open_clip.constants import HF_CONFIG_NAME, HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from open_clip.pretrained import get_pretrained_cfg

from t2ipal.clip.model_folder import (
    conversion,
    read_config,
    refuse_pickles,
    refusing_sizes,
    tokenizer_of,
)
from t2ipal.clip.spared import complete_timm
from t2ipal.errors import UserError, nearest
from t2ipal.files.hub import download_command, fetch, first_line, hub_failures

PACKAGED = {
    "photo": "small, packaged, knows photos",
    "miniature": "small, packaged, knows icon scenes and no photos",
}
"""The CLIPs of this package, and what each stands for."""
_TRANSFORMERS = "transformers:"
_TRANSFORMERS_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_EXAMPLES = (
    "'RN50:openai', 'ViT-B-16:openai', 'hf-hub:org/name', 'transformers:org/name', 'photo', "
    "'miniature' or a folder"
)


@dataclass(frozen=True)
class _Source:
    """A CLIP with its weights on this machine.

    Attributes:
        spec: as the user wrote it.
        model: makes the model, on the CPU in float32, and what describes it beside its weights.
        tokenizer: makes the tokenizer, without reaching for the network where it can.
        made_for: ``images`` in words and their ``size`` in pixels, if it knows no others.
    """

    spec: str
    model: Callable[[], tuple[Any, dict[str, Any]]]
    tokenizer: Callable[[], Any]
    made_for: Mapping[str, Any] | None = None

    def load(self) -> tuple[Any, dict[str, Any]]:
        """The model on the CPU in float32, and what describes it beside its weights.

        Raises:
            UserError: the weights are damaged or do not fit the configuration.
        """
        try:
            return self.model()
        except UserError:
            raise
        except Exception as error:  # whatever open_clip, torch or safetensors make of bad files
            raise UserError(
                f"{self.spec}: the weights cannot be loaded ({first_line(error)}); "
                "fetch the model again or check that its configuration belongs to it."
            ) from error

    def load_tokenizer(self) -> Any:
        """open_clip's tokenizer of the model: texts -> token ids [B, context].

        Raises:
            UserError: its files are missing.
        """
        try:
            tokenizer = self.tokenizer()
            tokenizer(["a"])  # without a padding token, say, it fails only now
            return tokenizer
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"{self.spec}: the tokenizer cannot be loaded ({first_line(error)}); "
                "put its files (tokenizer.json, tokenizer_config.json) beside the weights, or "
                "fetch it once on a machine with a network."
            ) from error


def _open_clip(
    name: str,
    weights: Path | None,
    config: dict[str, Any],
    preprocessing: dict[str, Any] | None = None,
) -> Callable[[], tuple[Any, dict[str, Any]]]:
    """Makes a model of open_clip.

    Args:
        name: open_clip's, or ``local-dir:`` and a folder.
        weights: a file of weights; None for a folder.
        config: open_clip's ``model_cfg``, the activation included.
        preprocessing: how photos become the input of these weights, over open_clip's defaults.
    """

    def make() -> tuple[Any, dict[str, Any]]:
        if config["vision_cfg"].get("timm_model_name"):
            complete_timm()
        folder = Path(name.removeprefix("local-dir:"))
        with refusing_sizes(folder, config) if weights is None else nullcontext():
            model = open_clip.create_model(
                name,
                pretrained=None if weights is None else str(weights),
                # OpenAI's weights were trained with QuickGELU; open_clip only warns of a mismatch.
                force_quick_gelu=bool(config.get("quick_gelu", False)),
                require_pretrained=True,
                weights_only=True,
                force_preprocess_cfg=preprocessing,
            )
        return model, config

    return make


def find(spec: str) -> _Source:
    """Find the model a specification names; weights are fetched if a network allows it.

    Args:
        spec: ``name:tag`` of open_clip (``RN50:openai``; the tag may be a file of weights),
            ``hf-hub:org/name`` (``@revision`` may follow), a folder in open_clip's format,
            ``transformers:`` and such a name or folder in transformers' format, or a small CLIP of
            this package: ``photo``, which knows photos, or ``miniature``, which knows icon scenes.

    Raises:
        UserError: no such model, tag or folder; its weights are not there and cannot be fetched; or
            it is a kind of model whose prompts cannot be learned.
    """
    if spec == "miniature":
        from t2ipal.miniature.weights import MADE_FOR, path

        return replace(_folder(spec, Path(path("clip"))), made_for=MADE_FOR)
    if spec == "photo":
        from t2ipal.clip import photo_clip

        return _folder(spec, photo_clip.path())
    if spec.startswith("hf-hub:"):
        return _hub(spec)
    if spec.startswith(_TRANSFORMERS):
        return _transformers(spec)
    if spec.startswith("local-dir:"):
        return _folder(spec, Path(spec.removeprefix("local-dir:")))
    if Path(spec).is_dir():
        return _folder(spec, Path(spec))
    return _builtin(spec)


def hub_repository(spec: str) -> str | None:
    """The repository of the hub that a specification names, as far as it names one."""
    name, _, tag = spec.partition(":")
    if name in ("hf-hub", "transformers"):
        return None if Path(tag).is_dir() else tag.partition("@")[0]
    return _safe_weights(get_pretrained_cfg(name.replace("/", "-"), tag))[0] or None


def why_not_here(spec: str) -> str | None:
    """Why the model a specification names cannot be loaded without a network, or None if it can.

    Nothing is fetched. Bad specifications are reasons too.
    """
    try:
        prefix, separator, place = spec.partition(":")
        transformers = prefix + separator == _TRANSFORMERS
        if prefix == "hf-hub" or (transformers and not Path(place).is_dir()):
            names = _TRANSFORMERS_WEIGHTS if transformers else (HF_SAFE_WEIGHTS_NAME,)
            repo, _, revision = place.partition("@")
            command = download_command(repo, revision)
            found = [try_to_load_from_cache(repo, n, revision=revision or None) for n in names]
            here = any(isinstance(file, str) for file in found)
        elif transformers or spec in PACKAGED or prefix == "local-dir" or Path(spec).is_dir():
            find(spec)
            return None
        else:
            name, _, tag_config = _parse_builtin(spec)
            repo, file = _safe_weights(tag_config)
            here = not repo or isinstance(try_to_load_from_cache(repo, file), str)
            command = _builtin_command(name, repo, file)
    except (UserError, HFValidationError) as error:
        return str(error)
    return None if here else f"{spec}: the weights are not on this machine; run: {command}"


def _folder(spec: str, folder: Path) -> _Source:
    if not folder.is_dir():
        raise UserError(f"{spec}: there is no such folder; check the path.")
    config = _supported(spec, read_config(folder / HF_CONFIG_NAME))
    refuse_pickles(folder)
    model = _open_clip(f"local-dir:{folder}", None, config)
    return _Source(spec, model, lambda: tokenizer_of(config, folder))


def _supported(spec: str, config: dict[str, Any]) -> dict[str, Any]:
    """``config`` itself, unless it is known to be of no use, before gigabytes are fetched."""
    if "multimodal_cfg" in config or "hf_model_name" in config.get("text_cfg", {}):
        kind = "CoCa" if "multimodal_cfg" in config else "with a Hugging Face text tower"
        raise UserError(
            f"{spec}: a model {kind} does not accept token embeddings, so no prompt can be learned "
            "for it; use a CLIP with open_clip's own text transformer, such as ViT-B-16:openai."
        )
    return config


def _hub(spec: str) -> _Source:
    repo, _, revision = spec.removeprefix("hf-hub:").partition("@")
    config_path = fetch(spec, repo, HF_CONFIG_NAME, revision)
    if config_path is None:
        raise UserError(
            f"{spec}: the repository has no {HF_CONFIG_NAME}, so it is no CLIP in open_clip's "
            "format; give another one."
        )
    config = _supported(spec, read_config(config_path))
    if fetch(spec, repo, HF_SAFE_WEIGHTS_NAME, revision) is None:
        raise _no_safe_weights(spec, repo, HF_SAFE_WEIGHTS_NAME, revision)
    tokenizer_repo = config["text_cfg"].get("hf_tokenizer_name") or repo
    # the revision is the model's; a tokenizer from another repository has its own
    pinned = revision if tokenizer_repo == repo else None
    model = _open_clip(f"local-dir:{config_path.parent}", None, config)

    def tokenizer() -> Any:
        with hub_failures(spec, tokenizer_repo, pinned):
            return tokenizer_of(config, tokenizer_repo, pinned)

    return _Source(spec, model, tokenizer)


def _transformers(spec: str) -> _Source:
    from t2ipal.clip import transformers_folder as other

    place = spec.removeprefix(_TRANSFORMERS)
    folder = Path(place)
    if not folder.is_dir():
        if place.startswith((".", "/", "~")):
            raise UserError(f"{spec}: there is no such folder; check the path.")
        repo, _, revision = place.partition("@")
        said = fetch(spec, repo, other.CONFIG, revision)
        if said is None:
            raise UserError(
                f"{spec}: the repository has no {other.CONFIG}, so it is no model in "
                "transformers' format; give another one."
            )
        other.read_config(said.parent)  # before gigabytes are fetched
        with hub_failures(spec, repo, revision):
            folder = Path(
                snapshot_download(repo, revision=revision or None, allow_patterns=other.FILES)
            )

    config = other.read_config(folder)
    return _Source(
        spec, lambda: other.read_folder(folder, config), lambda: other.tokenizer_of(folder, config)
    )


def _no_safe_weights(spec: str, repo: str, file: str, revision: str = "") -> UserError:
    fetched = f"{download_command(repo, revision)} --local-dir FOLDER"
    convert = conversion(Path("FOLDER") / HF_WEIGHTS_NAME)
    return UserError(
        f"{spec}: {repo} has no {file}, and pickled weights are not loaded, because they can run "
        f"code; if it has any, convert them, then name the folder: {fetched} && {convert}"
    )


def _parse_builtin(spec: str) -> tuple[str, str, dict[str, Any]]:
    """open_clip's name, its tag or a file of weights, and what open_clip knows of the tag."""
    name, separator, tag = spec.partition(":")
    name = name.replace("/", "-")
    models = open_clip.list_models()
    if name not in models:
        raise UserError(
            f"{spec}: neither a folder nor a model of open_clip{nearest(name, models)}; "
            f"write {_EXAMPLES}."
        )
    tags = open_clip.list_pretrained_tags_by_model(name)
    if not separator or not tag:
        known = f"; its tags: {', '.join(tags)}" if tags else ""
        example = tags[0] if tags else "WEIGHTS_FILE"
        raise UserError(f"{spec}: say which weights, as in {name}:{example}{known}.")
    _supported(spec, open_clip.get_model_config(name))
    tag_config = get_pretrained_cfg(name, tag)
    if not tag_config and not Path(tag).is_file():
        raise UserError(
            f"{spec}: open_clip has no weights {tag!r} for {name}, and there is no such file"
            f"{nearest(tag, tags)}; its tags: {', '.join(tags) or 'none'}."
        )
    if not tag_config:
        refuse_pickles(Path(tag))
    return name, tag, tag_config


def _builtin(spec: str) -> _Source:
    name, tag, tag_config = _parse_builtin(spec)
    config = _supported(spec, open_clip.get_model_config(name))
    config["quick_gelu"] = bool(config.get("quick_gelu") or tag_config.get("quick_gelu"))
    repo, file = _safe_weights(tag_config)
    weights: Path | None = Path(tag_config.get("file", tag))
    command = _builtin_command(name, repo, file)
    if repo and (weights := fetch(spec, repo, file, command=command)) is None:
        raise _no_safe_weights(spec, repo, file)
    model = _open_clip(name, weights, config, tag_config)  # takes of it what is about photos
    named = config["text_cfg"].get("hf_tokenizer_name")

    def tokenizer() -> Any:
        if not named:
            return open_clip.get_tokenizer(name)
        with hub_failures(spec, named):
            return open_clip.get_tokenizer(name, trust_remote_code=False)

    return _Source(spec, model, tokenizer)


def _safe_weights(tag_config: dict[str, Any]) -> tuple[str, str]:
    """Repository and file of a tag's safetensors, as open_clip looks for them; empty for a file."""
    repo, file = os.path.split(tag_config.get("hf_hub", ""))
    return repo, str(Path(file).with_suffix(".safetensors")) if file else HF_SAFE_WEIGHTS_NAME


def _builtin_command(name: str, repo: str, file: str) -> str:
    """What fetches the weights of a tag, and its tokenizer if that is not open_clip's own."""
    tokenizer = open_clip.get_model_config(name)["text_cfg"].get("hf_tokenizer_name")
    if tokenizer == repo:
        return download_command(repo)
    weights = f"{download_command(repo)} {file}"
    return f"{weights} && {download_command(tokenizer)}" if tokenizer else weights
