"""The small tokenizer that the miniature's CLIP and generator share, in Hugging Face's format."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from tools.miniature.data import Rendered

from t2ipal.files import atomic_path

PAD, UNKNOWN, START, END = "<|pad|>", "<|unk|>", "<|startoftext|>", "<|endoftext|>"


def train_tokenizer(texts: Iterable[str], *, vocabulary_size: int = 3000) -> Tokenizer:
    """A lower-casing byte-pair tokenizer; the end token has the highest id.

    CLIP reads its text feature at the highest token id (``argmax`` pooling), so the ids of the
    trained tokens are kept and the start and end tokens are moved behind them.
    """
    raw = Tokenizer(models.BPE(unk_token=UNKNOWN, end_of_word_suffix="</w>"))
    raw.normalizer = normalizers.Lowercase()
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size - 2,
        special_tokens=[PAD, UNKNOWN],
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    raw.train_from_iterator(texts, trainer)
    model = json.loads(raw.to_str())["model"]
    vocab: dict[str, int] = model["vocab"]
    vocab[START], vocab[END] = len(vocab), len(vocab) + 1
    merges = [
        tuple(pair) if isinstance(pair, list) else tuple(pair.split(" "))
        for pair in model["merges"]
    ]
    tokenizer = Tokenizer(
        models.BPE(vocab=vocab, merges=merges, unk_token=UNKNOWN, end_of_word_suffix="</w>")
    )
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    tokenizer.add_special_tokens([PAD, UNKNOWN, START, END])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}",
        special_tokens=[(START, vocab[START]), (END, vocab[END])],
    )
    return tokenizer


def load_or_train(path: Path, data: Sequence[Rendered], captions: Path | None) -> Tokenizer:
    """The tokenizer at ``path``; trained on the scenes' captions and a captions file if absent."""
    if path.exists():
        return Tokenizer.from_file(str(path))
    texts = [caption for rendered in data for caption in rendered.captions]
    if captions is not None:
        from t2ipal.captions.sources import read_captions

        texts += [caption.text for caption in read_captions(captions)]
    tokenizer = train_tokenizer(texts)
    with atomic_path(path) as temporary:
        tokenizer.save(str(temporary))
    return tokenizer


def as_fast(tokenizer: Tokenizer, context_length: int) -> Any:
    """The tokenizer as transformers holds it; ``save_pretrained`` writes both of its files."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        bos_token=START,
        eos_token=END,
        model_max_length=context_length,
        clean_up_tokenization_spaces=False,
        padding_side="right",
    )


def encode(tokenizer: Tokenizer, texts: Iterable[str], length: int) -> list[list[int]]:
    """Token ids cut and padded to ``length``; the end token is always kept."""
    end = tokenizer.get_vocab_size() - 1
    rows = []
    for encoding in tokenizer.encode_batch(list(texts)):
        ids = encoding.ids
        ids = [*ids[: length - 1], end] if len(ids) > length else ids
        rows.append(ids + [0] * (length - len(ids)))
    return rows
