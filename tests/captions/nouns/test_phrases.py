"""Class names as data sets write them, and how captions spell what they mean."""

from __future__ import annotations

import math
import time
import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from t2ipal.captions.labelled import LabelSummary, label_captions
from t2ipal.captions.nouns.noun_filter import NounFilter
from t2ipal.captions.nouns.phrases import phrase_table
from t2ipal.vocabulary import BUILT_IN, Vocabulary


def read(names: list[str], text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    found = NounFilter(Vocabulary.of(names)).label(text)
    return found.labels, found.unknown


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("bow_(weapon)", "an archer with a bow"),
        ("bow_(weapon)", "two bows (weapon) on a wall"),
        ("bow(weapon)", "a bow (weapon)"),
        ("cistern (water tank)", "two cisterns behind a house"),
        ("person (adult)", "three people in a park"),
        ("glass(es)", "two glasses on a table"),
        ("(American) football", "a football on the grass"),
        ("tench, Tinca tinca", "a tench in a hand"),
        ("tench, Tinca tinca", "a Tinca tinca in a hand"),
        ("person;individual;someone", "an individual at a desk"),
        ("cat/cats", "two cats on a bed"),
        ("Monitor/TV", "a TV in a room"),
        ("Cutting/chopping Board", "a cutting board in a kitchen"),
        ("Cutting/chopping Board", "two chopping boards"),
        ("TrafficLight", "traffic lights at a crossing"),
        ("tvMonitor", "a tv monitor"),
        ("salt & pepper shaker", "a salt and pepper shaker"),
        ("rock and roll band", "a rock & roll band"),
        ("St. Bernard", "a St Bernard in the snow"),
        ('"stop" sign', "a stop sign"),
        ("C++ book", "a C++ book on a desk"),
        ("caf\u00e9", "two cafes"),
        ("caf\u00e9", "two CAF\u00c9S"),
        ("4wd", "a 4WD on a hill"),
        ("Stra\u00dfe", "eine Strasse"),
        ("children's toy", "a children\u2019s toy"),
        ("children's toy", "a children\u00b4s toy"),
        ("mp3 player", "an mp3\u2013player"),
        ("hat_box", "a hat\u2011box"),
        ("\u72d7", "\u72d7 \u5728 \u8349\u5730 \u4e0a"),
        (
            "\u0915\u0941\u0924\u094d\u0924\u093e",
            "\u0915\u0941\u0924\u094d\u0924\u093e \u0914\u0930",
        ),
        ("can", "a can of soda"),
    ],
)
def test_a_name_is_found_by_what_people_write(name: str, text: str) -> None:
    assert read([name], text) == ((name,), ())


@pytest.mark.parametrize(
    ("names", "text", "labels", "unknown"),
    [
        # Two classes share the bare word; in full each is itself.
        (["bow_(weapon)", "bow_(ribbons)"], "a bow", (), ("bow_(weapon)", "bow_(ribbons)")),
        (["bow_(weapon)", "bow_(ribbons)"], "a bow (ribbons)", ("bow_(ribbons)",), ()),
        # A class of that very name has it; the other may be meant.
        (["fish", "fish_(food)"], "two fish", ("fish",), ("fish_(food)",)),
        (["maillot", "maillot, tank suit"], "a maillot", ("maillot",), ("maillot, tank suit",)),
        (["missile", "projectile, missile"], "missiles", ("missile",), ("projectile, missile",)),
        (["crane, bird", "crane, machine"], "a crane", (), ("crane, bird", "crane, machine")),
        # Another noun in front may change the sense.
        (["bow_(weapon)"], "a girl with a hair bow", (), ("bow_(weapon)",)),
        (["bow_(weapon)"], "a long bow", ("bow_(weapon)",), ()),
        (["bat_(animal)", "baseball_bat"], "a baseball bat", ("baseball_bat",), ("bat_(animal)",)),
        (["bow_(weapon)", "bow tie"], "a man with a bow tie", ("bow tie",), ()),
        (["bow_(weapon)"], "a man with a bow tie", (), ("bow_(weapon)",)),
        (["bow_(weapon)", "rainbow"], "a rainbow", ("rainbow",), ()),
        # Part of an alternative.
        (["stop/yield sign"], "a bus at a stop", (), ("stop/yield sign",)),
        # Signs and scripts.
        (["C++ book"], "a C book", (), ()),
        (["c++"], "vitamin C", (), ()),
        (["\u72d7"], "\u4e00\u53ea\u72d7\u5728\u8349\u5730\u4e0a", (), ("\u72d7",)),
        # Neither ids nor numbers nor words of grammar.
        (["/m/01g317", "n02084071"], "m 01g317 and n02084071", (), ()),
        (["12", "on", "no", "2.50"], "no 12 dogs on a street for 2.50", (), ()),
        (["can"], "a dog can swim", (), ("can",)),
    ],
)
def test_a_word_of_several_classes_or_senses_leaves_them_unknown(
    names: list[str], text: str, labels: tuple[str, ...], unknown: tuple[str, ...]
) -> None:
    assert read(names, text) == (labels, unknown)


_LETTERS = "abcdegiklmnorstuvwxz\u00e4\u00e9\u00f1\u00df\u0430\u0431\u043a\u0438\u0439\u72d7\u5c71"
_LETTERS += "\u0915\u0928\u0627\u0644"
_words = st.lists(st.text(_LETTERS, min_size=2, max_size=6), min_size=1, max_size=3)


@given(_words, st.sampled_from(" _-\u00a0\u2011"), st.sampled_from("\u00ad\u200b\u2060"), st.data())
def test_one_name_in_all_its_spellings(
    words: list[str], joint: str, unseen: str, data: st.DataObject
) -> None:
    name = joint.join(words)
    nouns = NounFilter(Vocabulary.of([" ".join(words)]))
    assume(nouns.label(" ".join(words)).labels)
    place = data.draw(st.integers(1, len(name) - 1))
    spellings = [name, name.upper(), unicodedata.normalize("NFD", name)]
    spellings.append(name[:place] + unseen + name[place:])
    spellings.append("".join(chr(ord(c) + 0xFEE0) if "a" <= c <= "z" else c for c in name))
    for spelling in spellings:
        found = nouns.label(f"xqz {spelling} xqz")
        assert found.labels == nouns.vocabulary.names, spelling
        assert NounFilter(Vocabulary.of([spelling])).label(" ".join(words)).labels == (spelling,)


@given(st.lists(st.text(max_size=15), max_size=4), st.text(max_size=80))
def test_any_name_and_any_text_are_read(names: list[str], text: str) -> None:
    kept = {" ".join(name.split()): None for name in names if any(map(str.isalnum, name))}
    try:
        vocabulary = Vocabulary.of([*kept, "dog"])
    except ValueError:
        return
    found = NounFilter(vocabulary).label(f"{' '.join(kept)} . a dog . {text}")
    assert set(found.matches) == {*found.labels, *found.unknown}


def test_notes_name_what_cannot_be_found_and_what_is_shared() -> None:
    names = ["/m/0abc", "12", "on", "bow_(weapon)", "bow_(ribbons)", "tench, Tinca tinca"]
    vocabulary = Vocabulary.of([*names, "cat", "cats", "\u72d7"])
    notes = phrase_table(vocabulary).notes
    assert [note.split(":")[0] for note in notes] == [
        "no caption can ever name '/m/0abc', '12', 'on'",
        "words that may name several classes, or part of one, leave these unknown",
        "read as several names each",
        "'cat', 'cats' have the same words, so every caption names all or none; keep one",
        "the noun filter reads English; '\u72d7' is found as it stands, between blanks, and "
        "unknown as part of a longer word",
    ]
    assert "'bow' (bow_(weapon), bow_(ribbons))" in notes[1]
    summary = LabelSummary.of(label_captions(["a bow"], vocabulary), vocabulary)
    assert [line for line in summary.lines() if line.startswith("note: ")] == [
        f"note: {note}" for note in notes
    ]
    assert all(not phrase_table(Vocabulary.load(name)).notes for name in BUILT_IN)


@pytest.mark.parametrize(
    "piece",
    ["dog ", "a dog and ", "no dog or ", "dog, ", "orange ", "phone ", "a dog on a board. "],
)
def test_the_time_grows_with_the_length_of_a_caption(piece: str) -> None:
    """A square law would take 64 times as long for eight times as many words."""
    nouns = NounFilter("coco2014")
    best = {500: math.inf, 4000: math.inf}  # of three: what else runs only adds
    for count in (*best, *best, *best):
        started = time.process_time()
        nouns.label(piece * count)
        best[count] = min(best[count], time.process_time() - started)
    assert best[4000] < 24 * max(best[500], 0.002)


def test_a_long_caption_is_read_to_its_end() -> None:
    nouns = NounFilter("coco2014")
    filler = "a field of grass under a blue sky . "
    assert nouns.label("a dog . " + filler * 500 + "no cat but a horse").labels == ("dog", "horse")
    assert nouns.label(filler[:-2] * 100 + "without a cat").unknown == ("cat",)
