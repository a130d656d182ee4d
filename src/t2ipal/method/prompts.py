"""Class embeddings: from learned contexts around the class names, or fixed ones made elsewhere.

Learned prompts are CoOp's (Zhou et al., IJCV 2022) with TaI-DPT's pair of contexts (Guo et al.,
CVPR 2023): ``[SOS, V_1 .. V_M, class name, '.', EOS]``, V trained, one V for the
global branch and one for the local branch. The text tower is frozen and comes in as a callable;
it must ignore what stands behind EOS, which is zeros here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from t2ipal.errors import UserError
from t2ipal.method.class_sample import of_classes
from t2ipal.method.head_config import ClassPosition, PromptConfig

log = logging.getLogger(__name__)

_PASS = 512
"""Most classes that go through the text tower at a time where no gradient is asked for."""

TextEncoder = Callable[[Tensor, Tensor, int], Tensor]
"""(token embeddings [G, C, T, Wt], index of EOS [C], shared) -> features [G, C, D], not normalised.

Within each of the G groups the first ``shared`` positions are the same for all C prompts, so that
a causal tower needs to see them only once. Gradients may then reach the first prompt's copy alone:
the others must come from the same tensor.
"""


@dataclass(frozen=True, eq=False)
class ClassTokens:
    """Token embeddings of the parts of a prompt, from the text tower's embedding table.

    Attributes:
        sos: [Wt], start of sequence, or None for a text tower without one (SigLIP).
        names: one [n_c, Wt] for each class: the tokens of its name, then one for the full stop.
        eos_embedding: [Wt], end of sequence.
        init: [m, Wt] tokens of a start phrase such as "a photo of a", or None.
        limit: the most tokens the text tower takes, SOS and EOS included, or None if any number.
    """

    sos: Tensor | None
    names: list[Tensor]
    eos_embedding: Tensor
    init: Tensor | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        width = self.eos_embedding.shape[-1]
        if not self.names:
            raise UserError("there is no class: a head needs at least one.")
        for number, name in enumerate(self.names):
            if name.ndim != 2 or name.shape[0] < 2 or name.shape[1] != width:
                raise ValueError(
                    f"names[{number}] has shape {list(name.shape)}; expected [n, {width}] with "
                    "n >= 2: the name's tokens and the full stop"
                )
        if self.init is not None and (self.init.ndim != 2 or self.init.shape[1] != width):
            raise ValueError(f"init has shape {list(self.init.shape)}; expected [m, {width}]")


@dataclass(frozen=True, eq=False)
class ClassEmbeddings:
    """L2-normalised text embeddings of the classes: G and Lc, both [C, D].

    ``classes`` [S] are the numbers of those that they are of, where they are not of all.
    """

    global_: Tensor
    local: Tensor
    classes: Tensor | None = None


@dataclass(frozen=True, eq=False)
class _PromptLayout:
    """Prompts of all classes with holes where the context goes.

    Attributes:
        tokens: [C, T, Wt], zero in the holes and behind EOS; T fits the longest prompt.
        slots: [C, M], positions of the context vectors.
        eos: [C], position of EOS.
        shared: number of leading positions that are the same for all classes if the context is.
    """

    tokens: Tensor
    slots: Tensor
    eos: Tensor
    shared: int

    @classmethod
    def of(cls, tokens: ClassTokens, context_tokens: int, position: ClassPosition) -> _PromptLayout:
        """One prompt per class with ``context_tokens`` holes.

        The class name stands behind the context (``end``), in its middle or before it (``front``);
        the full stop and EOS always come last.
        """
        before = {"end": context_tokens, "middle": context_tokens // 2, "front": 0}[position]
        first = 0 if tokens.sos is None else 1
        lengths = [first + context_tokens + len(name) + 1 for name in tokens.names]
        width = tokens.eos_embedding.shape[-1]
        prompts = tokens.eos_embedding.new_zeros(len(lengths), max(lengths), width)
        slots = torch.empty(len(lengths), context_tokens, dtype=torch.long, device=prompts.device)
        for row, (name, length) in enumerate(zip(tokens.names, lengths, strict=True)):
            words, stop = name[:-1], name[-1]
            start = first + before
            end = start + len(words)
            if tokens.sos is not None:
                prompts[row, 0] = tokens.sos
            prompts[row, start:end] = words
            prompts[row, length - 2] = stop
            prompts[row, length - 1] = tokens.eos_embedding
            slots[row, :before] = torch.arange(first, start)
            slots[row, before:] = torch.arange(end, end + context_tokens - before)
        eos = torch.tensor(lengths, device=prompts.device) - 1
        return cls(prompts, slots, eos, shared=first + before)

    def fill(self, context: Tensor) -> Tensor:
        """Put ``context`` ([M, Wt] shared or [C, M, Wt]) into the holes: [C, T, Wt]."""
        index = self.slots[..., None].expand(-1, -1, self.tokens.shape[-1])  # [C, M, Wt]
        return self.tokens.scatter(1, index, context.expand_as(index))


def _start_context(config: PromptConfig, tokens: ClassTokens, generator: torch.Generator) -> Tensor:
    """Context vectors to start from: [M, Wt], or [C, M, Wt] with a context per class.

    N(0, ``start_deviation``); with ``start="phrase"`` the phrase takes the places next to the
    class name: the last ones, or the first ones where the name stands in front.

    Raises:
        UserError: the phrase has more tokens than there are context vectors.
    """
    classes = len(tokens.names) if config.per_class else 1
    count = config.context_tokens
    shape = (classes, count, tokens.eos_embedding.shape[-1])
    context = torch.randn(shape, generator=generator) * config.start_deviation
    if config.start == "phrase" and tokens.init is None:
        log.info("no start phrase was given: the context vectors start at random")
    if config.start == "phrase" and tokens.init is not None:
        length = len(tokens.init)
        if length > count:
            raise UserError(
                f"the start phrase has {length} tokens but prompts.context_tokens is {count}: "
                f"raise it to {length}, or set prompts.start to random."
            )
        first = {"end": count - length, "middle": max(0, count // 2 - length), "front": 0}[
            config.class_position
        ]
        context[:, first : first + length] = tokens.init.to(context)
    return context if config.per_class else context[0]


class FixedPrompts(nn.Module):
    """Class embeddings that nothing changes."""

    global_: Tensor
    local: Tensor

    def __init__(self, embeddings: ClassEmbeddings) -> None:
        super().__init__()
        self.register_buffer("global_", embeddings.global_)
        self.register_buffer("local", embeddings.local)

    def forward(self, classes: Tensor | None = None) -> ClassEmbeddings:
        """The embeddings, as they came, of the numbered ``classes`` [S], all if None."""
        return ClassEmbeddings(
            of_classes(self.global_, classes), of_classes(self.local, classes), classes
        )


class LearnedPrompts(nn.Module):
    """The two trained contexts, and the frozen text tower that turns them into class embeddings.

    ``layout`` and ``text_encoder`` may be None in a model restored for scoring alone: it keeps its
    contexts, but cannot embed them again.
    """

    tokens: Tensor
    slots: Tensor
    eos: Tensor

    def __init__(
        self,
        global_context: Tensor,
        local_context: Tensor,
        layout: _PromptLayout | None = None,
        text_encoder: TextEncoder | None = None,
    ) -> None:
        super().__init__()
        self.global_context = nn.Parameter(global_context.detach().clone())
        self.local_context = nn.Parameter(local_context.detach().clone())
        self.has_layout = layout is not None
        if layout is not None:
            self.shared = layout.shared if global_context.ndim == 2 else 0
            # Buffers so that they follow the module to a device; the checkpoint leaves them out.
            self.register_buffer("tokens", layout.tokens, persistent=False)
            self.register_buffer("slots", layout.slots, persistent=False)
            self.register_buffer("eos", layout.eos, persistent=False)
        # In a tuple, else a tower that is a Module would count as a part of this one: its weights
        # would be among the parameters to tune and in every checkpoint.
        self._text_encoder = (text_encoder,)

    @classmethod
    def start(
        cls, config: PromptConfig, tokens: ClassTokens, text_encoder: TextEncoder, seed: int = 0
    ) -> LearnedPrompts:
        """Prompts at their start, the same for the same ``seed`` on every device."""
        generator = torch.Generator().manual_seed(seed)
        contexts = [_start_context(config, tokens, generator) for _ in range(2)]
        layout = _PromptLayout.of(tokens, config.context_tokens, config.class_position)
        device = tokens.eos_embedding.device
        return cls(contexts[0].to(device), contexts[1].to(device), layout, text_encoder)

    def forward(self, classes: Tensor | None = None) -> ClassEmbeddings:
        """Embed the classes under both contexts in one pass through the text tower.

        Without gradients, many classes take several passes, which bounds the memory.

        Args:
            classes: [S] the numbers of those to embed, all if None.

        Raises:
            RuntimeError: the model was restored without a text tower.
        """
        (text_encoder,) = self._text_encoder
        if text_encoder is None or not self.has_layout:
            raise RuntimeError(
                "this head was restored without a text tower: build it with class tokens and a "
                "text encoder, then load its tensors"
            )
        if classes is None and not torch.is_grad_enabled() and len(self.eos) > _PASS:
            numbers = torch.arange(len(self.eos), device=self.eos.device)
            parts = [self(part) for part in torch.split(numbers, _PASS)]
            return ClassEmbeddings(
                torch.cat([part.global_ for part in parts]),
                torch.cat([part.local for part in parts]),
            )
        tokens, slots, eos = (
            of_classes(part, classes) for part in (self.tokens, self.slots, self.eos)
        )
        layout = _PromptLayout(tokens, slots, eos, self.shared)
        own = classes if self.global_context.ndim == 3 else None  # a context per class, or shared
        contexts = [of_classes(both, own) for both in (self.global_context, self.local_context)]
        prompts = torch.stack([layout.fill(context) for context in contexts])
        features = text_encoder(prompts, layout.eos, layout.shared)  # [2, C, D]
        global_, local = F.normalize(features.float(), dim=-1)
        return ClassEmbeddings(global_, local, classes)
