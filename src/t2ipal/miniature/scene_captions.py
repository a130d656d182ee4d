"""Captions of scenes in plain English: synonyms, plurals, places, and words that name no class."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from t2ipal.miniature.world import PLACES, THINGS

_IRREGULAR = {
    "person": "people",
    "man": "men",
    "woman": "women",
    "child": "children",
    "lady": "ladies",
    "pony": "ponies",
    "calf": "calves",
    "kitty": "kitties",
    "puppy": "puppies",
    "sheep": "sheep",
    "fish": "fish",
    "bus": "buses",
    "coach": "coaches",
    "couch": "couches",
    "lorry": "lorries",
    "plant in a pot": "plants in pots",
    "pair of scissors": "pairs of scissors",
}
_NUMBERS = {
    2: ("two", "two", "a pair of", "some", "several"),
    3: ("three", "three", "several", "many"),
}
_ADJECTIVES = ("small", "large", "big", "little", "nice", "new", "old", "pretty", "lone", "single")
_OPENINGS = (
    "a photo of {}", "a picture of {}", "there is {}", "an image of {}", "we see {}", "here is {}",
    "{}", "{}", "{}", "{}", "{}",
)  # fmt: skip
_JOINS = (" and ", " next to ", " beside ", " with ", " near ", " behind ", " in front of ")


def _plural(word: str) -> str:
    """The plural of one of the world's words."""
    head, _, last = word.rpartition(" ")
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if last in _IRREGULAR:
        return f"{head} {_IRREGULAR[last]}"
    return word + ("es" if word.endswith(("ch", "s", "x", "sh")) else "s")


def phrase(word: str, count: int, rng: random.Random) -> str:
    """``a dog``, ``two small dogs``, ``the dog``, ..."""
    adjective = rng.choice(_ADJECTIVES) + " " if rng.random() < 0.15 else ""
    if count > 1:
        return f"{rng.choice(_NUMBERS[min(count, 3)])} {adjective}{_plural(word)}"
    noun = adjective + word
    article = rng.choice(("an" if noun[0] in "aeiou" else "a",) * 4 + ("the", "one"))
    return f"{article} {noun}"


def describe(names: Sequence[str], place: str | None, rng: random.Random) -> str:
    """A caption that names every one of ``names`` (repeats are counted) and perhaps the place."""
    words = {thing.name: thing.words for thing in THINGS}
    counts = list(Counter(names).items())
    rng.shuffle(counts)
    parts = [
        phrase(words[name][0] if rng.random() < 0.45 else rng.choice(words[name]), count, rng)
        for name, count in counts
    ]
    if len(parts) <= 2:
        text = rng.choice(_JOINS).join(parts)
    else:
        text = ", ".join(parts[:-1]) + " and " + parts[-1]
    text = rng.choice(_OPENINGS).format(text)
    if place is not None and rng.random() < 0.55:
        text += " " + rng.choice(PLACES[place])
    return text[0].upper() + text[1:] + "." if rng.random() < 0.5 else text
