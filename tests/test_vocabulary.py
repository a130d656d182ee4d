"""Vocabularies: the built-in ones, own files, and what is wrong with broken ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2ipal.errors import UserError
from t2ipal.files.names import name_key
from t2ipal.vocabulary import BUILT_IN, UNKNOWN, ClassName, Vocabulary

VOC_DEVKIT = """
    aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike
    person pottedplant sheep sofa train tvmonitor
"""

NUS_WIDE = """
    airport animal beach bear birds boats book bridge buildings cars castle cat cityscape clouds
    computer coral cow dancing dog earthquake elk fire fish flags flowers food fox frost garden
    glacier grass harbor horses house lake leaf map military moon mountain nighttime ocean person
    plane plants police protest railroad rainbow reflection road rocks running sand sign sky snow
    soccer sports statue street sun sunset surf swimmers tattoo temple tiger tower town toy train
    tree valley vehicle water waterfall wedding whales window zebra
"""


def test_built_in_names_and_order() -> None:
    assert list(Vocabulary.load("voc2007").names) == VOC_DEVKIT.split()
    assert list(Vocabulary.load("nuswide").names) == NUS_WIDE.split()
    coco = Vocabulary.load("coco2014")
    assert len(coco) == 80
    assert coco.names[:3] == ("person", "bicycle", "car")
    assert coco.names[11] == "stop sign" and coco.names[-1] == "toothbrush"
    assert [len(Vocabulary.load(name)) for name in BUILT_IN] == [20, 80, 81]


def test_readable_names_read_as_english() -> None:
    voc = Vocabulary.load("voc2007")
    assert voc.readable[voc.index("diningtable")] == "dining table"
    assert voc.readable[voc.index("pottedplant")] == "potted plant"
    for name in BUILT_IN:
        assert all(word == word.lower() for word in Vocabulary.load(name).readable)


@pytest.mark.parametrize("name", BUILT_IN)
def test_yaml_round_trip(name: str, tmp_path: Path) -> None:
    vocabulary = Vocabulary.load(name)
    path = tmp_path / "classes.yaml"
    path.write_text(vocabulary.to_yaml(), encoding="utf-8")
    again = Vocabulary.load(path)
    assert again == vocabulary
    assert again.digest == vocabulary.digest
    assert again.to_yaml() == vocabulary.to_yaml()


_word = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp", "Cf"]),
    min_size=1,
    max_size=12,
).map(lambda text: "x" + text.replace("|", ""))


@settings(max_examples=40, deadline=None)
@given(st.lists(_word, min_size=1, max_size=5, unique_by=name_key), st.lists(_word, max_size=3))
def test_any_names_survive_yaml(tmp_path_factory, names: list[str], words: list[str]) -> None:
    classes = tuple(ClassName(name, name, tuple(dict.fromkeys(words))) for name in names)
    path = tmp_path_factory.mktemp("yaml") / "v.yaml"
    path.write_text(Vocabulary("t", classes).to_yaml(), encoding="utf-8")
    assert Vocabulary.load(path).names == tuple(names)


def test_yaml_words_that_yaml_reads_as_other_things(tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text("- yes\n- 12\n- null\n- 2020-01-01\n- name: on\n  synonyms: [no, 1.5]\n")
    vocabulary = Vocabulary.load(path)
    assert vocabulary.names == ("yes", "12", "null", "2020-01-01", "on")
    assert vocabulary.classes[-1].synonyms == ("no", "1.5")
    assert vocabulary.title == "odd"


def test_load_passes_a_vocabulary_through_and_accepts_text_paths(tmp_path: Path) -> None:
    vocabulary = Vocabulary.of(["barn", "fire_truck"])
    assert Vocabulary.load(vocabulary) is vocabulary
    assert vocabulary.readable == ("barn", "fire truck")
    path = tmp_path / "farm.yml"
    path.write_text("title: farm\nclasses: [barn, {name: fire_truck}]\n")
    assert Vocabulary.load(str(path)).readable == ("barn", "fire truck")
    assert Vocabulary.load(path).title == "farm"


def test_digest_sees_everything_but_the_title() -> None:
    base = Vocabulary("a", (ClassName("cow", "cow", ("bull",)), ClassName("dog", "dog")))
    assert base.digest == Vocabulary("b", base.classes).digest
    others = [
        (ClassName("cow", "cow"), ClassName("dog", "dog")),
        (ClassName("cow", "kine", ("bull",)), ClassName("dog", "dog")),
        (ClassName("dog", "dog"), ClassName("cow", "cow", ("bull",))),
        (ClassName("cow", "cow", ("bull",), {"calf": ()}), ClassName("dog", "dog")),
        (ClassName("cow", "cow", ("bull",), {}, ("sea cow",)), ClassName("dog", "dog")),
        (ClassName("cow", "cow", ("bull",), {}, (), ("moo",)), ClassName("dog", "dog")),
        (ClassName("cow", "cow", ("bull",), {}, (), (), True), ClassName("dog", "dog")),
    ]
    digests = {Vocabulary("a", classes).digest for classes in others}
    assert len(digests | {base.digest}) == len(others) + 1


def test_phrases_leave_the_ambiguous_out() -> None:
    item = ClassName("mouse", "computer mouse", ("wireless mouse",), {"mouse": ("desk",)})
    assert item.phrases == ("computer mouse", "wireless mouse")


def test_targets() -> None:
    vocabulary = Vocabulary.of(["a", "b", "c", "d"])
    row = vocabulary.targets(["c", "a"], ["d"])
    assert row.dtype == np.int8
    assert row.tolist() == [1, 0, 1, UNKNOWN]
    assert vocabulary.targets([]).tolist() == [0, 0, 0, 0]
    with pytest.raises(UserError, match="both as label and as unknown"):
        vocabulary.targets(["a"], ["a"])
    with pytest.raises(UserError, match="no class 'e'"):
        vocabulary.targets(["e"], [])


def test_index_suggests_the_nearest() -> None:
    with pytest.raises(UserError, match=r"no class 'bicicle'.*did you mean 'bicycle'"):
        Vocabulary.load("voc2007").index("bicicle")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("# nothing\n", "the file is empty"),
        ("classes: []\n", r":1: the list of classes is empty"),
        ("title: x\n", r":1: 'classes' is missing"),
        ("title: x\nclases: [a]\n", r":2: unknown key 'clases' \(did you mean 'classes'\?\)"),
        ("- cow\n- name: dog\n  synonim: [x]\n", r":3: unknown key 'synonim'.*'synonyms'"),
        ("- cow\n- dog\n- Cow\n", r":3: the class 'Cow' stands at .*classes\.yaml:1 already"),
        ("- cow\n- readable: dog\n", r":2: 'name' is missing"),
        ("- cow\n- [dog]\n", r":2: an entry must be a mapping, not \['dog'\]"),
        ("- cow\n- ''\n", r":2: .*has no letter"),
        ("- cow\n- '?!'\n", r":2: .*has no letter"),
        ("- cow\n- a|b\n", r":2: .*separates classes"),
        ("- {name: cow, synonyms: bull}\n", r":1: 'synonyms' must be a list, not 'bull'"),
        ("- {name: cow, synonyms: [[bull]]}\n", r":1: an entry of 'synonyms' must be text"),
        ("- {name: cow, ambiguous: [bull]}\n", r":1: 'ambiguous' must be a mapping"),
        (
            "- {name: cow, attributive: maybe}\n",
            r":1: 'attributive' must be true or false",
        ),
        ("- {name: cow, name: dog}\n", r":1: the key 'name' is given twice"),
        ("- cow\n  - dog: [\n", r":\d+: is not YAML"),
        ("a: b: c\n", r":1: is not YAML"),
        ("just words\n", r":1: expected a list of class names"),
        ("- cow\n---\n- dog\n", r"is not YAML"),
    ],
)
def test_broken_files_are_told_with_their_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "classes.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        Vocabulary.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_saved_vocabulary_that_is_damaged_is_told_with_its_place() -> None:
    good = Vocabulary.of(["dog", "cat"]).as_dict()
    assert Vocabulary.from_dict(good, "config.json").names == ("dog", "cat")
    with pytest.raises(UserError, match=r"^config\.json: classes\.1\.name: 'name' must be text"):
        Vocabulary.from_dict({"title": "x", "classes": ["dog", {"name": 3}]}, "config.json")


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no vocabulary 'voc2017' \(did you mean 'voc2007'\?\)"):
        Vocabulary.load("voc2017")
    with pytest.raises(UserError, match="cannot be read"):
        Vocabulary.load(tmp_path / "missing.yaml")
    with pytest.raises(UserError, match="cannot be read"):
        Vocabulary.load(tmp_path)
    binary = tmp_path / "image.yaml"
    binary.write_bytes(b"\x89PNG\r\n\0\xff\xfe")
    with pytest.raises(UserError, match="is no text"):
        Vocabulary.load(binary)


def test_bare_names_are_checked() -> None:
    with pytest.raises(UserError, match="no classes"):
        Vocabulary.of([])
    with pytest.raises(UserError, match="twice"):
        Vocabulary.of(["dog", "Dog"])
    with pytest.raises(UserError, match="list of class names"):
        Vocabulary.of("dog")
    with pytest.raises(UserError, match="must be text"):
        Vocabulary.of(["dog", 3])  # type: ignore[list-item]
    with pytest.raises(UserError, match="spaces at its ends"):
        Vocabulary.of([" dog"])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.txt", "dog\r\ncat\r\n\r\ndining table\r\n"),
        ("coco.names", "\ufeffdog\ncat\ndining table\n"),
        ("list.csv", "class,number\ndog,1\ncat,2\ndining table,3\n"),
        ("row.csv", "dog,cat,dining table\n"),
        ("numbered.csv", 'id;name\n1;dog\n2;"cat"\n3;dining table\n'),
        ("one_column.csv", "dog\ncat\ndining table\n"),
        ("data.yaml", "path: x\nnc: 3\nnames:\n  0: dog\n  1: cat\n  2: dining table\n"),
        ("yolo.yaml", "train: x\nnames: [dog, cat, dining table]\n"),
        ("names.json", '["dog", "cat", "dining table"]'),
    ],
)
def test_lists_of_names_that_people_have(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8", newline="")
    assert Vocabulary.load(path).names == ("dog", "cat", "dining table")


def test_a_vocabulary_in_utf_16(tmp_path: Path) -> None:
    path = tmp_path / "wide.yaml"
    path.write_text("- dog\n- cat\n", encoding="utf-16")
    assert Vocabulary.load(path).names == ("dog", "cat")


def test_mistakes_in_lists_of_names(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("dog\ncat\nDog\n")
    with pytest.raises(UserError, match=r"classes.txt:3: the class 'Dog' is on line 1 already"):
        Vocabulary.load(path)
    path.write_text("\n")
    with pytest.raises(UserError, match="the file is empty"):
        Vocabulary.load(path)
    table = tmp_path / "classes.csv"
    table.write_text("dog,1\ncat,2\n")
    with pytest.raises(UserError, match=r"classes.csv:1: several columns and none called 'name'"):
        Vocabulary.load(table)
    other = tmp_path / "one.yaml"
    other.write_text("dog\ncat\n")
    with pytest.raises(UserError, match=r"one.yaml:1: expected a list of class names"):
        Vocabulary.load(other)


@pytest.mark.parametrize(
    ("name", "readable"),
    [
        ("bow_(weapon)", "bow (weapon)"),
        ("tench, Tinca tinca", "tench"),
        ("person;individual", "person"),
        ("cat/cats", "cat"),
        ("Picture/Frame", "Picture or Frame"),
        ("Cutting/chopping Board", "Cutting or chopping Board"),
        ("TrafficLight", "traffic light"),
        ("glass(es)", "glass"),
        ("iPhone", "iPhone"),
        ("AC/DC", "AC or DC"),
        ("24/7", "24/7"),
        ("/m/0abc", "/m/0abc"),
        ("1,000 islands", "1,000 islands"),
        ("bow (weapon, for archery)", "bow (weapon, for archery)"),
        ("salt & pepper", "salt & pepper"),
    ],
)
def test_what_prompts_call_a_class(name: str, readable: str) -> None:
    item = ClassName(name)
    assert item.readable == readable
    again = Vocabulary.from_dict(Vocabulary("t", (item,)).as_dict(), "x")
    assert again.classes == (item,) and "readable" not in item.as_dict()


@pytest.mark.parametrize("other", ["Bow_(weapon)", "bow-(weapon)", "\uff42ow (weapon)"])
def test_one_name_in_two_spellings_is_one_class(other: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"twice \('bow \(weapon\)' is the same name\)"):
        Vocabulary.of(["bow (weapon)", other])
    path = tmp_path / "classes.yaml"
    path.write_text(f"- bow (weapon)\n- '{other}'\n", encoding="utf-8")
    with pytest.raises(UserError, match=r":2: the class .* stands at .*:1 already"):
        Vocabulary.load(path)


@pytest.mark.parametrize("name", ["a\u009bb", "a\ud800b", "a\u2028b", "a\x00b"])
def test_names_without_control_characters(name: str) -> None:
    with pytest.raises(UserError, match="control characters"):
        Vocabulary.of([name])


def test_a_table_without_a_name_is_refused(tmp_path: Path) -> None:
    for name, text in (("k.csv", "sep=;\n"), ("k.tsv", "sep=,\n\n")):
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match="the file is empty; write one class name per line"):
            Vocabulary.load(tmp_path / name)
