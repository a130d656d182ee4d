"""A run's captions: read or composed, labelled, chosen. Only a ``writer`` loads a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from t2ipal.captions.choose import choose_per_class
from t2ipal.captions.compose import compose
from t2ipal.captions.labelled import LabelledCaption, label_captions, label_each
from t2ipal.captions.sources import Caption, each_caption
from t2ipal.errors import UserError
from t2ipal.runs.config import CaptionSettings, RunConfig
from t2ipal.vocabulary import Vocabulary


def labelled_captions(config: CaptionSettings, vocabulary: Vocabulary) -> Iterable[LabelledCaption]:
    """Captions read or composed, labelled, and chosen by ``config.per_class``.

    They are held as a whole only if some are chosen.
    """
    rows = label_each(_read_or_compose(config, vocabulary), vocabulary)
    if config.per_class is None:
        return rows
    return choose_per_class(list(rows), config.per_class, spread=config.spread, seed=config.seed)


def _read_or_compose(config: CaptionSettings, vocabulary: Vocabulary) -> Iterable[Caption]:
    """The captions file's captions, or composed ones."""
    if config.captions is not None:
        return each_caption(config.captions, limit=config.limit)
    if config.compose is None:
        raise UserError("no captions: give a captions file, or a number of captions to compose.")
    if config.writer is not None:
        from t2ipal.captions.writer import write_captions

        return write_captions(vocabulary, config.compose, config.writer, seed=config.seed)
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
