"""A tagger on the Hugging Face hub: what others need of it, and nothing of this machine."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2ipal.errors import UserError
from t2ipal.files.hub import hub_failures

if TYPE_CHECKING:
    from t2ipal.tagger.tagger import Tagger


def push(
    tagger: Tagger,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    license: str | None = None,
) -> str:
    """As :meth:`t2ipal.Tagger.push_to_hub`."""
    from huggingface_hub import HfApi

    from t2ipal.clip.load import PACKAGED
    from t2ipal.tagger.clip_model import ClipModel
    from t2ipal.tagger.tagger import Tagger

    if not isinstance(tagger.model, ClipModel):
        raise UserError(f"{repo_id}: push the model folder that this tagger was made from.")
    spec = tagger.clip.backbone.spec
    places = [place for place in (spec, spec.partition(":")[2]) if place]
    if spec not in PACKAGED and any(Path(place).exists() for place in places):
        raise UserError(
            f"{repo_id}: the tagger stands on the CLIP in {spec}, which nobody else has; put that "
            "on the hub first, and train with --clip hf-hub:ORG/NAME."
        )
    told = {"repository": repo_id, "license": license or tagger.about.get("license")}
    about = _without_paths(tagger.about) | {key: text for key, text in told.items() if text}
    published = Tagger(tagger.model, tagger.vocabulary, tagger.thresholds, about)
    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder, hub_failures(repo_id, repo_id, revision):
        published.save_pretrained(folder)
        repo = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision is not None:
            api.create_branch(repo, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            revision=revision,
            commit_message=f"Tagger of {len(tagger.names)} classes",
        )
    return str(commit.commit_url)


def _without_paths(value: Any) -> Any:
    """The same without folders of this machine: of absolute paths the last part alone."""
    if isinstance(value, dict):
        return {key: _without_paths(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_paths(one) for one in value]
    if isinstance(value, str) and "://" not in value:
        path = Path(value.partition(":")[2] or value)
        return path.name if path.is_absolute() else value
    return value
