"""Words of a caption, and what governs a noun phrase."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2ipal.captions.nouns.lexicon import (
    ADVERB,
    BASE,
    GERUND,
    MODAL,
    PLURAL,
    PREP,
    SINGULAR,
    STOP,
    THIRD,
    noun_forms,
    readings,
    verb_forms,
)
from t2ipal.captions.nouns.sentence import _TOKEN, Sentence, tokenize


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A dog, two cats.", ["a", "dog", ",", "two", "cats", "."]),
        ("A Dog's bowl", ["a", "dog", "'s", "bowl"]),
        ("It\u2019s five o\u2019clock", ["it", "'s", "five", "o'clock"]),
        ("don't (really)!", ["don't", "(", "really", ")", "!"]),
        ("the dogs' owner", ["the", "dogs", "owner"]),
        ('a "stop" sign; 2/3', ["a", '"', "stop", '"', "sign", ";", "2", "/", "3"]),
        ("", []),
        (
            "\u0441\u043e\u0431\u0430\u043a\u0430 na\u00efve",
            ["\u0441\u043e\u0431\u0430\u043a\u0430", "na\u00efve"],
        ),
    ],
)
def test_tokenize(text: str, words: list[str]) -> None:
    assert tokenize(text) == (words, frozenset())


def test_hyphens_join_words_and_dashes_do_not() -> None:
    assert tokenize("a double-decker bus - red") == (
        ["a", "double", "decker", "bus", "red"],
        frozenset({1}),
    )
    assert tokenize("a bird's-eye view")[0] == ["a", "bird", "'s", "eye", "view"]
    words, joined = tokenize("cats \u2014 dogs")
    assert words == ["cats", "\u2014", "dogs"] and not joined


@given(st.text(alphabet="abcXYZ019 .,'-\n\t", max_size=40))
def test_the_quick_way_cuts_like_the_pattern(text: str) -> None:
    expected = [word for word in _TOKEN.findall(text.lower()) if word != "-"]
    assert tokenize(text)[0] == expected


@given(st.text(max_size=60))
def test_any_text_can_be_parsed(text: str) -> None:
    words, joined = tokenize(text)
    sentence = Sentence.of(words, joined)
    assert all(0 <= position < len(words) for position in joined)
    assert len(sentence.words) == len(sentence.tags)
    for position in range(len(words)):
        above = sentence.governor(position)
        assert -1 <= above.at < position
        assert above.at < above.start <= position


@pytest.mark.parametrize(
    ("text", "noun", "above", "start"),
    [
        ("a man on a brown horse", "horse", "on", "a brown horse"),
        ("a man riding two old horses", "horses", "riding", "two old horses"),
        ("without a car or a bus", "bus", "without", "a bus"),
        ("with apples, pears and grapes", "grapes", "with", "grapes"),
        ("a picture of two pieces of fruit", "fruit", "of", "two pieces of fruit"),
        ("the very big dog", "dog", "", "the very big dog"),
        ("people ride horses", "horses", "ride", "horses"),
        ("next to park benches", "benches", "to", "park benches"),
        ("it is not a dog", "dog", "not", "a dog"),
    ],
)
def test_governor(text: str, noun: str, above: str, start: str) -> None:
    sentence = Sentence.of(*tokenize(text))
    found = sentence.governor(sentence.words.index(noun))
    assert sentence.words[found.at] == above
    assert " ".join(sentence.words[found.start : sentence.words.index(noun) + 1]) == start


def test_negation_reaches_coordinated_phrases_only() -> None:
    sentence = Sentence.of(*tokenize("no cars, buses or bikes"))
    assert all(sentence.governor(at).negated for at in (1, 3, 5))
    sentence = Sentence.of(*tokenize("no hat and a horse"))
    assert sentence.governor(1).negated and not sentence.governor(4).negated
    assert sentence.governor(4).separate
    sentence = Sentence.of(*tokenize("he is not wearing a tie"))
    assert sentence.negation_before(3)
    sentence = Sentence.of(*tokenize("he is not only wearing a tie"))
    assert not sentence.negation_before(4)


def test_readings() -> None:
    assert readings["trains"] == PLURAL | THIRD
    assert readings["train"] == SINGULAR | BASE
    assert readings["can"] == MODAL
    assert readings["into"] == PREP
    assert readings[""] == STOP and readings["."] == STOP
    assert readings["slowly"] & ADVERB
    assert readings["people"] == PLURAL
    assert readings["riding"] & GERUND
    assert readings["frisbees"] == 0 or readings["frisbees"] & PLURAL


@pytest.mark.parametrize(
    ("phrase", "forms"),
    [
        ("dog", ["dog", "dogs"]),
        ("bus", ["bus", "buses", "busses"]),
        ("person", ["person", "people", "persons"]),
        ("ox", ["ox", "oxen"]),
        ("groomsman", ["groomsman", "groomsmen"]),
        ("human", ["human", "humans"]),
        ("mouse", ["mouse", "mice"]),
        ("city", ["city", "cities"]),
        ("dining table", ["dining table", "dining tables"]),
        ("glass of wine", ["glass of wine", "glasses of wine"]),
        ("sheep", ["sheep"]),
        ("people", ["people"]),
        ("glasses", ["glasses"]),
        ("boats", ["boat", "boats"]),
        ("swimmers", ["swimmer", "swimmers"]),
        ("horses", ["horse", "horses"]),
        ("zorblax", ["zorblax", "zorblaxes"]),
        ("blorpy", ["blorpy", "blorpies"]),
        ("t-shirt", ["t-shirt", "t-shirts"]),
        ("\u0441\u043e\u0431\u0430\u043a\u0430", ["\u0441\u043e\u0431\u0430\u043a\u0430"]),
    ],
)
def test_noun_forms(phrase: str, forms: list[str]) -> None:
    assert [form for form, _, _ in noun_forms(phrase)] == forms


def test_noun_forms_know_their_number() -> None:
    assert dict((form, (one, many)) for form, one, many in noun_forms("dog")) == {
        "dog": (True, False),
        "dogs": (False, True),
    }
    assert noun_forms("sheep") == (("sheep", True, True),)
    assert noun_forms("scissors") == (("scissors", False, True),)


def test_verb_forms() -> None:
    assert verb_forms("run") == ("run", "runs", "running", "ran")
    assert verb_forms("play football")[1] == "plays football"
