"""Where a CLIP comes from: a specification turned into what open_clip loads, or one clear sentence.

open_clip continues with random weights when it finds none and says so only in a log. Here a model
without weights is refused, with the command that fetches them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from open_clip.constants import HF_CONFIG_NAME, HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from open_clip.pretrained import download_pretrained, get_pretrained_cfg

from t2ipal.clip.model_folder import read_config, refuse_pickles, tokenizer_of
from t2ipal.clip.spared import complete_timm
from t2ipal.errors import UserError, nearest

_PACKAGED = ("photo", "miniature")
_EXAMPLES = "'RN50:openai', 'ViT-B-16:openai', 'hf-hub:org/name', 'photo', 'miniature' or a folder"


@dataclass(frozen=True)
class _Source:
    """A CLIP with its weights on this machine.

    Attributes:
        spec: as the user wrote it.
        name: open_clip's model name, or ``local-dir:`` and a folder.
        pretrained: open_clip's tag or a file of weights; None for a folder.
        config: open_clip's model configuration, the activation included.
        tokenizer: makes the tokenizer, without reaching for the network where it can.
    """

    spec: str
    name: str
    pretrained: str | None
    config: dict[str, Any]
    tokenizer: Callable[[], Any]

    def load(self) -> Any:
        """The open_clip model on the CPU in float32.

        Raises:
            UserError: the weights are damaged or do not fit the configuration.
        """
        if self.config["vision_cfg"].get("timm_model_name"):
            complete_timm()
        try:
            return open_clip.create_model(
                self.name,
                pretrained=self.pretrained,
                # OpenAI's weights were trained with QuickGELU; open_clip only warns of a mismatch.
                force_quick_gelu=bool(self.config.get("quick_gelu", False)),
                require_pretrained=True,
                weights_only=True,
            )
        except Exception as error:  # whatever open_clip, torch or safetensors make of bad files
            raise UserError(
                f"{self.spec}: the weights cannot be loaded ({_first_line(error)}); "
                "fetch the model again or check that its configuration belongs to it."
            ) from error

    def load_tokenizer(self) -> Any:
        """open_clip's tokenizer of the model: texts -> token ids [B, context].

        Raises:
            UserError: its files are missing.
        """
        try:
            return self.tokenizer()
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"{self.spec}: the tokenizer cannot be loaded ({_first_line(error)}); "
                "put its files (tokenizer.json, tokenizer_config.json) beside the weights, or "
                "fetch it once on a machine with a network."
            ) from error


def find(spec: str) -> _Source:
    """Find the model a specification names; weights are fetched if a network allows it.

    Args:
        spec: ``name:tag`` of open_clip (``RN50:openai``; the tag may be a file of weights),
            ``hf-hub:org/name`` (``@revision`` may follow), a folder in open_clip's format, or a
            small CLIP of this package: ``photo``, which knows photos, or ``miniature``, which knows
            icon scenes.

    Raises:
        UserError: no such model, tag or folder; its weights are not there and cannot be fetched; or
            it is a kind of model whose prompts cannot be learned.
    """
    if spec == "miniature":
        from t2ipal.miniature.weights import path

        return _folder(spec, Path(path("clip")))
    if spec == "photo":
        from t2ipal.clip import photo_clip

        return _folder(spec, photo_clip.path())
    if spec.startswith("hf-hub:"):
        return _hub(spec)
    if spec.startswith("local-dir:"):
        return _folder(spec, Path(spec.removeprefix("local-dir:")))
    if Path(spec).is_dir():
        return _folder(spec, Path(spec))
    return _builtin(spec)


def why_not_here(spec: str) -> str | None:
    """Why the model a specification names cannot be loaded without a network, or None if it can.

    Nothing is fetched. Bad specifications are reasons too.
    """
    try:
        if spec.startswith("hf-hub:"):
            repo, _, revision = spec.removeprefix("hf-hub:").partition("@")
            command = _download_command(repo, revision)
            found = try_to_load_from_cache(repo, HF_SAFE_WEIGHTS_NAME, revision=revision or None)
            here = isinstance(found, str)
        elif spec in _PACKAGED or spec.startswith("local-dir:") or Path(spec).is_dir():
            find(spec)
            return None
        else:
            name, tag, tag_config = _parse_builtin(spec)
            here, command = not tag_config or _cached(tag_config), _fetch_command(name, tag)
    except (UserError, HFValidationError) as error:
        return str(error)
    return None if here else f"{spec}: the weights are not on this machine; run: {command}"


def _cached(tag_config: dict[str, Any]) -> bool:
    """Whether open_clip would find the weights of a tag without a network."""
    if repo := tag_config.get("hf_hub"):
        repo, file = os.path.split(repo)
        names = [file] if file else [HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME]
        return any(isinstance(try_to_load_from_cache(repo, name), str) for name in names)
    folder = Path("~/.cache/clip").expanduser()
    return (folder / Path(tag_config.get("url", "")).name).is_file()


def _folder(spec: str, folder: Path) -> _Source:
    if not folder.is_dir():
        raise UserError(f"{spec}: there is no such folder; check the path.")
    config = _supported(spec, read_config(folder / HF_CONFIG_NAME))
    refuse_pickles(folder)
    name = f"local-dir:{folder}"
    return _Source(spec, name, None, config, lambda: tokenizer_of(config, folder))


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
    config_path = _download(spec, repo, HF_CONFIG_NAME, revision)
    config = _supported(spec, read_config(config_path))
    _download(spec, repo, HF_SAFE_WEIGHTS_NAME, revision)
    tokenizer_repo = config["text_cfg"].get("hf_tokenizer_name") or repo
    # the revision is the model's; a tokenizer from another repository has its own
    pinned = revision if tokenizer_repo == repo else None
    return _Source(
        spec,
        f"local-dir:{config_path.parent}",
        None,
        config,
        lambda: tokenizer_of(config, tokenizer_repo, pinned),
    )


def _download(spec: str, repo: str, file: str, revision: str) -> Path:
    try:
        return Path(hf_hub_download(repo, file, revision=revision or None))
    except (HFValidationError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        gated = isinstance(error, GatedRepoError)
        reason = "needs you to log in and accept its terms" if gated else "is not on the hub"
        raise UserError(
            f"{spec}: this model {reason}; write hf-hub:org/name or hf-hub:org/name@revision."
        ) from error
    except LocalEntryNotFoundError as error:
        raise _not_here(spec, _download_command(repo, revision)) from error
    except EntryNotFoundError as error:
        pickled = (
            "; pickled ones can be converted: run "
            f"{_download_command(repo, revision)} --local-dir FOLDER and name the folder"
            if file == HF_SAFE_WEIGHTS_NAME
            else ""
        )
        raise UserError(
            f"{spec}: the repository has no {file}, as open_clip's format has it{pickled}."
        ) from error
    except OSError as error:
        raise _not_here(spec, _download_command(repo, revision), error) from error


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
    if tag_config:
        _fetch(spec, name, tag, tag_config)
        config["quick_gelu"] = bool(config.get("quick_gelu") or tag_config.get("quick_gelu"))
    hugging_face = bool(config["text_cfg"].get("hf_tokenizer_name"))
    trust = {"trust_remote_code": False} if hugging_face else {}
    return _Source(spec, name, tag, config, lambda: open_clip.get_tokenizer(name, **trust))


def _fetch(spec: str, name: str, tag: str, tag_config: dict[str, Any]) -> None:
    try:
        download_pretrained(tag_config)
    except Exception as error:  # open_clip passes on what urllib, httpx or the hub raise
        raise _not_here(spec, _fetch_command(name, tag), error) from error


def _fetch_command(name: str, tag: str) -> str:
    load = f"o.create_model({name!r}, {tag!r}); o.get_tokenizer({name!r})"
    return f'python -c "import open_clip as o; {load}"'


def _download_command(repo: str, revision: str = "") -> str:
    # not open_clip, which would run what the configuration names
    return f"hf download {repo}" + (f" --revision {revision}" if revision else "")


def _not_here(spec: str, command: str, error: Exception | None = None) -> UserError:
    if constants.HF_HUB_OFFLINE:
        reason = "and HF_HUB_OFFLINE forbids fetching them"
    else:
        reason = "and the hub cannot be reached"
    detail = "" if error is None or constants.HF_HUB_OFFLINE else f" ({_first_line(error)})"
    return UserError(
        f"{spec}: the weights are not on this machine {reason}{detail}; "
        f"on a machine with a network run: {command}"
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
