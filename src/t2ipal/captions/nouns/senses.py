"""Words with a second sense: colours, meat, measures, an animal's kin; and activities."""

from __future__ import annotations

from t2ipal.captions.nouns.compounds import GERUND_HEADS, PORTIONS
from t2ipal.captions.nouns.lexicon import (
    ADJECTIVE,
    ADVERB,
    AUX,
    CLOSED,
    COMMA,
    CONJ,
    DET,
    GERUND,
    NEGATION,
    NOUN,
    NUMBER,
    OPENS_PHRASE,
    PAST,
    PLURAL,
    PREP,
    STOP,
    SUBJECT,
    THIRD,
    VERB,
    words,
)
from t2ipal.captions.nouns.living import agents, animals, nearest_living
from t2ipal.captions.nouns.match import Match
from t2ipal.captions.nouns.sentence import Governor, Sentence

COLLECTIVES = words(
    "couple couples crowd crowds group groups team teams pair pairs family families gang gangs "
    "party parties bunch class crew crews pack packs audience line row"
)
"""Before "of" these only count what follows: "a couple of dogs"."""

COLOUR_NOUNS = words(
    "orange peach apricot cream chocolate coffee olive lime lemon plum cherry raspberry salmon "
    "coral rose violet lavender lilac gold silver bronze copper ruby emerald sapphire turquoise "
    "amber ivory charcoal mustard tangerine aubergine eggplant mint jade pearl wine rust chestnut "
    "hazel mahogany"
)
"""Nouns that are colours too."""

MASS_COLOURS = words(
    "chocolate coffee cream gold silver bronze copper wine coral ivory amber jade mustard mint "
    "lavender rust"
)
"""Of these, the ones that need no article as a substance: "covered with chocolate"."""

TINTS = words("sky ocean forest grass snow brick sand ash sea leaf blood fire light navy ice steel")
"""Words that shade a colour word after them: "sky blue", "snow white"."""

COLOURS = words(
    "red blue green yellow black white brown gray grey pink purple beige tan teal navy maroon "
    "golden orange silver gold cream turquoise violet lavender magenta cyan indigo crimson "
    "scarlet blonde blond colored coloured colorful colourful color colour striped spotted plaid "
    "checkered"
)

COLOUR_DEGREES = words("bright dark light pale deep burnt neon solid vivid pastel all mostly")

PAINTING = words(
    "paint paints painted painting dye dyes dyed turn turns turned turning glow glows glowing tint "
    "tints color colors colored colour colours coloured"
)
"""They take a thing and a colour: "paints the sky orange"."""

FRUIT_FRIENDS = words(
    "apple apples banana bananas pear pears grape grapes lemon lemons lime limes peach peaches "
    "plum plums cherry cherries strawberry strawberries kiwi kiwis melon melons grapefruit mango "
    "mangoes pineapple pineapples oranges fruit fruits berries carrot carrots"
)
"""In a list with one of these, a bare colour noun is the fruit: "apples, orange and kiwi"."""

FOOD_ANIMALS = words("chicken turkey duck lamb fish goose salmon crab lobster shrimp goat rabbit")

COOKED = words(
    "fried grilled roasted roast baked cooked smoked barbecued bbq boiled steamed breaded "
    "shredded sliced chopped marinated raw ground diced braised stewed sauteed curried teriyaki "
    "buffalo"
)
"""An animal after these, or bare in the singular, is meat: "rice with chicken"."""

KIN_WORDS = words(
    "baby babies infant infants mother mothers father fathers mom moms mommy mama momma dad dads "
    "daddy papa parent parents child children kid kids adult adults male males female females son "
    "daughter sister sisters brother brothers twin twins family families youngster youngsters"
)
"""Nouns that name a person, or the same relation among animals: "a zebra and its baby"."""

KIN_LINKS = words("her their his 's the and or with one another other while")
"""Between an animal and its kin: "the zebra and her baby"."""

SEXES = words("male males female females adult adults")

PARENTS = words(
    "mother mothers father fathers mom moms dad dads parent parents adult adults male males "
    "female females"
)

YOUNG = words(
    "cub cubs calf calves foal foals lamb lambs kitten kittens puppy puppies pup pups duckling "
    "bull bulls ducklings gosling goslings chick chicks piglet piglets fawn fawns"
)


def collective(sentence: Sentence, match: Match, above: Governor) -> str:
    """ "a couple of dogs", "a couple bananas"; but "a couple walks"."""
    if match.form.phrase not in COLLECTIVES:
        return ""
    after = sentence.tags[match.end]
    if sentence.words[match.end] == "of" or after & (NUMBER | DET):
        return "counts what follows"
    return "counts what follows" if after & PLURAL and not after & THIRD else ""


def colour(sentence: Sentence, match: Match, above: Governor) -> str:
    """A noun that is a colour too counts only where its surroundings show the noun."""
    phrase, end = match.form.phrase, match.end
    following, after = sentence.words[end], sentence.tags[end]
    if phrase in TINTS:
        return "a colour" if following in COLOURS else ""
    if phrase not in COLOUR_NOUNS or not match.form.singular:
        return ""
    if sentence.words[match.start - 1] in COLOUR_DEGREES:
        return "a colour"
    if following in PORTIONS:
        return ""
    if following in COLOURS or after & NUMBER:
        return "a colour"
    if after & (CONJ | COMMA):
        if sentence.words[end + 1] in COLOURS:
            return "a colour"  # "an orange and white cat"
    elif (
        after & ADJECTIVE
        or following in GERUND_HEADS
        or (after & NOUN and not after & (CLOSED | THIRD | GERUND))
    ):
        return "a colour"  # "an orange cat"
    if sentence.tags[match.start - 1] & NOUN and not PAINTING.isdisjoint(
        sentence.words[: match.start]
    ):
        return "a colour"  # "the sunset paints the sky orange"
    if above.determined:
        return ""
    beyond = sentence.tags[end + 1]
    modified = after & (GERUND | PAST) and beyond & NOUN and not beyond & (CLOSED | ADVERB)
    if above.at < 0 and not modified and after & (PREP | AUX | STOP | THIRD | GERUND | PAST):
        return ""  # a headline drops its articles: "Orange on a table"
    if not FRUIT_FRIENDS.isdisjoint(sentence.words[: match.start] + sentence.words[end:]):
        return ""
    if phrase in MASS_COLOURS and sentence.tags[above.at] & (PREP | GERUND):
        return "a colour" if sentence.words[above.at] in ("in", "wearing") else ""
    return "a colour"


def meat(sentence: Sentence, match: Match, above: Governor) -> str:
    """ "rice with chicken", "roasted duck"; but "a chicken in a yard"."""
    if match.form.phrase not in FOOD_ANIMALS:
        return ""
    if not COOKED.isdisjoint(sentence.words[above.start : match.start]):
        return "meat"
    alive = sentence.tags[match.end] & (GERUND | THIRD | AUX)
    return "meat" if match.form.singular and not above.determined and not alive else ""


def kin(sentence: Sentence, match: Match, above: Governor) -> str:
    """ "a zebra and its baby", "mother and baby elephants"; but "a baby with a dog"."""
    if match.form.phrase in YOUNG and sentence.words[match.start - 1] in animals():
        return "an animal's"  # "an elephant calf" is no cow
    if match.form.phrase not in KIN_WORDS:
        return ""
    left = match.start - 1
    while sentence.tags[left] & ADJECTIVE and not sentence.tags[left] & OPENS_PHRASE:
        left -= 1
    before = sentence.words[left]
    earlier = sentence.words[: match.start][::-1]
    if before in ("its", "it's"):
        return "an animal's"
    counted = match.form.phrase in SEXES and sentence.tags[match.start - 1] & NUMBER
    if (before in KIN_LINKS or counted) and nearest_living(earlier, KIN_WORDS) == "animal":
        return "an animal's"
    if sentence.words[match.end] in ("and", "with", "'s"):
        later = sentence.words[match.end + 1 : match.end + 6]
        young = KIN_WORDS | YOUNG if match.form.phrase in PARENTS else KIN_WORDS
        if nearest_living(later, KIN_WORDS) == "animal" and not young.isdisjoint(later):
            return "an animal's"
    return ""


def activity(sentence: Sentence, match: Match, above: Governor) -> str:
    """An activity counts when somebody does it: "children dancing", not "dancing lights"."""
    following, after = sentence.words[match.end], sentence.tags[match.end]
    noun_follows = after & NOUN and not after & (CLOSED | VERB | ADJECTIVE)
    if sentence.tags[match.end - 1] & GERUND and noun_follows:
        return "" if following in agents() else "stands before a thing"
    for position, word in enumerate(sentence.words):
        outside = position < match.start or position >= match.end
        if outside and (word in agents() or sentence.tags[position] & SUBJECT):
            return ""
    headline = match.start == 0 and (after & (CLOSED & ~NEGATION) or not following)
    return "" if headline else "nobody does it"
