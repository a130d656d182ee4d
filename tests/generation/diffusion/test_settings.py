from __future__ import annotations

from typing import Any

import pytest

from t2ipal.errors import UserError
from t2ipal.generation.diffusion.settings import Settings


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (dict(steps=0), "steps must be a whole number of at least 1"),
        (dict(guidance=-1.0), "guidance must be"),
        (dict(guidance=float("nan")), "guidance must be"),
        (dict(height=64), "height and width go together"),
        (dict(height=64, width=60), "width must be a positive multiple of 8"),
        (dict(height=-8, width=64), "height must be a positive multiple of 8"),
        (dict(precision="fp61"), "did you mean 'fp16'"),
        (dict(device="cdua"), "did you mean 'cuda'"),
        (dict(device="cpu:x"), "device must be one of auto, cpu, cuda, cuda:N, mps, not 'cpu:x'"),
        (dict(device="xpu"), "device must be one of auto, cpu, cuda, cuda:N, mps, not 'xpu'"),
    ],
)
def test_bad_settings(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Settings(**options)


def test_what_a_gpu_does_otherwise_is_asked_where_it_is_wanted() -> None:
    assert Settings(exact=True).asked()["exact"] is True


def test_all_but_the_device_is_asked() -> None:
    asked = Settings(steps=4, device="cuda:1").asked()
    assert asked == {
        "steps": 4,
        "guidance": None,
        "negative_prompt": None,
        "height": None,
        "width": None,
        "precision": "auto",
    }
