"""Class words in front of another noun, or joined to one: "bus stop", "women's room"."""

from __future__ import annotations

from t2ipal.captions.nouns.lexicon import (
    ADJECTIVE,
    ADVERB,
    AUX,
    BASE,
    CLOSED,
    DET,
    DET_ONE,
    GERUND,
    MODAL,
    NOUN,
    NUMBER,
    OBJECT,
    PAST,
    POSS,
    PREP,
    SUBJECT,
    THIRD,
    words,
)
from t2ipal.captions.nouns.living import persons
from t2ipal.captions.nouns.match import Match
from t2ipal.captions.nouns.sentence import Governor, Sentence

STANDS_BEFORE = "stands before"
"""How the reason of :func:`modifier` begins."""

NEEDS_LIVING = words(
    "rider riders face faces head heads body bodies tail tails nose noses snout leg legs paw paws "
    "ear ears eye eyes neck necks mane back mouth tongue trunk wing wings beak hoof hooves belly "
    "chest arm arms hand hands finger fingers foot feet family families herd couple pair breed "
    "mom dad mother father pup cub calf pups cubs"
)
"""Heads that need the living thing itself: who rides it, what is part of its body."""

PORTIONS = words(
    "slice slices piece pieces half halves wedge wedges segment segments chunk chunks bit bits "
    "stick sticks floret florets stalk stalks spear spears bunch bunches"
)
"""After a food: the food is there: "pizza slice"."""

SOLID_PARTS = {
    "clock": words("face faces tower towers hands steeple"),
    "computer": words("screen screens monitor monitors keyboard"),
    "flower": words("petal petals garden gardens field fields bed beds bouquet arrangement"),
    "grass": words("field fields"),
    "laptop": words("screen screens keyboard computer computers"),
    "monitor": words("screen screens"),
    "parking meter": words("pole post"),
    "rock": words("formation formations wall face"),
    "sand": words("dune dunes beach"),
    "skateboard": words("trick tricks stunt stunts"),
    "television": words("screen screens monitor set sets"),
    "toilet": words("bowl bowls tank seat seats lid"),
    "traffic light": words("pole poles post"),
    "train": words("engine engines car cars cab carriage carriages caboose"),
    "tree": words("branch branches trunk trunks line"),
    "tv": words("screen screens monitor set sets"),
    "water": words("surface"),
}
"""Heads that do not come apart from what stands before them in pictures."""

HEADS = words(
    "food house houses bowl stop station park parking crossing racing landing grooming training "
    "washing bedding interior exterior painting paintings carving drawing public show shows print "
    "prints racks rack track tracks bath box boxes bed beds cage kennel seat seats cover covers "
    "toy toys tag tags collar collars leash sign signs statue statues design pattern costume hat "
    "museum sculpture shop store dealership exhibit enclosure pen pens trailer trailers carriage "
    "yard pad pads stand stands paper roll rolls holder case cases cutter stain stains bench gate "
    "sheet sheets frame lot lots light lights window windows door doors wheel wheels tire tires "
    "mask masks skin hide rug skull cutout float ride rides top walk roast race races rental "
    "treats treat bone bones biscuit biscuits poop droppings litter shelter section crew club "
    "stall stalls tower towers pole poles route routes terminal depot platform dock docks ramp "
    "signal signals farm farms stops remains chop chops bell bells shoe shoes skins"
)
"""Nouns that stay nouns after a thing even where the dictionary also reads a verb."""

GERUND_HEADS = words(
    "crossing parking racing landing grooming training washing painting carving drawing building "
    "wedding railing ceiling clothing lighting bedding dressing ring string covering housing "
    "dealership filling frosting icing topping"
)
"""Of the -ing forms, those that head compounds: "dog training class"."""

NOT_HEADS = words(
    "go come do get be see cut split put shut spread sideways downhill uphill midair airborne "
    "asleep alone awake aboard ashore afloat apart alike ready high low outdoors indoors left "
    "right today tonight yesterday day night way while inside outside front back side view views "
    "center middle bottom each one's kind eating lot first second third half"
)
"""Words that are no head noun, whatever the dictionary says."""

VERBS_AFTER_THING = words(
    "stops passes runs drives moves turns rides flies parks lies lands hits rests waits pulls "
    "hangs rolls heads leaves crosses floats sits goes comes looks travels rounds shows points "
    "displays faces docks sails stands makes takes carries races speeds cruises approaches "
    "arrives departs emerges enters exits crashes tows works reads tells glows shines drips "
    "spills holds contains appears seems needs gets begins starts plays blows falls drops peeks "
    "pokes sticks rises soars glides taxis descends ascends climbs hovers circles swings leans "
    "tilts rusts serves fills lines opens closes attaches matches backs barrels strikes rings "
    "ticks chimes sounds swims grows flows poses wears jumps walks lays sleeps smiles talks uses"
)
"""Third-person forms that follow a thing in captions more often than they head a compound."""

VERBS_AFTER_LIVING = words("shows tracks prints houses stands walk rides races walks")
"""Of the heads, those that a living thing does rather than has."""

BARE_VERBS = words(
    "sit stand walk run look ride race play hang wait rest graze drink eat fly swim jump sleep "
    "pose watch stop drive move turn pass park face share compete fight hug kiss dance march fish "
    "surf ski skate travel gather line lie talk chat smile laugh wave shake try leave start begin "
    "roam wander stare gaze lean relax cross float sail dock land taxi climb perch nest feed sip "
    "bark chase cuddle nap lounge snuggle touch lick sniff hold carry catch throw hit kick need "
    "show appear seem use work make take keep read write cook clean shop"
)
"""Base forms that are verbs after a plural or coordinated subject, though nouns too."""

PERCEPTION = words(
    "watch watches watching watched see sees seeing saw seen let lets letting make makes making "
    "made help helps helping helped hear hears hearing have having feel feels can could will "
    "would does do did may might must should to"
)
"""They take a noun and a bare verb: "watching the dog run"; there "run" is no head noun."""

SPORTS = words("boarding skiing surfing riding skating sailing flying fishing diving sledding")
"""After a noun these make one verb with it: "a woman snow boarding"."""

CARRIED = words("passenger commuter police tourist")
"""People whose word stands before what serves them more often than before a verb."""

STYLES = words(
    "shaped themed printed patterned coloured colored sized styled inspired scented flavored "
    "flavoured proof proofed"
)
"""After a class word: only its look. "bear shaped", "dog proof"."""

PRESENCE = words(
    "drawn covered lined filled topped packed crowded strewn clad dotted laden loaded capped "
    "pulled shaded studded infested"
)
"""After a class word and a hyphen: the thing is there. "horse-drawn", "car-lined"."""

ANTI = words("non anti pseudo faux mock quasi post pre")
"""Before a class word and a hyphen: not that."""

MADE_FOR = words(
    "room rooms restroom restrooms bathroom bathrooms bedroom bedrooms toilet toilets section "
    "department drawing drawings painting paintings art artwork book books clothing clothes toys "
    "toy bike bikes bicycle bicycles game games club tennis team soccer baseball basketball "
    "hospital museum playground menu"
)
"""After "men's", "a child's": made for them or by them, and they need not be there."""

WORN = words(
    "shirt hat cap tie jacket coat dress pants shoes shoe glasses lap side hand hands shoulder "
    "shoulders reflection smile outfit clothing uniform suit wrist knee knees plate "
    "pocket back chest waist ankle"
)
"""After "a man's": worn or held, so the man is there."""


def hyphen(sentence: Sentence, match: Match, above: Governor) -> str:
    """ "dog-friendly", "bear-shaped", "non-person"; but "horse-drawn", "tree-lined"."""
    following = sentence.words[match.end]
    if match.end - 1 in sentence.joined:
        if following not in PRESENCE:
            return "part of a compound"
    elif following in STYLES and sentence.words[match.end + 1] not in ("like", "as", "in", "into"):
        return "only its look"  # "a bear shaped cake"; but "a cake shaped like a bear" is a cake
    if match.start - 1 in sentence.joined and sentence.words[match.start - 1] in ANTI:
        return "negated"
    return ""


def possessive(sentence: Sentence, match: Match, above: Governor) -> str:
    """ "women's restroom", "child's bed"; but "a man's hand", "the dog's asleep"."""
    if sentence.words[match.end] != "'s":
        return ""
    owned = match.end + 1
    telling = NEEDS_LIVING | MADE_FOR
    while sentence.tags[owned] & ADJECTIVE and sentence.words[owned] not in telling:
        owned += 1
    word, tag = sentence.words[owned], sentence.tags[owned]
    if word in MADE_FOR:
        return "made for them"
    if word in WORN and match.form.plural and not above.determined:
        return "made for them"  # "women's shoes"
    if not word or word in NEEDS_LIVING or word in WORN or not match.form.animate:
        return ""
    if tag & (CLOSED | GERUND | PAST) and not tag & NOUN:
        return ""  # "the dog's asleep", "the man's riding"
    return "owner, perhaps absent"


def modifier(sentence: Sentence, match: Match, above: Governor) -> str:
    """ "bus stop", "dog bowl"; but "pizza slice", "horse rider", "clock face"."""
    form = match.form
    following, tag = sentence.words[match.end], sentence.tags[match.end]
    if not form.singular or tag & CLOSED or following in NOT_HEADS:
        return ""
    if not tag & NOUN and following not in GERUND_HEADS:
        return ""
    if following in NEEDS_LIVING and (form.animate or following in ("rider", "riders")):
        return ""
    if following in PORTIONS and not form.animate:
        return ""
    last = form.phrase.split()[-1]
    if following in SOLID_PARTS.get(form.phrase, ()) or following in SOLID_PARTS.get(last, ()):
        return ""
    return f"{STANDS_BEFORE} {following!r}" if _is_head(sentence, match, above) else ""


def _is_head(sentence: Sentence, match: Match, above: Governor) -> bool:
    """Is the word after the match the noun that the class word modifies, or the verb it does?"""
    following, tag = sentence.words[match.end], sentence.tags[match.end]
    after = sentence.tags[match.end + 1]
    if tag & GERUND:
        # "horse racing", "a dog training class"; but "the train crossing the river"
        compound = not above.determined or (after & NOUN and not after & CLOSED)
        determiner = after & (DET_ONE | DET | POSS)
        return following in GERUND_HEADS and bool(compound and not determiner)
    if tag & (ADJECTIVE | ADVERB):
        return following in HEADS
    if match.form.animate and sentence.words[match.end + 1] in SPORTS:
        return False
    if tag & THIRD:
        return _is_plural_head(sentence, match, above)
    if tag & PAST:
        return following in HEADS
    return _is_singular_head(sentence, match, above) if tag & BASE else True


def _is_plural_head(sentence: Sentence, match: Match, above: Governor) -> bool:
    """ "train tracks" against "train stops": plural noun or third person?"""
    following, after = sentence.words[match.end], sentence.tags[match.end + 1]
    if after & AUX:
        return True
    if after & ADVERB and sentence.words[match.end + 1].endswith("ly"):
        return False
    if after & (DET_ONE | DET | POSS | OBJECT) and not after & SUBJECT:
        return False
    if sentence.tags[match.start - 1] & NUMBER:
        return True  # "two bus stops"
    if match.form.phrase in CARRIED:
        return following not in VERBS_AFTER_THING
    if match.form.animate:
        return following in HEADS and following not in VERBS_AFTER_LIVING
    if not above.determined and following in HEADS:
        return True  # "bus stops along the road"
    return following not in VERBS_AFTER_THING


def _is_singular_head(sentence: Sentence, match: Match, above: Governor) -> bool:
    """ "dog bowl" against "two giraffe stand": singular noun or bare verb?

    A singular subject never goes with a bare verb, unless something above calls for one.
    """
    form, tags = match.form, sentence.tags
    following, after = sentence.words[match.end], sentence.tags[match.end + 1]
    if after & (DET_ONE | POSS | OBJECT) and not after & AUX:
        return False
    counted = form.animate and any(tag & NUMBER for tag in tags[above.start : match.start])
    unmarked = form.plural and not sentence.tags[match.start - 1] & DET_ONE
    if counted or unmarked or "and" in sentence.words[above.at + 1 : match.start]:
        # "two giraffe stand", "sheep graze", "two buses and a taxi go"
        return following not in BARE_VERBS or (not form.animate and following in HEADS)
    if sentence.words[above.at] in PERCEPTION:
        return following in HEADS and not form.animate
    if above.determined and sentence.tags[above.start - 1] & (MODAL | AUX):
        return False
    if form.phrase.split()[-1] in persons() and after & PREP:
        return following in HEADS
    return True
