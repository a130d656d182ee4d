"""Schedulers that add fresh noise in every step, and their siblings that do not.

With a sibling an image is a function of its initial noise alone, and few steps give less grain. The
siblings read the same configuration.
"""

from __future__ import annotations

from typing import Any

_SIBLINGS = {
    "EulerAncestralDiscreteScheduler": "EulerDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler": "KDPM2DiscreteScheduler",
    "DPMSolverSDEScheduler": "DPMSolverMultistepScheduler",
    "DDPMScheduler": "DDIMScheduler",
}
_SDE = "sde-"  # prefix of the algorithms of DPM-Solver that add noise


def without_noise(scheduler: Any) -> Any:
    """The deterministic sibling of a diffusers scheduler; itself if it adds no noise.

    A scheduler of a distilled model that must add noise (LCM, TCD) has no sibling and stays.
    """
    import diffusers

    name = type(scheduler).__name__
    if name in _SIBLINGS:
        return getattr(diffusers, _SIBLINGS[name]).from_config(scheduler.config)
    algorithm = getattr(getattr(scheduler, "config", None), "algorithm_type", None)
    if isinstance(algorithm, str) and algorithm.startswith(_SDE):
        plain = algorithm.removeprefix(_SDE)
        return type(scheduler).from_config(scheduler.config, algorithm_type=plain)
    return scheduler
