"""Does a class word in a caption name a thing that is in the picture?

Each rule looks at one way in which it does not, and gives the reason in a word or two. The rules
are about English, not about any vocabulary or data set; the noun filter asks them in turn.
"""

from __future__ import annotations

from t2ipal.captions.nouns.absence import AWAITED, NEGATED
from t2ipal.captions.nouns.compounds import HYPHENATED, MODIFIER, POSSESSIVE
from t2ipal.captions.nouns.depictions import DEPICTION, LIKENESS
from t2ipal.captions.nouns.match import Form, Objection
from t2ipal.captions.nouns.senses import ACTIVITY, COLLECTIVE, COLOUR, KIN, MEAT
from t2ipal.captions.nouns.verbs import VERBAL

_OF_NOUNS = (
    HYPHENATED,
    POSSESSIVE,
    COLLECTIVE,
    COLOUR,
    VERBAL,
    MODIFIER,
    NEGATED,
    LIKENESS,
    DEPICTION,
    AWAITED,
    MEAT,
    KIN,
)
_OF_ACTIVITIES = (ACTIVITY, NEGATED)


def rules_for(form: Form) -> tuple[Objection, ...]:
    """The rules that can ever object to this form, in the order in which they are asked."""
    asked = _OF_ACTIVITIES if form.activity else _OF_NOUNS
    return tuple(rule.objection for rule in asked if rule.applies(form))
