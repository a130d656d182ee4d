"""A run's captions: read or composed, labelled, chosen. Nothing here loads a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from t2ipal.captions.choose import choose_per_class
from t2ipal.captions.compose import compose
from t2ipal.captions.labelled import LabelledCaption, label_captions
from t2ipal.captions.sources import Caption, read_captions
from t2ipal.errors import UserError
from t2ipal.runs.config import CaptionSettings, RunConfig
from t2ipal.vocabulary import Vocabulary


def labelled_captions(config: CaptionSettings, vocabulary: Vocabulary) -> list[LabelledCaption]:
    """Captions read or composed, labelled, and chosen by ``config.per_class``."""
    rows = label_captions(_read_or_compose(config, vocabulary), vocabulary)
    if config.per_class is None:
        return rows
    return choose_per_class(rows, config.per_class, spread=config.spread, seed=config.seed)


def _read_or_compose(config: CaptionSettings, vocabulary: Vocabulary) -> list[Caption]:
    """The captions file's captions, or composed ones."""
    if config.captions is not None:
        return read_captions(config.captions, limit=config.limit)
    if config.compose is None:
        raise UserError("no captions: give a captions file, or a number of captions to compose.")
    return compose(vocabulary, config.compose, seed=config.seed)


def composed_for_missing(
    rows: Sequence[LabelledCaption],
    vocabulary: Vocabulary,
    config: RunConfig,
    say: Callable[[str], None],
) -> list[LabelledCaption]:
    """Composed captions for the classes that no caption names, so that these get images too."""
    named = {name for row in rows for name in row.labels}
    missing = tuple(entry for entry in vocabulary.classes if entry.name not in named)
    if not missing or not config.complete:
        return []
    count = config.complete * len(missing)
    composed = compose(Vocabulary(vocabulary.title, missing), count, seed=config.seed)
    say(
        f"composed {count} captions for the {len(missing)} classes that no caption names "
        "(--complete 0 composes none)"
    )
    return label_captions([Caption(f"composed-{c.id}", c.text) for c in composed], vocabulary)
