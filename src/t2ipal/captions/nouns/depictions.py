"""Things that are only shown, likened or named: "painting of a horse", "looks like a boat"."""

from __future__ import annotations

from t2ipal.captions.nouns.lexicon import (
    ADJECTIVE,
    GERUND,
    NOUN,
    NUMBER,
    OPENS_PHRASE,
    PREP,
    STOP,
    SUBJECT,
    words,
)
from t2ipal.captions.nouns.living import UNREAL, UNREAL_LIVING
from t2ipal.captions.nouns.match import Match
from t2ipal.captions.nouns.sentence import NAMING, Governor, Sentence, governor

DEPICTIONS = words(
    "painting paintings drawing drawings sketch sketches statue statues sculpture sculptures "
    "carving carvings figurine figurines poster posters mural murals sticker stickers logo logos "
    "cartoon cartoons print prints graffiti silhouette silhouettes shape shapes replica replicas "
    "mannequin mannequins costume costumes mask masks portrait portraits illustration "
    "illustrations toy toys model models shadow shadows reflection reflections outline outlines "
    "engraving engravings depiction depictions emblem design designs image images picture "
    "pictures photo photos photograph photographs video videos sign signs symbol cutout cutouts "
    "decal decals ornament ornaments magnet magnets tattoo tattoos likeness caricature animation "
    "rendering effigy bust tapestry mosaic postcard ad advertisement billboard banner memory "
    "memories book books story stories movie movies talk size sizes names idea smell sound sounds "
    "fear love form style"
)
"""Before "of": what follows is shown, not there (unless the caption opens as a "photo of")."""

FRAMES = words(
    "photo photos photograph photographs picture pictures image images shot shots view views "
    "video scene closeup close-up portrait snapshot pic pics photography"
)
"""At the head of a caption these frame it ("a photo of a dog"): what they show is in the image."""

TAKING = words("take takes taking took taken snap snaps snapping snapped shoot shooting shoots")
"""Before a frame: "taking a photo of a goose" has the goose there."""

HOSTS = words("wall screen room shirt tv television cake building bus truck train magazine")
"""A picture of something beside one of these is a thing that they carry."""

CARRIERS = words(
    "poster posters logo mural billboard banner wallpaper sticker stickers stamp shirt shirts "
    "tshirt t-shirt tee sweater pajamas mug postcard painting drawing print cartoon flag"
)
"""Printed things: "a poster with a cat"."""

SCREENS = words(
    "screen poster billboard postcard stamp magazine tshirt tapestry mural painting canvas logo "
    "wallpaper"
)
"""After "on a": the thing is shown there."""

USED = words("old older oldest new newer newest late latest early vintage recent classic")
"""Before "model": a make, no miniature: "an older model phone"."""

SIMILE_HOSTS = words(
    "items item things thing objects object animals animal foods food stuff vehicles vehicle "
    "utensils fruits vegetables products devices furniture appliances tools birds people toppings "
    "ingredients accessories supplies electronics traffic transportation pets"
)
"""Before "like": examples follow, not a comparison: "items like a laptop"."""

ROLE_VERBS = words(
    "dressed disguised used shaped known acts acting serving serves posing poses decorated styled "
    "designed made fashioned doubles doubling repurposed described formed drawn painted carved "
    "cut costumed masquerading"
)
"""Before "as": a role. "dressed as a cow", "used as a table"."""

LIKENESS_VERBS = words(
    "resemble resembles resembling resembled imitating imitates mimicking depicting"
)

ADS = words("ad ads advertisement advertisements advert commercial poster billboard sign promo")
"""Before "for": "an ad for a car"."""

THOUGHTS = words("dream dreams dreaming think thinks thinking talk talks talking speak speaks tale")
"""Before "of" or "about": "dreams of horses"."""


def likeness(sentence: Sentence, match: Match, above: Governor) -> str:
    """ "looks like a boat", "dressed as a cow", "bigger than a dog", "a cat named Tiger"."""
    if sentence.words[match.start - 1] == '"' == sentence.words[match.end]:
        return "quoted"
    word, before = sentence.words[above.at], sentence.words[above.at - 1]
    if word == "like":
        return "" if before in SIMILE_HOSTS else "a comparison"
    if word in ("unlike", "than") or word in LIKENESS_VERBS:
        return "a comparison"
    if word == "as":
        equal = sentence.words[above.at - 2] == "as" and before != "well"
        return "a comparison" if before in ROLE_VERBS or equal else ""
    if word == "for" and before in ADS:
        return "a depiction"
    if word == "about" and not sentence.tags[above.at + 1] & NUMBER:
        return "a topic"
    if word == "of" and before in THOUGHTS:
        return "a topic"
    if word in NAMING and not above.determined:
        return "a name"
    return ""


def depiction(sentence: Sentence, match: Match, above: Governor) -> str:
    """ "painting of a horse", "toy car", "wooden horse", "poster with a cat"."""
    if above.start < match.start and not match.form.toy:
        for position in range(max(above.start, match.start - 4), match.start):
            word = sentence.words[position]
            if word == "model" and sentence.words[position - 1] in USED:
                continue
            if word in UNREAL or (match.form.animate and word in UNREAL_LIVING):
                return "not a real one"
    if _depicted(sentence, above, 3):
        return "a depiction"
    if sentence.words[match.end] in ("on", "in"):
        for position in range(match.end + 1, match.end + 4):
            if sentence.words[position] in SCREENS:
                return "a depiction"
            if not sentence.tags[position] & (OPENS_PHRASE | ADJECTIVE | NOUN):
                break
    return ""


def _depicted(sentence: Sentence, above: Governor, depth: int) -> bool:
    """Does the phrase hang on a depiction, directly or through what holds it?"""
    index = above.at
    if index < 1 or depth == 0:
        return False
    word, head = sentence.words[index], sentence.words[index - 1]
    if word == "of":
        frames = head in FRAMES and _frames_scene(sentence, index - 1)
        return head in DEPICTIONS and not frames
    if word == "with" and head in CARRIERS:
        return True
    # "a statue of a man on a horse", "of a man riding a horse": what holds or carries the
    # depicted thing is depicted too; what it sits on ("sitting on a bench") need not be.
    holds = word in ("with", "on") and not sentence.tags[index - 1] & GERUND
    if (holds or sentence.tags[index] & GERUND) and sentence.tags[index - 1] & NOUN:
        return _depicted(sentence, governor(sentence, index - 1), depth - 1)
    return False


def _frames_scene(sentence: Sentence, position: int) -> bool:
    """Does the "photo" at ``position`` frame the scene itself ("this is an old photo of")?

    So it does where it opens its clause, and in "taking a photo of"; a photo that hangs on
    something else in the caption ("a wall with a picture of") is a thing of its own.
    """
    if sentence.words[governor(sentence, position).at] in TAKING:
        return True
    for index in range(position - 1, -1, -1):
        word, tag = sentence.words[index], sentence.tags[index]
        if tag & STOP:
            return True
        if tag & (PREP | GERUND | SUBJECT) and word not in ("it", "in", "of"):
            return False
        if word in HOSTS:
            return False
    return True
