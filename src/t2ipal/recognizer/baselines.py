"""Methods by name: the paper's, those it is compared with, and its ablations.

All of them are settings of one head, so that they run on the same cached features.

- ``zero-shot``: CLIP with a prompt ensemble, global branch alone.
- ``clip-dpt``: the same embeddings, global and local branch (Guo et al., CVPR 2023, the untrained
  row of their table).
- ``tai-dpt``: the head of TaI-DPT (Guo et al., CVPR 2023): two learned contexts, captions alone,
  raw sum of both branches, its temperatures, scale, loss and kind of optimiser. The number of steps
  is this project's, equal for all methods, so that a table compares methods and not budgets; the
  learning rate is higher than theirs, which was for some thousand steps.
- ``t2i-pal``: everything.
- ``t2i-pal/...``: everything but one part. ``captions`` leaves no image to start prototypes and
  adapter from, so it keeps the prompts alone; ``prompts-only`` sees captions and images.
- ``.../standardised``: with every branch standardised per image before the sum (SPARC, arXiv
  2502.16911, reports gains of it on photos); the default is the raw sum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from t2ipal.errors import UserError, nearest
from t2ipal.recognizer.config import (
    AdapterConfig,
    FusionConfig,
    FusionKind,
    HeadConfig,
    HeatmapConfig,
    PromptConfig,
    PrototypeConfig,
    TrainConfig,
    TrainOn,
)


@dataclass(frozen=True)
class MethodConfig:
    """A method: its head, and how it is trained, or None where nothing is."""

    name: str
    head: HeadConfig
    train: TrainConfig | None


_NO_PROTOTYPES = PrototypeConfig(enabled=False)
_NO_ADAPTER = AdapterConfig(kind="none")
_TAI_DPT_HEATMAP = HeatmapConfig(image_temperature=1 / 40, caption_temperature=1 / 50)
_GLOBAL_AND_LOCAL = FusionConfig(
    kind="raw", global_weight=0.5, local_weight=0.5, prototype_weight=0.0
)

_ZERO_SHOT = MethodConfig(
    "zero-shot",
    HeadConfig(
        prompts=PromptConfig(kind="fixed"),
        prototypes=_NO_PROTOTYPES,
        adapter=_NO_ADAPTER,
        fusion=FusionConfig(kind="raw", global_weight=1.0, local_weight=0.0, prototype_weight=0.0),
    ),
    None,
)
_CLIP_DPT = MethodConfig(
    "clip-dpt",
    replace(_ZERO_SHOT.head, heatmap=_TAI_DPT_HEATMAP, fusion=_GLOBAL_AND_LOCAL),
    None,
)
_TAI_DPT = MethodConfig(
    "tai-dpt",
    HeadConfig(
        prompts=PromptConfig(context_tokens=16, start="random", start_deviation=0.02),
        heatmap=_TAI_DPT_HEATMAP,
        prototypes=_NO_PROTOTYPES,
        adapter=_NO_ADAPTER,
        fusion=_GLOBAL_AND_LOCAL,
        logit_scale=4.0,
    ),
    TrainConfig(train_on="captions", optimiser="sgd", momentum=0.9, lr_prompts=2e-3),
)
_T2I_PAL = MethodConfig("t2i-pal", HeadConfig(), TrainConfig(train_on="both"))


Change = Callable[[MethodConfig], MethodConfig]


def _with_head(change: Callable[[HeadConfig], HeadConfig]) -> Change:
    return lambda method: replace(method, head=change(method.head))


def _with_items(train_on: TrainOn) -> Change:
    def change(method: MethodConfig) -> MethodConfig:
        assert method.train is not None, "only variants of trained methods train on something"
        return replace(method, train=replace(method.train, train_on=train_on))

    return change


def _with_fusion(kind: FusionKind) -> Change:
    return _with_head(lambda head: replace(head, fusion=replace(head.fusion, kind=kind)))


_prompts_only = _with_head(
    lambda head: replace(head, prototypes=_NO_PROTOTYPES, adapter=_NO_ADAPTER)
)

_BASES = {method.name: method for method in (_ZERO_SHOT, _CLIP_DPT, _TAI_DPT, _T2I_PAL)}
_VARIANTS: dict[str, dict[str, Change]] = {
    "clip-dpt": {"standardised": _with_fusion("standardised")},
    "tai-dpt": {"standardised": _with_fusion("standardised")},
    "t2i-pal": {
        "no-adapter": _with_head(lambda head: replace(head, adapter=_NO_ADAPTER)),
        "no-prototypes": _with_head(lambda head: replace(head, prototypes=_NO_PROTOTYPES)),
        "no-heatmap": _with_head(
            lambda head: replace(head, heatmap=replace(head.heatmap, enabled=False))
        ),
        "prompts-only": _prompts_only,
        "standardised": _with_fusion("standardised"),
        "captions": lambda method: _prompts_only(_with_items("captions")(method)),
        "images": _with_items("images"),
        "both": _with_items("both"),
    },
}

METHOD_NAMES: tuple[str, ...] = (
    *_BASES,
    *(f"{base}/{variant}" for base, variants in _VARIANTS.items() for variant in variants),
)
"""All names, the four methods first."""


def method_config(name: str, *, head: HeadConfig | None = None) -> MethodConfig:
    """The method of this name.

    Args:
        head: what T2I-PAL is made of, in place of the default; its ablations leave a part of that
            one out, the other methods keep their own.

    Raises:
        UserError: there is no such method; the message says which there are.
    """
    if name not in METHOD_NAMES:
        raise UserError(
            f"there is no method {name!r}{nearest(name, METHOD_NAMES)}; "
            f"there are {', '.join(METHOD_NAMES)}."
        )
    base, _, variant = name.partition("/")
    method = _BASES[base]
    if base == "t2i-pal" and head is not None:
        method = replace(method, head=head)
    if variant:
        method = _VARIANTS[base][variant](method)
    return replace(method, name=name)
