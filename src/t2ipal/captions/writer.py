"""Captions written by a language model, each checked with the noun filter before it counts.

The classes of every caption are dealt as for composed captions, evenly and one to four at a time.
The model is asked for a sentence that shows them; one that the noun filter reads as anything else
is rejected, and after a few attempts the caption is composed from templates instead. What was
accepted is kept, one line per caption, so that an interrupted job resumes.
"""

from __future__ import annotations

import json
import logging
import os
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from t2ipal.captions.compose import Writer
from t2ipal.captions.sources import Caption
from t2ipal.errors import UserError
from t2ipal.files import sha256_text
from t2ipal.files.hub import first_line
from t2ipal.vocabulary import Vocabulary

log = logging.getLogger(__name__)

_ATTEMPTS = 5  # sentences asked for before a caption is composed instead

_INSTRUCTION = (
    "Write the caption of a photo: one plain English sentence of at most 20 words, as somebody "
    "who looks at the photo would write it. The photo shows: {things}. Name each of them with "
    "these words, in the singular or the plural, in a situation in which they belong together. "
    "Name no other people, animals, vehicles, food, furniture or objects. Answer with the caption "
    "alone."
)
# For models that continue a text and follow no instruction.
_EXAMPLES = (
    "The photo shows: violin, candle\nCaption: A violin lies beside two burning candles.\n\n"
    "The photo shows: hedgehog\nCaption: A hedgehog curls up in the wet autumn leaves.\n\n"
    "The photo shows: tent, canoe, lantern\n"
    "Caption: Three tents and a lantern glow in the dusk next to a red canoe.\n\n"
    "The photo shows: {things}\nCaption:"
)
_LONGEST = 300  # characters


class _LanguageModel(Protocol):
    """Anything that answers.

    Attributes:
        name: what its answers depend on, for the cache.
    """

    name: str

    def answer(self, instruction: str, beginning: str, seed: int) -> str:
        """One sampled answer to an instruction, or for a model that follows none the continuation
        of ``beginning``; the same for the same seed, as far as the model allows."""
        ...


def write_captions(
    vocabulary: Vocabulary,
    n: int,
    model: str | _LanguageModel,
    *,
    seed: int = 0,
    cache: Path | None = None,
) -> list[Caption]:
    """``n`` captions that a language model writes; with a larger ``n`` the same ones and more.

    Args:
        model: a causal language model of transformers (a hub id or a folder with safetensors), the
            URL of an OpenAI-compatible endpoint such as ``http://localhost:8000/v1#MODEL``, or an
            object.
        cache: folder for what was accepted; ``~/.cache/t2ipal/captions`` if omitted.

    Raises:
        UserError: no such model, an endpoint that does not answer, or classes that no caption can
            name.
    """
    if n < 1:
        raise UserError(f"the number of captions to write must be at least 1, not {n}.")
    if isinstance(model, str):
        address = model.startswith(("http://", "https://"))
        model = _Endpoint(model) if address else _Transformers(model)
    templates = Writer(vocabulary)
    known = _Accepted(cache or Path("~/.cache/t2ipal/captions").expanduser(), model.name)
    captions, composed = [], 0
    for number, classes in enumerate(tqdm(templates.deal(n, seed), "captions", disable=None)):
        key = sha256_text(str(seed), str(number), *(vocabulary.readable[c] for c in classes))
        if key not in known.texts:
            known.add(key, _written(model, templates, classes, int(key[:12], 16)))
        text = known.texts[key]
        if not _names_exactly(templates, text, classes):  # another vocabulary's, or none
            composed += 1
            text, _ = templates.write(classes, random.Random(f"instead {key}"))
        captions.append(templates.caption(text))
    told = (model.name, n - composed, n, composed)
    level = logging.WARNING if composed else logging.INFO
    log.log(level, "%s wrote %d of %d captions; %d are composed from templates instead", *told)
    return captions


def _written(model: _LanguageModel, filter_: Writer, classes: Sequence[int], seed: int) -> str:
    """The first of a few answers that names exactly these classes, or an empty text."""
    names = [filter_.vocabulary.readable[position] for position in classes]
    things = ", ".join(names)
    for attempt in range(_ATTEMPTS):
        answer = model.answer(
            _INSTRUCTION.format(things=things), _EXAMPLES.format(things=things), seed + attempt
        )
        text = _tidied(answer)
        if _names_exactly(filter_, text, classes):
            return text
    return ""


def _tidied(answer: str) -> str:
    """The first line of an answer as a sentence, or an empty text if it is none."""
    line = next((line for line in answer.strip().splitlines() if line.strip()), "")
    line = re.sub(r"^(caption|answer)\s*:\s*", "", line.strip(), flags=re.IGNORECASE)
    text = " ".join(line.strip(" \"'“”*").split())
    if not text.isprintable() or len(text) > _LONGEST or len(text.split()) < 3:
        return ""
    text = text[0].upper() + text[1:]
    return text if text[-1] in ".!?" else f"{text}."


def _names_exactly(filter_: Writer, text: str, classes: Sequence[int]) -> bool:
    found = filter_.filter.label(text)
    return not found.unknown and set(found.labels) == filter_.implied(classes)


class _Accepted:
    """Accepted captions of one model on disk: a JSON object per line, appended."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"{sha256_text(name, _INSTRUCTION, _EXAMPLES)[:16]}.jsonl"
        self.texts: dict[str, str] = {}
        if self.path.is_file():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    row = json.loads(line)
                    self.texts[str(row["key"])] = str(row["text"])
                except (ValueError, KeyError, TypeError):
                    continue  # a line cut off when the writing process was killed

    def add(self, key: str, text: str) -> None:
        self.texts[key] = text
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write("\n" * self._cut() + json.dumps({"key": key, "text": text}) + "\n")
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror}).") from None

    def _cut(self) -> bool:
        """Whether the file ends within a line."""
        if not self.path.is_file() or not self.path.stat().st_size:
            return False
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read() != b"\n"


# --- models --------------------------------------------------------------------------------------


class _Transformers:
    """A causal language model on the first GPU, or on the CPU."""

    def __init__(self, name: str) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.name = name
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        options: dict[str, Any] = {"trust_remote_code": False}
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(name, **options)
            self._model = AutoModelForCausalLM.from_pretrained(
                name, use_safetensors=True, dtype="auto", **options
            )
        except Exception as error:  # whatever transformers and the hub make of it
            raise UserError(
                f"--writer {name}: no language model that can be loaded ({first_line(error)}); "
                "give a causal language model of transformers with safetensors, by its hub id or "
                "folder, or the URL of an OpenAI-compatible endpoint."
            ) from None
        self._model.to(self._device).eval()

    def answer(self, instruction: str, beginning: str, seed: int) -> str:
        import torch

        if self._tokenizer.chat_template:
            inputs = self._tokenizer.apply_chat_template(
                [{"role": "user", "content": instruction}],
                add_generation_prompt=True,
                return_dict=True,
                return_tensors="pt",
            )
        else:
            inputs = self._tokenizer(beginning, return_tensors="pt")
        inputs = {name: tensor.to(self._device) for name, tensor in inputs.items()}
        length = inputs["input_ids"].shape[1]
        with torch.random.fork_rng(), torch.inference_mode():
            torch.manual_seed(seed)
            made = self._model.generate(
                **inputs,
                do_sample=True,
                temperature=0.9,
                top_p=0.95,
                max_new_tokens=60,
                pad_token_id=self._tokenizer.eos_token_id,
            )
        text: str = self._tokenizer.decode(made[0, length:], skip_special_tokens=True)
        return text


class _Endpoint:
    """A server that speaks OpenAI's chat completions; its key is read from OPENAI_API_KEY."""

    def __init__(self, url: str) -> None:
        from huggingface_hub import InferenceClient

        self.name = url
        address, _, self._model = url.partition("#")
        self._client = InferenceClient(
            base_url=address, api_key=os.environ.get("OPENAI_API_KEY", "none"), timeout=120
        )

    def answer(self, instruction: str, beginning: str, seed: int) -> str:
        try:
            found = self._client.chat_completion(
                [{"role": "user", "content": instruction}],
                model=self._model or None,
                max_tokens=60,
                temperature=0.9,
                top_p=0.95,
                seed=seed % 2**31,
            )
            return str(found.choices[0].message.content or "")
        except Exception as error:  # whatever httpx and the server make of it
            raise UserError(
                f"--writer {self.name}: the endpoint does not answer as it should "
                f"({first_line(error)}); check that it is running, its address "
                "(http://HOST:PORT/v1#MODEL) and OPENAI_API_KEY. What was written is kept."
            ) from None
