"""The tokenizer: MiniLM's word pieces, cut to those of the training texts and plain English."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

CONTEXT = 32
PAD, UNKNOWN, START, END = "<|pad|>", "<|unk|>", "<|startoftext|>", "<|endoftext|>"
COMMON = 11_000  # MiniLM's vocabulary is ordered by how often a piece occurs in English


def cut(source: Path, texts: Iterable[str]) -> tuple[Tokenizer, list[int]]:
    """A smaller tokenizer, and for each of its pieces the id in ``source`` (-1 for special ones).

    The start and end tokens have the highest ids: CLIP reads its text feature at the highest one.
    """
    original = Tokenizer.from_file(str(source))
    original.no_padding()
    original.no_truncation()
    vocabulary = original.get_vocab()
    used = {
        i for row in original.encode_batch(list(texts), add_special_tokens=False) for i in row.ids
    }
    kept = []
    for piece, number in sorted(vocabulary.items(), key=lambda item: item[1]):
        latin = piece.isascii() and not piece.startswith("[")
        if latin and (number in used or number < COMMON or len(piece.removeprefix("##")) == 1):
            kept.append(piece)
    order = [PAD, UNKNOWN, *kept, START, END]
    tokenizer = Tokenizer(
        models.WordPiece(vocab={p: i for i, p in enumerate(order)}, unk_token=UNKNOWN)
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens([PAD, UNKNOWN, START, END])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}",
        special_tokens=[(START, len(order) - 2), (END, len(order) - 1)],
    )
    return tokenizer, [vocabulary.get(piece, -1) for piece in order]


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Both files that open_clip reads from a folder, without what names this machine."""
    from transformers import PreTrainedTokenizerFast

    fast: Any = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        bos_token=START,
        eos_token=END,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        padding_side="right",
    )
    fast.save_pretrained(folder)
    config = folder / "tokenizer_config.json"
    kept = {
        key: value
        for key, value in json.loads(config.read_text(encoding="utf-8")).items()
        if key != "name_or_path"
    }
    config.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids, cut to the context with the end token kept, not padded."""
    end = tokenizer.get_vocab_size() - 1
    rows = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
    return [row if len(row) <= CONTEXT else [*row[: CONTEXT - 1], end] for row in rows]
