"""The captions of a run: classes that none names are not forgotten."""

from __future__ import annotations

from t2ipal.captions.labelled import label_captions
from t2ipal.runs.config import RunConfig
from t2ipal.runs.labelling import composed_for_missing
from t2ipal.vocabulary import Vocabulary


def test_classes_that_no_caption_names_get_composed_captions() -> None:
    vocabulary = Vocabulary.load("voc2007")
    rows = label_captions(["a dog and a boat"], vocabulary)
    said: list[str] = []
    more = composed_for_missing(rows, vocabulary, RunConfig(complete=2), said.append)
    assert len(more) == 2 * 18 and "18 classes" in said[0]
    named = {name for row in more for name in row.labels}
    assert named == set(vocabulary.names) - {"dog", "boat"}
    assert not {row.id for row in more} & {row.id for row in rows}
    assert composed_for_missing(rows, vocabulary, RunConfig(complete=0), said.append) == []
