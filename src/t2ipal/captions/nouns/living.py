"""Words for people and animals, and which of them can do something."""

from __future__ import annotations

from functools import cache

from t2ipal.captions.nouns.lexicon import noun_forms, words

PERSON_NOUNS = words(
    "person man woman boy girl child kid baby infant toddler lady gentleman guy gal dude fellow "
    "teen teenager adult youth youngster human individual someone somebody player rider driver "
    "skier snowboarder skateboarder skater surfer swimmer cyclist bicyclist biker motorcyclist "
    "jockey runner jogger hiker climber batter pitcher catcher umpire referee athlete golfer "
    "coach goalie boxer wrestler dancer singer musician guitarist drummer artist painter actor "
    "photographer cameraman model clown magician pedestrian walker tourist traveler traveller "
    "passenger commuter visitor spectator bystander onlooker shopper customer vendor seller "
    "merchant waiter waitress bartender barista chef cook baker butcher farmer rancher cowboy "
    "cowgirl shepherd fisherman hunter gardener worker builder carpenter plumber mechanic "
    "engineer electrician fireman firefighter policeman policewoman officer cop soldier guard "
    "sailor pilot captain steward stewardess teacher student pupil professor scientist doctor "
    "nurse dentist surgeon patient lawyer judge businessman businesswoman salesman politician "
    "president king queen prince princess priest monk nun bride groom husband wife father mother "
    "dad mom daddy mommy mum parent son daughter brother sister grandfather grandmother grandma "
    "grandpa uncle aunt cousin friend neighbor neighbour owner trainer handler couple crowd team "
    "audience family crew acrobat adolescent attendee backpacker ballerina ballplayer baseman "
    "beachgoer bicycler boarder boater bodyguard boyfriend bridesmaid buddy businesspeople "
    "businessperson canoeist celebrity chairperson claus cleaner colleague competitor contestant "
    "coworker craftsman employee equestrian female fielder fighter geisha girlfriend grandparent "
    "groomsman guest gymnast handyman herder hipster hitter horseman horsewoman infielder "
    "instructor journalist juggler kayaker lad lecturer lifeguard linebacker male marcher "
    "milkmaid motorist newscaster opponent outfielder parachutist parasailer participant passerby "
    "patron performer presenter protester protestor quarterback reporter roommate rower "
    "salesperson santa schoolboy schoolgirl serviceman shortstop sibling skydiver spokesperson "
    "sportsman sunbather teammate villager windsurfer workman"
)

ANIMAL_NOUNS = words(
    "animal dog puppy pup cat kitten horse pony foal mare stallion donkey mule cow bull calf ox "
    "steer sheep lamb goat pig piglet hog elephant bear cub panda koala zebra giraffe lion "
    "lioness tiger leopard cheetah jaguar panther wolf fox coyote deer fawn elk moose antelope "
    "gazelle buffalo bison camel llama alpaca kangaroo monkey ape gorilla chimpanzee baboon "
    "orangutan rabbit bunny hare squirrel chipmunk mouse rat hamster raccoon skunk beaver otter "
    "seal walrus whale dolphin shark fish turtle tortoise frog toad snake lizard alligator "
    "crocodile dinosaur bird duck duckling goose gosling swan chicken hen rooster chick turkey "
    "pigeon dove seagull gull parrot owl eagle hawk falcon crow raven robin sparrow penguin "
    "ostrich emu flamingo pelican heron egret stork crane peacock rhino rhinoceros hippo "
    "hippopotamus insect bee butterfly spider crab lobster octopus jellyfish mammal reptile "
    "creature"
)

ATTRIBUTIVE = words(
    "passenger tourist police baby toy guard model adult male female mother child commuter "
    "student king queen driver rider player"
)
"""People and animals whose word stands in front of a noun more often than before a verb."""

UNREAL = words(
    "toy fake model cartoon animated origami lego robotic robot imaginary pretend replica "
    "matchbox cutout"
)
"""Before any class word: not the thing itself. "toy car"."""

UNREAL_LIVING = words(
    "wooden wood plastic metal glass stone bronze brass marble concrete clay iron steel knitted "
    "crocheted knit felt cloth foam wax sugar candy gummy straw ice rocking mechanical "
    "animatronic sculpted stuffed plush inflatable rubber paper cardboard carousel gingerbread "
    "decorative ceramic porcelain carved painted"
)
"""Before a living thing: a figure of it. "wooden horse"; but a wooden boat is a boat."""

TOYS = UNREAL | UNREAL_LIVING | words("teddy doll puppet figurine")
"""What holds one of these words is a toy in itself: "teddy bear"."""


def _with_plurals(nouns: frozenset[str]) -> frozenset[str]:
    return frozenset(form for noun in sorted(nouns) for form, _, _ in noun_forms(noun))


@cache
def persons() -> frozenset[str]:
    """Words for people, singular and plural."""
    return _with_plurals(PERSON_NOUNS)


@cache
def animals() -> frozenset[str]:
    """Words for animals, singular and plural."""
    return _with_plurals(ANIMAL_NOUNS)


@cache
def agents() -> frozenset[str]:
    """People and animals that do something when a verb form follows: "the man trains"."""
    return (persons() | animals()) - ATTRIBUTIVE


def is_animate(phrase: str) -> bool:
    """Does the head of the phrase name a living person or animal? (A teddy bear does not.)"""
    if not TOYS.isdisjoint(phrase.split()):
        return False
    head = phrase.split(" of ")[0].split()[-1]
    return head in persons() or head in animals()


def nearest_living(sequence: list[str], skipped: frozenset[str]) -> str:
    """Kind of the first living thing in ``sequence``: "animal", "person" or ""."""
    for word in sequence:
        if word in skipped:
            continue
        if word in animals():
            return "animal"
        if word in persons():
            return "person"
    return ""
