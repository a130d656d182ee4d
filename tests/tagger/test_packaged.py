"""The tagger that comes with the package, on photos that come with the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from t2ipal.cli import main
from t2ipal.errors import UserError
from t2ipal.tagger import PACKAGED, model_folder
from t2ipal.tagger.card import model_card
from t2ipal.tagger.tagger import Tagger
from t2ipal.vocabulary import Vocabulary

PHOTOS = Path(__file__).parents[2] / "examples" / "photos"


@pytest.fixture(scope="module")
def photo() -> Tagger:
    return Tagger.from_pretrained("photo")


def test_it_knows_coco_s_classes_and_sees_a_cat_and_a_cup(photo: Tagger) -> None:
    assert photo.names == Vocabulary.load("coco2014").names
    assert photo.tags(PHOTOS / "cat.jpg") == ["cat"]
    assert {"cup", "spoon"} <= set(photo.tags(PHOTOS / "coffee.jpg"))
    # A person is nearly always in the photos that it was calibrated on; not so in its answers.
    assert (
        photo.predict(PHOTOS / "cat.jpg")["person"]
        < 0.5
        < photo.predict(PHOTOS / "astronaut.jpg")["person"]
    )


def test_its_card_is_the_one_beside_it_and_says_what_it_is_made_of(photo: Tagger) -> None:
    text = (PACKAGED["photo"] / "README.md").read_text(encoding="utf-8")
    assert text == model_card(photo)
    for words in ('from_pretrained("photo")', "nothing was trained", "MS-COCO val2017", "too sure"):
        assert words in text


def test_a_name_on_the_hub_is_no_folder_unless_a_folder_was_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert model_folder("photo") == PACKAGED["photo"] and model_folder("runs") == Path("runs")
    assert model_folder("runs/model") is None is model_folder("org/name", typed=True)
    for name, typed in (("runs/model", True), ("model", False), ("./org/name", False)):
        with pytest.raises(UserError, match="no such folder"):
            model_folder(name, typed=typed)


def test_an_unknown_model_is_told_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "phto", str(PHOTOS / "cat.jpg")]) == 2
    said = capsys.readouterr().err
    assert "did you mean 'photo'?" in said and "the tagger of this package" in said
