"""Captions by a language model: checked, kept, resumed, and composed where the model fails."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from t2ipal.captions.nouns.noun_filter import NounFilter
from t2ipal.captions.writer import _Endpoint, _tidied, _Transformers, write_captions
from t2ipal.errors import UserError
from t2ipal.vocabulary import Vocabulary
from tiny_clip import CHARACTERS, write_tokenizer

VOCABULARY = Vocabulary.of(["dog", "bench", "umbrella", "boat"])


class Fluent:
    """Names what is asked for, apart from every third time."""

    name = "fluent"

    def __init__(self, fails: int = 3) -> None:
        self.asked: list[str] = []
        self.fails = fails

    def answer(self, instruction: str, beginning: str, seed: int) -> str:
        things = beginning.rsplit("The photo shows: ", 1)[1].removesuffix("\nCaption:")
        assert things in instruction
        self.asked.append(things)
        if len(self.asked) % self.fails == 0:
            return "Somebody waits for a friend."
        joined = " and ".join(f"a {thing}" for thing in things.split(", "))
        return f'Caption: "{joined} in the rain"\nAnother line about a boat.'


def test_captions_name_exactly_what_was_dealt(tmp_path: Path) -> None:
    model = Fluent()
    captions = write_captions(VOCABULARY, 30, model, cache=tmp_path)
    filter_ = NounFilter(VOCABULARY)
    named = [filter_.label(caption.text) for caption in captions]
    assert all(found.labels and not found.unknown for found in named)
    counts = [sum(name in found.labels for found in named) for name in VOCABULARY.names]
    assert max(counts) - min(counts) <= 2
    assert all(caption.text.endswith(" in the rain.") for caption in captions)
    assert all(caption.text[0].isupper() and '"' not in caption.text for caption in captions)
    assert len({caption.id for caption in captions}) == 30
    # fewer are the first of them
    assert write_captions(VOCABULARY, 12, Fluent(), cache=tmp_path / "b") == captions[:12]


def test_what_was_accepted_is_not_asked_for_again(tmp_path: Path) -> None:
    first = write_captions(VOCABULARY, 10, Fluent(), cache=tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_text()
    assert [json.loads(line)["text"] for line in whole.splitlines()] == [c.text for c in first]
    file.write_text(whole[:-20])  # as a process killed while it wrote leaves it
    again = Fluent()
    assert write_captions(VOCABULARY, 12, again, cache=tmp_path)[:10] == first
    assert 3 <= len(again.asked) < 8
    silent = Fluent()
    write_captions(VOCABULARY, 12, silent, cache=tmp_path)
    assert not silent.asked
    other = Fluent()
    write_captions(VOCABULARY, 12, other, cache=tmp_path, seed=1)
    assert len(other.asked) >= 12


def test_what_the_model_cannot_write_is_composed_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Stubborn(Fluent):
        def answer(self, instruction: str, beginning: str, seed: int) -> str:
            super().answer(instruction, beginning, seed)
            return "A cat sleeps on a sofa."

    model = Stubborn()
    with caplog.at_level(logging.WARNING):
        captions = write_captions(VOCABULARY, 8, model, cache=tmp_path)
    assert "wrote 0 of 8 captions; 8 are composed" in caplog.text
    assert len(model.asked) == 8 * 5  # attempts
    assert all(NounFilter(VOCABULARY).label(caption.text).labels for caption in captions)
    assert write_captions(VOCABULARY, 8, Stubborn(), cache=tmp_path) == captions


def test_classes_that_imply_others(tmp_path: Path) -> None:
    nouns = Vocabulary.load("nuswide")
    captions = write_captions(nouns, 60, Fluent(fails=10**6), cache=tmp_path)
    written = [caption for caption in captions if caption.text.endswith(" in the rain.")]
    assert len(written) > 20  # "a dog" is an animal too, and its caption counts


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("a dog runs.", "A dog runs."),
        ('\n\n "Two dogs run home" \nNote: yes', "Two dogs run home."),
        ("Caption: **A dog runs!**", "A dog runs!"),
        ("dog", ""),
        ("", ""),
        ("a dog \x1b[31m runs away", ""),
        ("a dog " * 80, ""),
    ],
)
def test_answers_are_tidied(answer: str, text: str) -> None:
    assert _tidied(answer) == text


# --- models --------------------------------------------------------------------------------------


def test_a_model_of_transformers_samples_by_its_seed(tmp_path: Path) -> None:
    config = transformers.GPT2Config(
        vocab_size=len(CHARACTERS) + 4, n_positions=1024, n_embd=16, n_layer=1, n_head=2
    )
    torch.manual_seed(0)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    model = _Transformers(str(tmp_path))
    first = model.answer("unused", "The photo shows: dog", 1)
    assert first and first == model.answer("unused", "The photo shows: dog", 1)
    assert first != model.answer("unused", "The photo shows: dog", 2)
    assert "photo" not in first.replace(" ", "")


def test_pickles_and_missing_models_are_refused(tmp_path: Path) -> None:
    config = transformers.GPT2Config(vocab_size=80, n_embd=16, n_layer=1, n_head=2)
    config.save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    torch.save(transformers.GPT2LMHeadModel(config).state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="no language model that can be loaded") as caught:
        _Transformers(str(tmp_path))
    assert "\n" not in str(caught.value)


class _Server(BaseHTTPRequestHandler):
    """OpenAI's chat completions, with the seed in the answer."""

    status = 200
    bodies: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.bodies.append(body | {"path": self.path, "key": self.headers["Authorization"]})
        message = {"role": "assistant", "content": f"A dog, {body['seed']} times."}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        answer = {"id": "1", "created": 0, "model": "m", "object": "chat.completion"}
        answer |= {"choices": [choice], "usage": {}, "system_fingerprint": ""}
        content = json.dumps(answer).encode()
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    _Server.bodies, _Server.status = [], 200
    made = HTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{made.server_port}/v1"
    made.shutdown()
    made.server_close()


def test_an_endpoint(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    model = _Endpoint(f"{server}#tiny")
    assert model.answer("Write about a dog.", "unused", 7) == "A dog, 7 times."
    (body,) = _Server.bodies
    assert body["path"] == "/v1/chat/completions" and body["key"] == "Bearer secret"
    assert body["model"] == "tiny" and body["messages"][0]["content"] == "Write about a dog."
    assert "secret" not in model.name


@pytest.mark.parametrize("status", [401, 500])
def test_an_endpoint_that_refuses(server: str, status: int) -> None:
    _Server.status = status
    with pytest.raises(UserError, match="does not answer as it should") as caught:
        _Endpoint(server).answer("Write about a dog.", "unused", 7)
    assert "\n" not in str(caught.value)


def test_an_endpoint_that_is_not_there() -> None:
    with pytest.raises(UserError, match="check that it is running"):
        _Endpoint("http://127.0.0.1:9/v1").answer("Write about a dog.", "unused", 7)
