"""The text tower of a CLIP, entered at the token embeddings so that prompts can be learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from open_clip import CLIP, CustomTextCLIP
from open_clip.transformer import TextTransformer
from torch import Tensor, nn

from t2ipal.clip.from_transformers import BertTower, TransformersCLIP
from t2ipal.errors import UserError

_PROMPTS_PER_ROW = 32
"""More would share the start of a prompt with more others, and attend over longer rows."""


@dataclass(frozen=True)
class TextFeatures:
    """Features of a batch of texts, not normalised.

    Attributes:
        global_: [B, D], what open_clip's ``encode_text`` gives.
        local: [B, T, D], the projected feature of every token.
        mask: [B, T], True from the first token to the end-of-text token.
    """

    global_: Tensor
    local: Tensor
    mask: Tensor


class TextTower:
    """The parts of an open_clip text tower, called from embeddings instead of token ids.

    Where attention is causal and the pooled token is the end-of-text one, positions behind it
    change nothing, so a batch is computed at its own length T instead of the full context: exact,
    and several times faster. Towers that attend in both directions or pool the last position
    (SigLIP) are filled up with padding to the full context, as they were trained. A BERT is told
    where each text ends, and takes any length.

    Raises:
        UserError: the text tower is a Hugging Face model or CoCa's, which cannot be entered there.
    """

    def __init__(self, model: CLIP | CustomTextCLIP | TransformersCLIP) -> None:
        parts: Any = None
        self.is_bert = type(model) is TransformersCLIP and isinstance(model.text, BertTower)
        if type(model) in (CustomTextCLIP, TransformersCLIP):
            if self.is_bert or isinstance(model.text, TextTransformer):
                parts = model.text
            extra_token = getattr(parts, "cls_emb", None)
            pool_type, eos_id = getattr(parts, "pool_type", ""), getattr(parts, "eos_id", -1)
        elif type(model) is CLIP:
            parts, extra_token = model, None
            pool_type, eos_id = model.text_pool_type, model.text_eos_id
        if parts is None or extra_token is not None:
            raise UserError(
                f"prompts cannot be learned for this {type(model).__name__} model: its text tower "
                "does not accept token embeddings; use a CLIP with open_clip's text transformer."
            )
        self.token_embedding: nn.Embedding = parts.token_embedding
        self.positional_embedding: Tensor = parts.positional_embedding  # [context, Wt]
        self.transformer: nn.Module = parts.transformer
        self.ln_final: nn.Module = parts.ln_final
        self.projection: Tensor | nn.Linear | None = parts.text_projection  # [Wt, D] or a layer
        self.attention_mask: Tensor | None = parts.attn_mask  # [context, context], -inf above
        self.pool_type: str = pool_type
        self.eos_id: int = eos_id
        self.context_length, self.width = self.positional_embedding.shape
        causal = self.attention_mask is not None
        self.can_be_cut = self.is_bert or (causal and pool_type in ("argmax", "eos", "first"))

    def eos_positions(self, tokens: Tensor, pad_id: int, pad_ends: bool = False) -> Tensor:
        """Position of the end-of-text token, or the last token that is no padding: [B].

        With ``pad_ends`` the first padding ends a text (SigLIP, whose one token does both).
        """
        if self.pool_type == "argmax":  # CLIP's own vocabulary: the end-of-text id is the highest
            return tokens.argmax(dim=-1)
        if self.pool_type == "eos":
            return (tokens == self.eos_id).int().argmax(dim=-1)
        places = torch.arange(tokens.shape[1], device=tokens.device)
        last = torch.where(tokens != pad_id, places + pad_ends, 0).amax(dim=-1)
        return last.clamp(max=tokens.shape[1] - 1)

    def embed(self, tokens: Tensor) -> Tensor:
        """Token ids [B, T] -> token embeddings [B, T, Wt], without positions."""
        embeddings: Tensor = self.token_embedding(tokens)
        return embeddings

    def encode(self, embeddings: Tensor, eos: Tensor, pad_id: int) -> TextFeatures:
        """Token embeddings [B, T, Wt] and end-of-text positions [B] -> features.

        Positions are added here. Gradients reach ``embeddings``.
        """
        length, width = embeddings.shape[1:]
        if length > self.context_length or width != self.width:
            raise ValueError(
                f"embeddings {tuple(embeddings.shape)} do not fit a text tower of "
                f"{self.context_length} positions and width {self.width}"
            )
        size = length if self.can_be_cut else self.context_length
        text = torch.arange(size, device=eos.device) <= eos[:, None]  # [B, size]
        x = embeddings
        if not self.can_be_cut:
            pad = self.token_embedding.weight[pad_id]
            x = nn.functional.pad(x, (0, 0, 0, size - length))
            x = torch.where(text[..., None], x, pad)
        x = x + self.positional_embedding[:size]
        if self.is_bert:
            x = self.transformer(x, ~text)
        else:
            mask = None if self.attention_mask is None else self.attention_mask[:size, :size]
            x = self.transformer(x, attn_mask=mask)
        features = self._project(self.ln_final(x))  # [B, size, D]
        return TextFeatures(self._pool(features, eos), features[:, :length], text[:, :length])

    def encode_prompts(self, prompts: Tensor, eos: Tensor, shared: int, pad_id: int) -> Tensor:
        """Prompts [G, C, T, Wt], alike in their first positions, -> global features [G, C, D].

        A causal tower computes the first ``shared`` positions alike for all C prompts, so several
        prompts stand in one row behind one such start, each blind to the others: exact, and a
        fraction of the positions. Gradients reach the first prompt's copy of the start.
        """
        groups, classes, length, width = prompts.shape
        if shared < 2 or not self.can_be_cut or self.pool_type == "first":
            alone = self.encode(prompts.flatten(0, 1), eos.repeat(groups), pad_id)
            return alone.global_.reshape(groups, classes, -1)
        rows = -(-classes // _PROMPTS_PER_ROW)
        each = -(-classes // rows)  # prompts in a row
        rest = length - shared
        start = prompts[:, :1, :shared].expand(groups, rows, shared, width)
        ends = nn.functional.pad(prompts[:, :, shared:], (0, 0, 0, 0, 0, rows * each - classes))
        x = torch.cat([start, ends.reshape(groups, rows, each * rest, width)], dim=2).flatten(0, 1)
        places, owners = _places(shared, rest, each, x.device)
        sees = (places[:, None] >= places) & ((owners[:, None] == owners) | (owners < 0))
        mask = torch.zeros_like(sees, dtype=x.dtype).masked_fill_(~sees, float("-inf"))
        x = self.transformer(x + self.positional_embedding[places], attn_mask=mask)
        x = x[:, shared:].reshape(groups, rows * each, rest, width)  # behind the start
        last = x[:, torch.arange(classes, device=eos.device), eos - shared]  # [G, C, Wt]
        return self._project(self.ln_final(last))

    def _pool(self, features: Tensor, eos: Tensor) -> Tensor:
        if self.pool_type == "first":
            return features[:, 0]
        if self.pool_type == "last":
            return features[:, -1]
        return features[torch.arange(len(features), device=features.device), eos]

    def _project(self, x: Tensor) -> Tensor:
        if self.projection is None:
            return x
        projected: Tensor = (
            self.projection(x) if isinstance(self.projection, nn.Linear) else x @ self.projection
        )
        return projected


def _places(shared: int, rest: int, each: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Of a row of a shared start and ``each`` ends: positions [L], and owners [L], -1 the start."""
    start, end = torch.arange(shared, device=device), torch.arange(rest, device=device)
    places = torch.cat([start, (shared + end).repeat(each)])
    owners = torch.arange(each, device=device).repeat_interleave(rest)
    return places, torch.cat([torch.full_like(start, -1), owners])
