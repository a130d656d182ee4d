"""The noun filter's own promises, beyond how single sentences are read."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2ipal.captions.nouns.lexicon import noun_forms
from t2ipal.captions.nouns.noun_filter import NounFilter, _CaptionLabels
from t2ipal.vocabulary import BUILT_IN, ClassName, Vocabulary

FILTERS = {name: NounFilter(name) for name in BUILT_IN}
VOC = FILTERS["voc2007"]
ODD_WORDS = ("a", "the", "no", "dog", "train", "bus", "of", "with", "and", ",", "man's", "can", "-")


def test_result_is_in_vocabulary_order_with_the_deciding_words() -> None:
    found = VOC.label("A woman and her puppies beside a double-decker bus at the bus stop")
    assert found == _CaptionLabels(
        labels=("bus", "dog", "person"),
        unknown=(),
        matches={"bus": "bus", "dog": "puppies", "person": "woman"},
    )


def test_unknown_classes_have_their_word_too_and_labels_win() -> None:
    found = VOC.label("A man trains near a train station")
    assert found.labels == ("person",) and found.unknown == ("train",)
    assert found.matches == {"person": "man", "train": "trains"}
    found = VOC.label("A dog bowl beside a dog")
    assert found.labels == ("dog",) and found.unknown == ()


def test_explain_gives_every_occurrence_with_its_reason() -> None:
    found = VOC.explain("A toy car, a car and a car park")
    assert [(item.name, item.word, bool(item.reason)) for item in found] == [
        ("car", "car", True),
        ("car", "car", False),
        ("car", "car", True),
    ]


@settings(max_examples=50)
@given(st.text(max_size=80))
def test_any_text_is_read(text: str) -> None:
    for nouns in FILTERS.values():
        found = nouns.label(text)
        assert not set(found.labels) & set(found.unknown)
        assert set(found.matches) == set(found.labels) | set(found.unknown)


@given(st.lists(st.sampled_from(ODD_WORDS)))
def test_any_order_of_words_is_read(words: list[str]) -> None:
    found = VOC.label(" ".join(words))
    assert set(found.labels) | set(found.unknown) <= set(VOC.vocabulary.names)
    assert all(word in " ".join(words).lower() for word in found.matches.values())


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_name_and_synonym_names_its_class(name: str) -> None:
    """In a plain noun phrase, that is; plurals included."""
    nouns = FILTERS[name]
    silent = []
    for item in nouns.vocabulary.classes:
        for phrase in item.phrases:
            for form, _, plural in noun_forms(phrase):
                found = nouns.label(f"{'two' if plural else 'the'} {form}")
                if item.name not in found.labels:
                    silent.append(item.name)
    # Verbs of activities need somebody who does them.
    assert set(silent) <= {"dancing", "protest", "running", "sports", "surf"}


def test_case_and_typographic_quotes_do_not_matter() -> None:
    assert VOC.label("THE WOMAN\u2019S HAND") == VOC.label("the woman's hand")
    assert VOC.label("the woman's hand").labels == ("person",)


def test_own_classes_synonyms_ambiguity_and_exclusion() -> None:
    vocabulary = Vocabulary(
        "harbour",
        (
            ClassName("crane", "crane", ("gantry",), {"derrick": ("harbour", "lift")}),
            ClassName("buoy", "buoy", (), {}, ("life buoy",)),
            ClassName("sailing", "sailing", (), {}, (), ("sail",)),
            ClassName("harbour", "harbour", (), {}, (), (), True),
        ),
    )
    nouns = NounFilter(vocabulary)
    assert nouns.label("Two gantries over a buoy").labels == ("crane", "buoy")
    assert nouns.label("a derrick lifts a crate").labels == ("crane",)
    assert nouns.label("a derrick in a field").unknown == ("crane",)
    assert nouns.label("a life buoy on the wall").unknown == ("buoy",)
    assert nouns.label("a man sails").labels == ("sailing",)
    assert nouns.label("the sails of a mill").unknown == ("sailing",)
    assert nouns.label("the harbour wall").labels == ("harbour",)


def test_overlapping_phrases_take_the_longest_and_its_head() -> None:
    coco = FILTERS["coco2014"]
    assert coco.label("a hot dog").labels == ("hot dog",)
    assert coco.label("a hot dog and a dog").labels == ("dog", "hot dog")
    assert FILTERS["nuswide"].label("a night sky").labels == ("nighttime", "sky")


def test_a_name_in_another_script_matches_itself() -> None:
    nouns = NounFilter(Vocabulary.of(["\u0441\u043e\u0431\u0430\u043a\u0430", "Jeep", "c++"]))
    assert nouns.label("\u0421\u043e\u0431\u0430\u043a\u0430 \u0438 jeep").labels == (
        "\u0441\u043e\u0431\u0430\u043a\u0430",
        "Jeep",
    )


def test_names_with_digits_hyphens_and_apostrophes() -> None:
    nouns = NounFilter(Vocabulary.of(["t-shirt", "18-wheeler", "baker's oven", "mp3 player"]))
    assert nouns.label("two T-shirts and a t shirt").labels == ("t-shirt",)
    assert nouns.label("18 wheelers, a baker's oven").labels == ("18-wheeler", "baker's oven")
    assert nouns.label("an mp3 player").labels == ("mp3 player",)


def test_the_same_filter_twice_reads_the_same() -> None:
    again = NounFilter("coco2014")
    text = "A man on skis holds an orange bag, a phone and the leash of a stuffed bear"
    assert again.explain(text) == FILTERS["coco2014"].explain(text)
