from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from t2ipal.errors import UserError
from t2ipal.method.head_config import PromptConfig
from t2ipal.method.prompts import ClassTokens, LearnedPrompts, _PromptLayout, _start_context
from tiny_head import NAMES, TEXT_WIDTH, WIDTH, make_world

WORLD = make_world()


@pytest.mark.parametrize(
    ("position", "expected"),
    [("end", "S1234wwwxE"), ("middle", "S12www34xE"), ("front", "Swww1234xE")],
)
def test_layout(position: str, expected: str) -> None:
    """Token embeddings are letters' codes, so a prompt can be read back."""
    code = {letter: torch.full((1,), float(ord(letter))) for letter in "SwxE1234"}
    word, stop = code["w"], code["x"]
    tokens = ClassTokens(
        code["S"], [torch.stack([word] * 3 + [stop]), torch.stack([word, stop])], code["E"]
    )
    layout = _PromptLayout.of(tokens, 4, position)
    filled = layout.fill(torch.stack([code[digit] for digit in "1234"]))
    read = ["".join(chr(int(x)) for x in row.flatten()).rstrip("\0") for row in filled]
    assert read == [expected, expected.replace("www", "w")]
    assert [row[eos] for row, eos in zip(read, layout.eos.tolist(), strict=True)] == ["E", "E"]


def test_contexts_per_class_go_to_their_class() -> None:
    layout = _PromptLayout.of(WORLD.tokens, 3, "end")
    context = torch.arange(len(NAMES)).float()[:, None, None].expand(-1, 3, TEXT_WIDTH)
    filled = layout.fill(context)
    for index in range(len(NAMES)):
        assert (filled[index, 1:4] == index).all()


def test_start_from_a_phrase_fills_the_places_next_to_the_name() -> None:
    assert WORLD.tokens.init is not None
    for position, places in (("end", [4, 5]), ("front", [0, 1]), ("middle", [1, 2])):
        config = PromptConfig(context_tokens=6, class_position=position)
        context = _start_context(config, WORLD.tokens, torch.Generator().manual_seed(0))
        assert torch.equal(context[places], WORLD.tokens.init)
        others = [row for row in range(6) if row not in places]
        assert 0.005 < float(context[others].std()) < 0.04


def test_start_at_random_where_asked_or_without_a_phrase(caplog: pytest.LogCaptureFixture) -> None:
    config = PromptConfig(context_tokens=400, start="random", start_deviation=0.5)
    context = _start_context(config, WORLD.tokens, torch.Generator().manual_seed(0))
    assert float(context.std()) == pytest.approx(0.5, rel=0.05)
    with caplog.at_level(logging.INFO):
        bare = replace(WORLD.tokens, init=None)
        context = _start_context(PromptConfig(), bare, torch.Generator().manual_seed(0))
    assert context.shape == (4, TEXT_WIDTH)
    assert 0 < float(context.std()) < 0.05
    assert "start at random" in caplog.text
    per_class = replace(config, per_class=True, context_tokens=4)
    context = _start_context(per_class, WORLD.tokens, torch.Generator().manual_seed(0))
    assert context.shape == (len(NAMES), 4, TEXT_WIDTH)
    assert not torch.equal(context[0], context[1])


def test_a_context_as_long_as_the_phrase_starts_at_zero_shot() -> None:
    assert WORLD.tokens.init is not None
    prompts = LearnedPrompts.start(PromptConfig(context_tokens=2), WORLD.tokens, WORLD.tower)
    assert torch.equal(prompts.global_context, WORLD.tokens.init)
    assert torch.equal(prompts.local_context, WORLD.tokens.init)
    spelled = [
        torch.cat(
            [WORLD.tokens.sos[None], WORLD.tokens.init, name, WORLD.tokens.eos_embedding[None]]
        )
        for name in WORLD.tokens.names
    ]
    for embedding, prompt in zip(prompts().global_, spelled, strict=True):
        alone = WORLD.tower(prompt[None], torch.tensor([len(prompt) - 1]))[0]
        assert torch.allclose(embedding, alone / alone.norm(), atol=1e-6)


def test_a_phrase_longer_than_the_context_is_refused() -> None:
    with pytest.raises(UserError, match=r"2 tokens.*prompts\.context_tokens is 1: raise it to 2"):
        LearnedPrompts.start(PromptConfig(context_tokens=1), WORLD.tokens, WORLD.tower)


def test_both_contexts_take_one_pass_and_equal_two() -> None:
    passes = []

    def tower(embeddings: Tensor, eos: Tensor, shared: int) -> Tensor:
        passes.append((tuple(embeddings.shape[:2]), shared))
        return WORLD.tower(embeddings, eos)

    config = PromptConfig(context_tokens=4, start="random", start_deviation=1.0)
    prompts = LearnedPrompts.start(config, WORLD.tokens, tower, seed=1)
    found = prompts()
    assert passes == [((2, len(NAMES)), 5)]
    layout = _PromptLayout.of(WORLD.tokens, 4, "end")
    for context, embeddings in (
        (prompts.global_context, found.global_),
        (prompts.local_context, found.local),
    ):
        alone = WORLD.tower(layout.fill(context), layout.eos)
        assert torch.allclose(embeddings, alone / alone.norm(dim=-1, keepdim=True), atol=1e-6)
    assert found.global_.shape == (len(NAMES), WIDTH)
    assert not torch.allclose(found.global_, found.local)


@pytest.mark.parametrize(("per_class", "shared"), [(False, 3), (True, 0)])
def test_only_a_context_of_all_classes_is_a_shared_start(per_class: bool, shared: int) -> None:
    """Contexts that start alike and are trained apart must not be taken for one."""
    told = []

    def tower(embeddings: Tensor, eos: Tensor, shared: int) -> Tensor:
        told.append(shared)
        return WORLD.tower(embeddings, eos)

    config = PromptConfig(context_tokens=4, per_class=per_class, class_position="middle")
    LearnedPrompts.start(config, WORLD.tokens, tower)()
    assert told == [shared]


def test_parameters_are_the_two_contexts_alone() -> None:
    prompts = LearnedPrompts.start(PromptConfig(), WORLD.tokens, WORLD.tower)
    assert [name for name, _ in prompts.named_parameters()] == ["global_context", "local_context"]
    assert set(prompts.state_dict()) == {"global_context", "local_context"}


def test_misshapen_tokens_are_refused() -> None:
    sos = torch.zeros(4)
    with pytest.raises(UserError, match="at least one"):
        ClassTokens(sos, [], sos)
    with pytest.raises(ValueError, match=r"names\[1\] has shape \[2, 5\]"):
        ClassTokens(sos, [torch.zeros(2, 4), torch.zeros(2, 5)], sos)
    with pytest.raises(ValueError, match=r"init has shape \[4\]"):
        ClassTokens(sos, [torch.zeros(2, 4)], sos, init=sos)
