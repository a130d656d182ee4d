"""Every verb with the mistakes that people make: status 2 and one sentence, never a traceback."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from conftest import TinyRun
from t2ipal.cli import main

DEEP = "[" * 100_000
TEXTS = {
    "classes.yaml": "- dog\n- cat\n- {name: bus, readable: city bus}\n",
    "captions.txt": "a dog in a park\na cat on a sofa\na bus and a dog\n",
    "labelled.jsonl": "".join(
        json.dumps({"id": str(n), "caption": f"a dog {n}", "labels": ["dog"], "unknown": [],
                    "matches": {"dog": "dog"}}) + "\n"
        for n in range(4)
    ),
    "empty.txt": "", "empty.yaml": "", "empty.csv": "", "empty.jsonl": "", "empty.json": "",
    "blank.txt": "\n \n\t\n",
    "twice.yaml": "- dog\n- cat\n- Dog\n", "twice.txt": "traffic_light\ncat\nTraffic-Light\n",
    "tabs.yaml": "classes:\n\t- dog\n", "colon.yaml": "- dog: an animal\n- cat\n",
    "word.yaml": "dog\n", "numbers.yaml": "- [1, 2]\n", "bar.txt": "dog|cat\n",
    "alias.yaml": "- &a [*a]\n", "bomb.yaml": "".join(
        f"- &a{n} [{', '.join([f'*a{n - 1}' if n else 'dog'] * 10)}]\n" for n in range(30)
    ),
    "date.yaml": "seed: 2001-99-99\n", "int.yaml": "seed: !!int abc\n",
    "digits.yaml": "seed: " + "1" * 5000 + "\n", "surrogate.json": '["\\ud800"]',
    "json.txt": '["dog", "cat"]\n', "long.txt": "dog" * 1000 + "\n",
    "deep.json": DEEP, "deep.jsonl": DEEP, "deep.yaml": DEEP, "deep.csv": DEEP,
    "digits.jsonl": '{"caption": "a", "id": ' + "1" * 5000 + "}\n",
    "number.jsonl": "3\n", "key.jsonl": '{"name": "a"}\n', "null.jsonl": '{"caption": null}\n',
    "ids.jsonl": '{"caption": "a", "id": "1"}\n{"caption": "b", "id": 1}\n',
    "cut.json": '{"annotations": [{"caption": "a"',
    "instances.json": '{"annotations": [{"bbox": []}]}',
    "header.csv": "name,number\na,1\n", "cells.csv": "id,caption\n1,a,b\n",
    "others.txt": "a tree\na house\n",
    "foxes.jsonl": '{"id": "1", "caption": "a fox", "labels": ["fox"], "unknown": [], '
                   '"matches": {"fox": "fox"}}\n',
    "config.yaml": "sede: 3\n", "batch.yaml": "batch_size: none\n", "head.yaml": "head: 5\n",
    "photos/labels.csv": "image,labels\na.png,dog\nb.png,cat\n",
    "fox/labels.csv": "image,labels\na.png,fox\n", "lost/labels.csv": "image,labels\nc.png,dog\n",
    "cell/labels.csv": "image,dog,cat\na.png,1,maybe\n", "rows/labels.csv": "image,labels\n",
    "note/readme.md": "no image here\n",
    "set/images.jsonl": "", "torn/images.jsonl": '{"id": \n', "nested/images.jsonl": DEEP,
    "model/config.json": "{", "nested_model/config.json": DEEP, "list_model/config.json": "[]",
}  # fmt: skip


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, tiny_run: TinyRun) -> Path:
    """A folder of files that are wrong, a few that are right, and a trained model."""
    folder = tmp_path_factory.mktemp("mistakes")
    for name, text in TEXTS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    for name in ("garbage", "garbage.txt", "garbage.yaml", "garbage.csv", "garbage.jsonl"):
        (folder / name).write_bytes(bytes(range(256)) * 20)
    (folder / "wide.txt").write_bytes("a dog\n".encode("utf-16") + b"\x00")
    (folder / "mixed.txt").write_bytes("caf\u00e9\n".encode() + "caf\u00e9\n".encode("cp1252"))
    (folder / "captions.txt.gz").write_bytes(b"no gzip")
    os.mkfifo(folder / "pipe")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "nothing").mkdir()
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    for place in ("photos", "fox", "lost", "cell", "rows"):
        for name in ("a", "b"):
            Image.new("RGB", (40, 30), "red").save(folder / place / f"{name}.png")
    shutil.copytree(tiny_run.folder / "model", folder / "good")
    return folder


@pytest.fixture(autouse=True)
def _in_it(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = sorted(here.rglob("*"))
    monkeypatch.chdir(here)
    yield
    assert sorted(here.rglob("*")) == before, "a mistake leaves nothing behind"


BAD_CLASSES = [
    ("missing.yaml", "cannot be read"), ("missing.txt", "no vocabulary 'missing.txt'"),
    ("voc2017", r"did you mean 'voc2007'"), ("nothing", "cannot be read"), ("pipe", "is a pipe"),
    ("dangling", "no vocabulary"), ("empty.yaml", "is empty"), ("empty.txt", "is empty"),
    ("empty.csv", "is empty"), ("blank.txt", "is empty"),
    ("garbage.yaml", ":1: is no text"), ("garbage.txt", ":1: is no text"),
    ("garbage.csv", ":1: is no text"), ("mixed.txt", ":2: not UTF-8 text, though line 1 is"),
    ("twice.yaml", ":3: the class 'Dog' stands at twice.yaml:1"),
    ("twice.txt", ":3: the class 'Traffic-Light' is on line 1"),
    ("tabs.yaml", ":2: is not YAML"), ("colon.yaml", ":1: unknown key 'dog'"),
    ("word.yaml", ":1: expected a list of class names"), ("numbers.yaml", ":1: an entry must be"),
    ("bar.txt", ":1: .*separates classes"), ("alias.yaml", ":1: an alias stands"),
    ("bomb.yaml", ":7: unfolds to more"),
    ("surrogate.json", "surrogate.json"), ("json.txt", ":1: is JSON"), ("long.txt", "3000 char"),
    ("deep.json", "nesting|nested"), ("deep.yaml", "nesting|nested"), ("deep.csv", "deep.csv:1"),
]  # fmt: skip
NOT_THERE = "cannot be read|no such folder or file"
BAD_CAPTIONS = [
    ("missing.txt", NOT_THERE), ("missing.json", NOT_THERE),
    ("nothing", "cannot be read"), ("pipe", "is a pipe"), ("dangling", NOT_THERE),
    ("empty.txt", "holds no captions"), ("empty.csv", "is empty"), ("empty.jsonl", "is empty"),
    ("empty.json", "is empty"), ("blank.txt", "holds no captions"),
    ("garbage", ":1: is no text"), ("garbage.csv", ":1: is no text"), ("broken.png", "is no text"),
    ("garbage.jsonl", ":1: is no text"), ("wide.txt", "broken UTF-16"),
    ("mixed.txt", ":2: not UTF-8 text, though line 1 is"), ("captions.txt.gz", "cannot be read"),
    ("deep.json", "nested too deeply"), ("deep.jsonl", ":1: .*nested too deeply"),
    ("digits.jsonl", ":1: .*thousands of digits"), ("number.jsonl", ":1: expected a JSON object"),
    ("key.jsonl", r":1: no 'caption' or 'text' \(keys: name\)"),
    ("null.jsonl", ":1: 'caption' must be text"), ("ids.jsonl", ":2: the id '1' is on line 1"),
    ("cut.json", ":1: broken JSON"), ("instances.json", "not its instances file"),
    ("header.csv", ":1: no column 'caption'"), ("cells.csv", ":2: 3 cells"),
    ("deep.csv", "deep.csv:1"),
]  # fmt: skip
BAD_LABELLED = [
    ("missing.jsonl", NOT_THERE), ("nothing", "cannot be read"), ("pipe", "is a pipe"),
    ("empty.jsonl", "holds no captions"), ("captions.txt", ":1: broken JSON"),
    ("garbage.jsonl", ":1: is no text"), ("deep.jsonl", ":1: broken JSON .*recursion"),
    ("digits.jsonl", ":1: "), ("number.jsonl", ":1: expected a JSON object"),
    ("key.jsonl", ":1: unknown key 'name'"),
]  # fmt: skip
BAD_SETS = [
    ("missing", "no image manifest"), ("captions.txt", "no image manifest"),
    ("nothing", "no image manifest"), ("torn", "images.jsonl:1: broken JSON"),
    ("nested", "images.jsonl:1: broken JSON .*recursion"), ("set", "set/images.jsonl"),
]  # fmt: skip
BAD_CONFIGS = [
    ("missing.yaml", "cannot be read"), ("nothing", "cannot be read"),
    ("empty.yaml", "expected key"), ("garbage.yaml", "is no text"),
    ("config.yaml", r":1: unknown key 'sede' .*'seed'"),
    ("batch.yaml", ":1: batch_size must be a whole number"), ("head.yaml", "head"),
    ("date.yaml", "date.yaml: holds a value"), ("int.yaml", "int.yaml: holds a value"),
    ("digits.yaml", "digits.yaml: holds a value"), ("deep.yaml", "nesting|nested"),
]  # fmt: skip
BAD_MODELS = [
    ("missing", "missing"), ("captions.txt", "captions.txt"), ("nothing", "nothing"),
    ("model", "config.json"), ("nested_model", "config.json"), ("list_model", "config.json"),
]  # fmt: skip
BAD_DATA = [
    ("missing", "missing"), ("nothing", "no image|nothing"), ("captions.txt", "captions.txt"),
    ("note", "note"), ("fox", r"labels.csv:2: unknown class 'fox'"),
    ("lost", r"labels.csv:2: there is no image 'c.png'"), ("rows", "lists no image"),
    ("cell", r"labels.csv:2: 'maybe' in column 'cat'"), ("garbage.csv", "is no text"),
    ("deep.json", "nested too deeply"), ("deep.csv", "deep.csv"), ("cut.json", "broken JSON"),
    ("miniature:x", "miniature"), ("voc2007:nothing", "nothing"), ("coco2014:nothing", "nothing"),
    ("nuswide:nothing", "nothing"), ("pipe", "pipe"),
]  # fmt: skip

MADE = "--clip miniature --generator miniature"
CASES = [
    *((f"label --classes {name} --captions captions.txt --out o", said)
      for name, said in BAD_CLASSES),
    *((f"label --classes classes.yaml --captions {name} --out o", said)
      for name, said in BAD_CAPTIONS),
    ("label --classes classes.yaml --captions captions.txt --out nothing", "nothing: is a folder"),
    *((f"label --classes classes.yaml --captions captions.txt --out {out}", out[:9])
      for out in ("captions.txt/o", "/proc/o", "o" * 300)),
    *((f"generate --labelled-captions labelled.jsonl --generator miniature --out {out}", out[:9])
      for out in ("captions.txt", "captions.txt/o", "/proc/o", "o" * 300)),
    ("label --classes classes.yaml --captions captions.txt --out o --limit 0", "--limit must be"),
    ("label --classes classes.yaml --captions captions.txt --out o --limit -3", "--limit"),
    ("label --classes classes.yaml --compose 1e12 --out o", "--compose must be a whole number"),
    ("label --classes classes.yaml --compose nan --out o", "--compose must be a whole number"),
    ("label --classes classes.yaml --out o", "no captions"),
    ("label --captions captions.txt --out o", "--classes"),
    *((f"run --classes {name} --captions captions.txt {MADE} --out o",
       said) for name, said in BAD_CLASSES[:12:3]),
    *((f"run --classes classes.yaml --captions {name} {MADE} --out o",
       said) for name, said in BAD_CAPTIONS[::4]),
    *((f"run --config {name} --classes classes.yaml --captions captions.txt --out o", said)
      for name, said in BAD_CONFIGS),
    *((f"generate --labelled-captions {name} --generator miniature --out o", said)
      for name, said in BAD_LABELLED),
    ("generate --labelled-captions labelled.jsonl --out o", "--generator"),
    ("generate --labelled-captions labelled.jsonl --generator nothing --out o", "model_index.json"),
    ("generate --labelled-captions labelled.jsonl --generator garbage --out o", "model_index.json"),
    ("generate --labelled-captions labelled.jsonl --generator miniature --out o --shard 3/2",
     "shard"),
    ("generate --labelled-captions labelled.jsonl --generator miniature --steps 0 --out o",
     "--steps"),
    *((f"import {name} --classes classes.yaml --out o", said) for name, said in [
        ("missing", "missing"), ("captions.txt", "neither a folder"), ("nothing", "no image"),
        ("note", "no image"), ("photos", "without a caption")]),
    *((f"import photos --classes {name} --out o", said) for name, said in BAD_CLASSES[:8:3]),
    *((f"pack {name} --out o", said) for name, said in BAD_SETS[:5]),
    *((f"embed --images {name} --clip miniature", said) for name, said in BAD_SETS[:5]),
    *((f"train --classes classes.yaml --labelled-captions {name} --images set --clip miniature "
       "--out o", said) for name, said in BAD_LABELLED),
    *((f"train --config {name} --labelled-captions labelled.jsonl --images set --out o", said)
      for name, said in BAD_CONFIGS[::2]),
    *((f"eval {name} --data photos", said) for name, said in BAD_MODELS),
    *((f"eval good --data {name}", said) for name, said in BAD_DATA),
    *((f"predict {name} photos/a.png", said) for name, said in BAD_MODELS),
    *((f"predict good {name}", said) for name, said in [
        ("missing.png", "missing.png"), ("nothing", "nothing"), ("note", "note"),
        ("photos/*.gif", "photos/\\*.gif")]),
    ("predict good photos/a.png --top 0", "--top"),
    ("predict good photos/a.png --threshold 2", "--threshold"),
    *((f"compare {name} --data photos", "holds no run") for name in ("missing", "nothing")),
    ("benchmark", "name a setting"), ("benchmark voc2007/nothing --data photos", "nothing"),
    ("benchmark missing.yaml --data photos", "missing.yaml"),
    ("benchmark head.yaml --data photos", "head.yaml"),
    ("benchmark --rehearse voc2012", "--rehearse must be one of"),
    ("benchmark voc2007/rn50-t2i-pal", "--data"),
    ("prove --only cuda-embeds", "did you mean 'cuda-embed'"), ("prove --only", "--only"),
    ("prove --out note", "holds no proof"), ("prove --out captions.txt", "captions.txt"),
    ("prove --rehearse --out /proc/o", "/proc/o"),
    *((f"{verb.format(name)}", said) for name, said in BAD_MODELS for verb in (
        "calibrate {} --data photos", "calibrate {} --undo", "add-class {} fox", "suggest {}",
        "export {} --out o.onnx", "push {} ORG/NAME")),
    *((f"{verb} good --data {name}", said) for name, said in BAD_DATA[:8]
      for verb in ("calibrate", "suggest")),
    ("calibrate good", "either --data"), ("calibrate good --undo --data photos", "either --data"),
    ("calibrate photo --undo", "--out is missing"), ("add-class photo fox", "--out is missing"),
    ("add-class good dog --out o", "dog"),
    ("add-class good fox --images missing --out o", "missing"),
    ("add-class good fox owl --synonyms vixen --out o", "--synonyms and --images are of one"),
    ("suggest good --most 0", "--most"), ("export good --out o.txt", "does not end in .onnx"),
    ("export good --out o.onnx --images missing", "missing"),
    ("push good", "REPOSITORY"), ("data fetch voc2007", "--out"), ("data fetch voc2017", "voc2007"),
    ("data fetch nuswide", "by hand"), ("data look voc2007", "fetch"),
    ("data check missing", "missing"), ("data check nothing", "holds neither"),
    ("studio missing", "missing"), ("studio good --runs captions.txt", "is a file"),
    ("studio --port 70000", "--port"), ("studio --host 203.0.113.1", "cannot be listened on"),
    ("undo-keywords missing", "missing"), ("undo-keywords nothing", "nothing"),
    ("completion tcsh", "bash"),
    ("doctor --config missing.yaml", "missing.yaml"),
    ("doctor --classes twice.yaml --captions captions.txt", "twice.yaml:3"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "said"), CASES, ids=[command for command, _ in CASES])
def test_a_mistake_is_one_sentence(
    command: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command.split()) == 2
    error = capsys.readouterr().err
    sentence = error.removeprefix("t2ipal: ").strip()
    assert "Traceback" not in error and error.startswith("t2ipal: ")
    assert "\n" not in sentence and len(sentence) < 500
    assert re.search(said, sentence), sentence


def test_every_verb_is_tried() -> None:
    from t2ipal.cli import _VERBS

    assert {command.split()[0] for command, _ in CASES} == set(_VERBS)
