"""Fresh noise in every step is left out unless asked for."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest

import tiny_diffusion
from t2ipal.generation.diffusion.settings import Settings
from t2ipal.generation.diffusion.source import Source
from t2ipal.generation.diffusion.text_to_image import TextToImage, _without_noise

BETAS = {"beta_start": 0.001, "beta_end": 0.02, "beta_schedule": "scaled_linear"}


@pytest.mark.parametrize(
    ("own", "drawn_with"),
    [
        ("EulerAncestralDiscreteScheduler", "EulerDiscreteScheduler"),
        ("KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler"),
        ("DDPMScheduler", "DDIMScheduler"),
        ("PNDMScheduler", "PNDMScheduler"),
        ("LCMScheduler", "LCMScheduler"),
    ],
)
def test_the_sibling_reads_the_same_configuration(own: str, drawn_with: str) -> None:
    scheduler = _without_noise(getattr(diffusers, own)(**BETAS))
    assert type(scheduler).__name__ == drawn_with
    assert {key: scheduler.config[key] for key in BETAS} == BETAS


def test_sde_solvers_lose_their_noise() -> None:
    noisy = diffusers.DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++", **BETAS)
    assert _without_noise(noisy).config.algorithm_type == "dpmsolver++"
    assert _without_noise(_without_noise(noisy)).config.algorithm_type == "dpmsolver++"


def painter(ancestral: bool) -> Any:
    pipe = tiny_diffusion.pipeline()
    pipe.scheduler = diffusers.EulerAncestralDiscreteScheduler.from_config(pipe.scheduler.config)
    settings = Settings(steps=3, device="cpu", ancestral=ancestral)
    return TextToImage(pipe, Source("tiny", None, "1"), settings)


def test_a_pipeline_draws_without_it_unless_asked_to_keep_it() -> None:
    plain, noisy = painter(False), painter(True)
    assert plain.generated_on["scheduler"] == "EulerDiscreteScheduler"
    assert noisy.generated_on["scheduler"] == "EulerAncestralDiscreteScheduler"
    images = [one.generate(["a dog"], [1])[0].image.tobytes() for one in (plain, noisy)]
    assert images[0] != images[1]
    both = noisy.generate(["a cat", "a dog"], [2, 1])
    assert both[1].image.tobytes() == images[1]  # the noise is the image's own
    assert "ancestral" not in Settings().asked()
    assert Settings(ancestral=True).asked()["ancestral"] is True
