"""The packaged models."""

from __future__ import annotations

from t2ipal.miniature import weights


def test_no_packaged_configuration_names_a_folder_of_some_machine() -> None:
    for config in weights.MODELS.rglob("*.json"):
        assert "_name_or_path" not in config.read_text(encoding="utf-8"), config
