"""The packaged models."""

from __future__ import annotations

from t2ipal.clip.load import find
from t2ipal.miniature import scenes, weights


def test_no_packaged_configuration_names_a_folder_of_some_machine() -> None:
    for config in weights.MODELS.rglob("*.json"):
        assert "_name_or_path" not in config.read_text(encoding="utf-8"), config


def test_the_packaged_clip_says_what_it_was_made_for() -> None:
    assert find("miniature").made_for == weights.MADE_FOR
    assert weights.MADE_FOR["size"] == [scenes.SIZE, scenes.SIZE]
    assert find("photo").made_for is None
