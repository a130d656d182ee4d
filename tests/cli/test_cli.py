"""The command line: verbs, output formats, and one sentence with status 2 for a mistake."""

from __future__ import annotations

import csv
import importlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from conftest import TinyRun
from t2ipal.cli import _VERBS, main
from t2ipal.cli.whole import Run
from t2ipal.datasets.read import read_labelled_images
from t2ipal.errors import options_of
from t2ipal.files.folders import find_images
from t2ipal.generation.store import read_manifest
from t2ipal.method.head_config import AdapterConfig, HeadConfig
from t2ipal.runs.config import RunConfig
from t2ipal.vocabulary import Vocabulary


def failing(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one line on stderr of a command that must end with status 2."""
    assert main([str(a) for a in arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0 and error.startswith("t2ipal: ")
    return error


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from t2ipal.cli import main; main(['--help']); "
        "print(sorted({'torch', 'numpy', 'diffusers', 'open_clip', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
    for verb in ("run", "label", "generate", "embed", "train", "eval", "compare", "predict"):
        assert f"  {verb} " in done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["doctor"]])
def test_a_reader_that_has_seen_enough_is_told_by_the_status_alone(arguments: list[str]) -> None:
    """As in ``t2ipal --help | head -1``."""
    process = subprocess.Popen(
        [sys.executable, "-m", "t2ipal", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 141


def test_the_public_names_are_there_and_an_unknown_one_is_not() -> None:
    import t2ipal

    for name in t2ipal.__all__:
        assert callable(getattr(t2ipal, name))
    with pytest.raises(AttributeError, match="no attribute 'tager'"):
        t2ipal.tager  # noqa: B018


def test_a_misspelt_command_and_option_are_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean 'predict'" in failing(capsys, "predikt")
    assert "'--clases' (did you mean '--classes'?)" in failing(
        capsys, "label", "--clases", "voc2007"
    )


VERBS = ("run", "label", "generate", "import", "pack", "embed", "train", "eval", "compare")
VERBS += ("benchmark", "predict", "undo-keywords", "doctor", "completion")


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_is_complete_and_plain(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert main([verb, "--help-all"]) == 0
    everything = capsys.readouterr().out
    assert main(["help", verb]) == 0
    shown = capsys.readouterr().out
    assert f"usage: t2ipal {verb} " in shown and "[OPTIONS]" in shown
    assert f"\nexamples:\n  t2ipal {verb}" in shown
    assert len(shown.splitlines()) <= 100 and max(map(len, everything.splitlines())) <= 100
    assert "``" not in everything and ":mod:" not in everything and "None" not in everything
    module, name, _ = _VERBS[verb]
    options = list(options_of(getattr(importlib.import_module(f"t2ipal.cli.{module}"), name)))
    assert len({option.key for option in options}) == len(options)
    for option in options:
        assert option.help, option.key
        assert f"--{option.key.replace('_', '-')}" in everything or option.key.upper() in everything


def test_an_option_means_the_same_in_every_verb() -> None:
    helps: dict[str, set[str]] = {}
    for module, name, _ in _VERBS.values():
        verb = getattr(importlib.import_module(f"t2ipal.cli.{module}"), name)
        for option in options_of(verb):
            if option.key not in verb.positional:
                helps.setdefault(option.key, set()).add(option.help)
    # What is written or rehearsed, and a default of a model or a published setting, differ.
    differ = {key for key, texts in helps.items() if len(texts) > 1}
    assert differ == {"out", "crops", "data", "captions", "batch_size", "device", "features",
                      "images", "labelled_captions", "classes", "overwrite",
                      "rehearse"}  # fmt: skip


def test_help_shows_what_people_need_and_says_where_the_rest_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["run", "--help"]) == 0
    shown = capsys.readouterr().out
    assert 25 <= shown.count("\n  --") <= 35
    assert "'t2ipal run --help-all' shows" in shown and "--head.adapter.alpha" not in shown
    assert main(["run", "--help-all"]) == 0
    everything = capsys.readouterr().out
    assert (
        "--head.adapter.alpha X" in everything and "--spread {chance,co-occurrence}" in everything
    )
    assert "--classes CLASSES" in shown and "(required)" in shown


@pytest.mark.parametrize("arguments", [["-V"], ["--version"], ["version"]])
def test_the_version(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert capsys.readouterr().out.count(".") == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("label --classes voc2007 --compose abc --out x",
         "--compose must be a whole number of at least 1, not 'abc'."),
        ("label --classes voc2007 --compose", "--compose: expected one argument; see"),
        ("label --classes voc2007 --compose 3", "--out is missing (JSONL file to write); see"),
        ("label more --classes voc2007 --compose 3 --out x", "unexpected argument 'more'; see"),
        ("run --classes voc2007 --compose 3 --out x --preset fst",
         "--preset must be one of paper, fast, sdxl-turbo, sdxl, sd3, pixart, sana, flux, not "
         "'fst' (did you mean 'fast'?)."),
        ("run --classes voc2007 --compose 3 --out x --seeds 1 1",
         "--seeds must be different numbers, 1 to 1000 of them, not (1, 1)."),
        ("run --train.seed 3", "there is no option '--train.seed'"),
        ("predict", "MODEL is missing"),
        ("predict MODEL", "IMAGES is missing (image files, folders"),
        ("predict photo.jpg MODEL", "photo.jpg is an image, not a model: the model comes first, as "
         "in 't2ipal predict MODEL photo.jpg'."),
        ("predict MODEL photo.jpg --device xpu",
         "--device must be one of auto, cpu, cuda, cuda:N, mps, not 'xpu' (did you mean 'cpu'?)."),
        ("eval MODEL", "--data is missing (labelled test images); see 't2ipal eval --help'."),
    ],
)  # fmt: skip
def test_a_mistake_gets_one_clear_sentence(
    arguments: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failing(capsys, *arguments.split()).startswith(f"t2ipal: {sentence}")


def test_an_option_that_is_empty_is_not_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (["pack", "x", "--out", ""], ["pack", "", "--out", "x"], ["eval", "m", "--data="]):
        assert main(words) == 2
        assert " is empty (" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_options_win_over_the_file_and_what_they_replace(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    RunConfig(
        classes="voc2007", captions="a.txt", preset="paper", data="x.json", data_folder="images",
        seeds=(4, 5), head=HeadConfig(adapter=AdapterConfig(alpha=0.5, beta=2.0)),
    ).with_preset().write(file)  # fmt: skip
    options = ["--config", str(file), "--out", "x", "--head.adapter.beta", "3"]
    kept = Run.parse(options)
    assert (kept.captions, kept.steps, kept.seeds) == ("a.txt", 50, (4, 5))
    assert (kept.head.adapter.alpha, kept.head.adapter.beta) == (0.5, 3.0)
    options += ["--compose", "5", "--preset", "fast", "--data", "photos", "--seeds", "7"]
    changed = Run.parse([*options, "--no-ablations"])
    assert (changed.captions, changed.compose, changed.data_folder) == (None, 5, None)
    assert changed.with_preset().generator == "stabilityai/sd-turbo" and changed.seeds == (7,)
    assert changed.with_preset().steps == 2 and not changed.ablations


def test_a_preset_keeps_the_generator_that_is_given() -> None:
    options = ["--classes", "voc2007", "--compose", "3", "--out", "x", "--preset", "fast"]
    made = Run.parse([*options, "--generator", "miniature"]).with_preset()
    assert (made.generator, made.steps, made.height) == ("miniature", 2, 512)


def test_label_writes_rows_and_a_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    captions = tmp_path / "captions.txt"
    captions.write_text("Two dogs chase a boy.\nan empty street\n")
    out = tmp_path / "out.jsonl"
    arguments = ["label", "--classes", "voc2007", "--captions", str(captions), "--out", str(out)]
    assert main(arguments) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [list(row) for row in rows] == [["id", "caption", "labels", "unknown", "matches"]] * 2
    assert rows[0]["labels"] == ["dog", "person"]
    assert rows[0]["matches"] == {"dog": "dogs", "person": "boy"}
    assert rows[1]["labels"] == []
    assert "dog" in capsys.readouterr().out


def test_label_keeps_so_many_captions_a_class(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    captions = tmp_path / "captions.txt"
    captions.write_text("A dog.\n" * 5 + "A cat and a dog.\n" * 4 + "nothing\n")
    out = tmp_path / "out.jsonl"
    common = ["label", "--classes", "voc2007", "--captions", str(captions), "--out", str(out)]
    assert main([*common, "--per-class", "2"]) == 0
    labels = [json.loads(line)["labels"] for line in out.read_text().splitlines()]
    assert labels == [["dog"]] * 2 + [["cat", "dog"]] * 2
    assert "--per-class must be a whole number of at least 1, not 0." in failing(
        capsys, *common, "--per-class", "0"
    )


def test_bad_input_to_label(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.jsonl"
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"caption": "a dog"}\n{"caption": \n')
    good = tmp_path / "good.txt"
    good.write_text("a dog\n")
    for arguments, part in (
        (("--classes", "voc2008", "--captions", good), "voc2007"),
        (("--classes", "voc2007", "--captions", empty), str(empty)),
        (("--classes", "voc2007", "--captions", broken), f"{broken}:2"),
        (("--classes", "voc2007", "--captions", tmp_path / "none.txt"), "none.txt"),
        (("--classes", "voc2007"), "no captions"),
        (("--classes", "voc2007", "--captions", good, "--compose", "3"), "exclude"),
    ):
        assert part in failing(capsys, "label", *arguments, "--out", out)
        assert not out.exists()


def test_predict_prints_tables_lines_and_csv(
    tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = read_manifest(tiny_run.folder)[:3]
    files = [str(tiny_run.folder / row.file) for row in rows]
    model = str(tiny_run.folder / "model")
    assert main(["predict", model, *files, "--top", "2"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 3 and all(line.count(", ") == 1 for line in table)
    assert main(["predict", model, *files, "--format", "jsonl", "--top", "2"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["image"] for line in lines] == files
    for line in lines:
        best = sorted(line["scores"].values(), reverse=True)[:2]
        assert [line["scores"][tag] for tag in line["tags"]] == best
    assert main(["predict", model, *files, "--format", "csv", "--top", "2"]) == 0
    table_rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    for line, row in zip(lines, table_rows, strict=True):
        assert row["labels"].split("|") == line["tags"]
        assert float(row["dog"]) == line["scores"]["dog"]


def test_predict_writes_a_file_and_tags_only_what_is_new(
    tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(tiny_run.folder / row.file) for row in read_manifest(tiny_run.folder)[:3]]
    model, out = str(tiny_run.folder / "model"), str(tmp_path / "tags.csv")
    verb = ["predict", model, "--out", out, "--classes", "Dog", "city bus"]
    assert main([*verb[:2], *files[1:], *verb[2:]]) == 0
    assert main([*verb[:2], *files, *verb[2:]]) == 0
    assert "2 of 3 images are there" in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "tags.csv").open()))
    assert [row["image"] for row in rows] == files
    assert list(rows[0]) == ["image", "labels", "dog", "bus"]
    assert main([*verb[:2], *files, *verb[2:]]) == 0
    assert f"{out}: 3 images, done before" in capsys.readouterr().out
    twice = ["predict", model, *files, "--format", "csv", "--classes", "dog", "Dog"]
    assert main(twice) == 0
    assert capsys.readouterr().out.splitlines()[0] == "image,labels,dog"
    assert "made with another threshold" in failing(
        capsys, "predict", model, *files, *verb[2:], "--threshold", "0.5"
    )


def test_thresholds_of_predict_are_one_number_or_a_file(
    tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verb = ["predict", str(tiny_run.folder / "model")]
    verb.append(str(tiny_run.folder / read_manifest(tiny_run.folder)[0].file))
    assert main([*verb, "--threshold", "0", "--scores"]) == 0
    assert capsys.readouterr().out.count("*") == 6
    limits = tmp_path / "limits.yaml"
    limits.write_text("{dog: 0, city bus: 1, cat: 1, person: 1, car: 1, boat: 1}")
    assert main([*verb, "--threshold", str(limits)]) == 0
    assert capsys.readouterr().out.split("  ")[1].startswith("dog 0.")
    for bad, message in (
        ("{dgo: 0.5}", "no class 'dgo'"),
        ("{dog: high}", "dog: a threshold is a number from 0 to 1, not 'high'"),
    ):
        limits.write_text(bad)
        assert message in failing(capsys, *verb, "--threshold", limits)
    assert "neither auto, nor a number, nor a file" in failing(capsys, *verb, "--threshold", "hi")
    assert "ends neither in .csv" in failing(capsys, *verb, "--out", tmp_path / "tags.txt")
    assert "is an address" in failing(capsys, *verb[:2], "https://example.org/a.jpg")


def test_predict_adds_keywords_and_exports(
    tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, row in enumerate(read_manifest(tiny_run.folder)[:2]):
        shutil.copy(tiny_run.folder / row.file, photos / f"{number}.png")
    (photos / "0.txt").write_text("a caption, and its end.\nanother\n")
    verb = ["predict", str(tiny_run.folder / "model"), str(photos), "--threshold", "0"]
    verb += ["--classes", "bus"]
    assert main([*verb, "--write-keywords", "xmp", "--dry-run"]) == 0
    assert "0.png.xmp: would add city bus" in capsys.readouterr().out
    assert len(list(photos.iterdir())) == 3
    assert main([*verb, "--write-keywords", "txt"]) == 1
    assert "0.txt: is no line of keywords" in capsys.readouterr().err
    assert (photos / "1.txt").read_text() == "city bus\n"
    assert main(["undo-keywords", str(photos)]) == 0
    assert sorted(path.name for path in photos.iterdir()) == ["0.png", "0.txt", "1.png"]
    assert "no keywords were added" in failing(capsys, "undo-keywords", photos)
    out = tmp_path / "tags.jsonl"
    for kind in ("coco", "cvat"):  # the second time nothing is tagged
        assert main([*verb, "--out", str(out), "--export", kind]) == 0
    assert "done before" in capsys.readouterr().out and (tmp_path / "tags.cvat.xml").exists()
    for options, message in (
        (["--export", "coco"], "--export needs --out FILE.jsonl"),
        (["--embed"], "need --write-keywords"),
        (["--write-keywords", "txt", "--embed"], "photos hold no txt"),
        (["--write-keywords", "iptc"], "no sidecars of IPTC"),
    ):
        assert message in failing(capsys, *verb, *options)


def test_predict_goes_on_after_an_unreadable_image_and_writes_heatmaps(
    tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos" / "deep"
    folder.mkdir(parents=True)
    rows = read_manifest(tiny_run.folder)[:2]
    for name, row in zip(("a.png", "c.png"), rows, strict=True):
        shutil.copy(tiny_run.folder / row.file, folder / name)
    (folder / "b.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("not looked at")
    heat = tmp_path / "heat"
    model = str(tiny_run.folder / "model")
    photos = str(tmp_path / "photos")
    assert main(["predict", model, photos, "--top", "1", "--heatmaps", str(heat)]) == 1
    streams = capsys.readouterr()
    assert [Path(line.split("  ")[0]).name for line in streams.out.splitlines()] == [
        "a.png",
        "c.png",
    ]
    assert "b.png" in streams.err and "1 of 3 images" in streams.err
    found = sorted(path.relative_to(heat).as_posix().split("-")[0] for path in heat.rglob("*.png"))
    assert found == ["deep/a.png", "deep/c.png"]


def test_pictures_that_are_too_large_name_the_option(
    tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verb = ["predict", str(tiny_run.folder / "model"), str(tmp_path / "a.png")]
    Image.new("RGB", (2000, 1000)).save(tmp_path / "a.png")
    assert main([*verb, "--max-megapixels", "1.5"]) == 1
    assert "more than 1.5 megapixels" in (said := capsys.readouterr().err)
    assert "--max-megapixels" in said
    assert main(verb) == 0


ODD_NAMES = (
    b"caf\xe9.png",
    b"a\nb.png",
    b'-"%s, [x];\t.png',
    b"\x1b[31m.png",
    b"n" * 251 + b".png",
)


def test_files_of_any_name_are_predicted_and_what_is_printed_is_read_back(
    tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, model = tmp_path / "photos", str(tiny_run.folder / "model")
    photos.mkdir()
    for name, row in zip(ODD_NAMES, read_manifest(tiny_run.folder), strict=False):
        shutil.copy(tiny_run.folder / row.file, os.path.join(os.fsencode(photos), name))
    heat = tmp_path / "heat"
    files = list(find_images([photos]))
    assert main(["predict", model, *map(str, files), "--top", "1"]) == 0
    alone = capsys.readouterr().out
    assert main(["predict", model, str(photos), "--top", "1", "--heatmaps", str(heat)]) == 0
    table = capsys.readouterr().out
    table.encode()
    assert table.count("caf\\xe9.png") == alone.count("caf\\xe9.png") == 1
    assert len(table.splitlines()) == len(ODD_NAMES)
    assert "\x1b" not in table and len(list(heat.iterdir())) == len(ODD_NAMES)
    vocabulary = Vocabulary.load(tiny_run.folder / "vocabulary.yaml")
    for kind in ("csv", "jsonl"):
        assert main(["predict", model, str(photos), "--format", kind, "--top", "1"]) == 0
        (tmp_path / f"tags.{kind}").write_text(capsys.readouterr().out, encoding="utf-8")
        read = read_labelled_images(tmp_path / f"tags.{kind}", vocabulary)
        assert list(read.files) == files and (read.targets.sum(axis=1) == 1).all()


def test_bad_input_to_predict_and_eval(
    tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_run.folder / "model"
    image = tiny_run.folder / read_manifest(tiny_run.folder)[0].file
    assert "no such file" in failing(capsys, "predict", model, tmp_path / "none.png")
    assert "no such folder" in failing(capsys, "predict", tmp_path / "none", image)
    (tmp_path / "empty").mkdir()
    assert "no saved tagger" in failing(capsys, "predict", tmp_path / "empty", image)
    assert "no image among" in failing(capsys, "predict", model, tmp_path / "empty")
    cut = tmp_path / "cut"
    shutil.copytree(model, cut)
    (cut / "model.safetensors").unlink()
    assert "holds no model.safetensors" in failing(capsys, "predict", cut, image)
    (cut / "model.safetensors").write_bytes(b"x" * 40)
    assert "damaged" in failing(capsys, "predict", cut, image)
    (cut / "config.json").write_text("{")
    assert "config.json:1: broken JSON" in failing(capsys, "predict", cut, image)
    labels = tmp_path / "data"
    labels.mkdir()
    (labels / "labels.csv").write_text("image,labels\nmissing.jpg,dog\n")
    assert "labels.csv:2" in failing(capsys, "eval", model, "--data", labels)
    shutil.copy(image, labels / "a.png")
    (labels / "labels.csv").write_text("image,labels\na.png,dgo\n")
    assert "did you mean 'dog'" in failing(capsys, "eval", model, "--data", labels)


def test_eval_prints_and_writes_the_figures(
    tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "eval.json"
    cache = tiny_run.folder / "scenes"
    arguments = ["eval", tiny_run.folder / "model", "--data", "miniature:24", "--features", cache]
    assert main([str(a) for a in [*arguments, "--out", out]]) == 0
    assert "mAP" in capsys.readouterr().out
    figures = json.loads(out.read_text())
    assert figures["images"] == 24 and figures["interval"][0] <= figures["mAP"]
    assert figures["calibration_error"] is not None and len(figures["classes"]) == 6


def test_eval_leaves_broken_images_out_on_demand(
    tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    scenes = next((tiny_run.folder / "scenes").glob("miniature-test-24-*"))
    shutil.copytree(scenes, photos)
    names = [line.split(",")[0] for line in (photos / "labels.csv").read_text().splitlines()[1:]]
    for name in names[:5]:
        (photos / name).unlink()
    (photos / names[5]).write_bytes(b"no image")
    out, cache = tmp_path / "eval.json", tmp_path / "cache"
    verb = ["eval", tiny_run.folder / "model", "--data", photos, "--features", cache, "--out", out]
    assert "--skip-broken" in failing(capsys, *verb) and not out.exists()
    assert main([str(a) for a in [*verb, "--skip-broken"]]) == 0
    said = capsys.readouterr().out
    assert f"read 18 images from {photos}; 6 more cannot be read and are left out" in said
    assert "18 images; 6 could not be read" in said
    figures = json.loads(out.read_text())
    assert (figures["images"], figures["skipped"]) == (18, 6)
    listed = [json.loads(line) for line in (cache / "broken.jsonl").read_text().splitlines()]
    assert [Path(row["file"]).name for row in listed] == names[:6]


def test_compare_needs_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "holds no run" in failing(capsys, "compare", tmp_path)


def test_run_wants_classes_and_refuses_a_bad_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert "--classes is missing (voc2007, coco2014," in failing(capsys, "run", "--out", out)
    config = tmp_path / "config.yaml"
    config.write_text("generater: x\n")
    message = failing(capsys, "run", "--config", config, "--out", out)
    assert f"{config}:1: unknown key 'generater' (did you mean 'generator'?)" in message
    flags = ["--classes", "voc2007", "--compose", "3", "--head.adapter.beta", "-1"]
    assert failing(capsys, "run", *flags, "--out", out) == (
        "t2ipal: --head.adapter.beta must be a number above 0, not -1.0."
    )
    assert not out.exists()


def test_files_folders_and_patterns_are_found_in_order(tmp_path: Path) -> None:
    for name in ("b/2.JPG", "b/1.png", "a/x.webp", "a/x.txt", "odd.data"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    found = find_images((str(tmp_path), str(tmp_path / "odd.data"), str(tmp_path / "b" / "*.png")))
    names = [str(path.relative_to(tmp_path)) for path in found]
    assert names == ["a/x.webp", "b/1.png", "b/2.JPG", "odd.data"]  # each once


def without_torch(*arguments: str) -> list[str]:
    """What a command that succeeds prints, in a process of its own that never loads torch."""
    code = (
        "import sys; from t2ipal.cli import main; "
        "status = main(sys.argv[1:]); print(sorted({'torch', 'diffusers'} & set(sys.modules))); "
        "raise SystemExit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *lines, loaded = done.stdout.splitlines()
    assert loaded == "[]"
    return lines


def test_a_finished_generate_is_recognised_without_loading_torch(tiny_run: TinyRun) -> None:
    """A second start of a large run must not take longer than reading its manifest."""
    drawn, config = tiny_run.folder, tiny_run.config
    command = [
        "generate",
        "--labelled-captions",
        str(drawn / "captions.jsonl"),
        "--out",
        str(drawn),
    ]
    lines = without_torch(*command, "--generator", config.generator, "--steps", "1")
    assert lines[0].startswith("nothing to generate")


def test_label_does_not_load_torch(tmp_path: Path) -> None:
    (tmp_path / "captions.txt").write_text("a dog and a boat\n")
    out = tmp_path / "captions.jsonl"
    lines = without_torch(
        *("label", "--classes", "voc2007", "--captions", str(tmp_path / "captions.txt")),
        *("--out", str(out)),
    )
    assert lines[-1] == f"wrote {out}" and '"labels": ["boat", "dog"]' in out.read_text()
