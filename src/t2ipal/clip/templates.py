"""The 80 prompt templates that CLIP was evaluated with on ImageNet (Radford et al., ICML 2021)."""

from __future__ import annotations

from open_clip import OPENAI_IMAGENET_TEMPLATES

IMAGENET_TEMPLATES: tuple[str, ...] = tuple(fill("{}") for fill in OPENAI_IMAGENET_TEMPLATES)
"""Each with one ``{}`` for the class name."""
