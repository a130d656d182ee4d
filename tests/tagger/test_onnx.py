"""An exported tagger says what the one in PyTorch says, and nothing of PyTorch is needed for it."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image

from conftest import TinyRun
from t2ipal.cli import main
from t2ipal.clip.backbone import Backbone
from t2ipal.clip.clip_settings import ClipSettings
from t2ipal.clip.preprocessing import Preprocessing
from t2ipal.errors import UserError
from t2ipal.method.checkpoint import restore_head
from t2ipal.method.head_config import (
    AdapterConfig,
    FusionConfig,
    HeadConfig,
    PromptConfig,
    PrototypeConfig,
)
from t2ipal.tagger import model_digest, saved_vocabulary
from t2ipal.tagger.clip_model import ClipModel
from t2ipal.tagger.export import TOLERANCE, export_onnx
from t2ipal.tagger.onnx_model import INPUT, OUTPUTS, OnnxModel, _Preparation, onnx_metadata
from t2ipal.tagger.scoring import evaluate
from t2ipal.tagger.tagger import Tagger
from t2ipal.tagger.thresholds import Thresholds
from t2ipal.vocabulary import Vocabulary
from tiny_clip import WIDTH, build_tiny_clip


def pictures(count: int, seed: int = 0) -> list[Image.Image]:
    """Noise of many sizes and shapes, upscaled so that it has some large parts."""
    numbers = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        small = numbers.integers(0, 256, (6, 6, 3), np.uint8)
        size = (int(numbers.integers(20, 200)), int(numbers.integers(20, 200)))
        found.append(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))
    return found


@pytest.fixture(scope="module")
def exported(tiny_run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of the tiny run, exported by the command."""
    path = tmp_path_factory.mktemp("onnx") / "tagger.onnx"
    assert main(["export", str(tiny_run.folder / "model"), "--out", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def with_crops(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tagger, Path]:
    """A ResNet with every part of the head, scored on crops too, and its file."""
    base = tmp_path_factory.mktemp("crops")
    names = ("dog", "cat", "bus", "car", "boat")
    head = HeadConfig(
        prompts=PromptConfig(kind="fixed"),
        prototypes=PrototypeConfig(enabled=True, per_class=2, aggregation="smooth-max"),
        adapter=AdapterConfig(kind="cache", alpha=0.5),
        fusion=FusionConfig(kind="standardised", min_classes=2),
    )
    made = torch.Generator().manual_seed(5)

    def unit(*shape: int) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.randn(shape, generator=made), dim=-1)

    count = len(names)
    state = {
        "class_embeddings.global": unit(count, WIDTH),
        "class_embeddings.local": unit(count, WIDTH),
        "prototypes.vectors": unit(count, 2, WIDTH),
        "adapter.keys": unit(7, WIDTH),
        "adapter.values": torch.rand(7, count, generator=made),
    }
    folder = build_tiny_clip(base / "clip", "resnet")
    backbone = Backbone.load(ClipSettings(clip=str(folder), device="cpu", resize_mode="longest"))
    model = ClipModel(backbone, restore_head(head, names, state), crops=2)
    (base / "classes.txt").write_text("\n".join(names))
    thresholds = Thresholds(
        names, (0.5, 0.4, 0.6, 0.5, 0.3), (3.0,) * count, (0.1,) * count, (False,) * count
    )
    tagger = Tagger(model, Vocabulary.load(base / "classes.txt"), thresholds)
    export_onnx(tagger, base / "tagger.onnx", pictures(12), source="noise")
    return tagger, base / "tagger.onnx"


@pytest.mark.parametrize("batch_size", [1, 5])
@pytest.mark.parametrize("crops", [False, True])
def test_it_says_what_pytorch_says(
    tiny_run: TinyRun,
    exported: Path,
    with_crops: tuple[Tagger, Path],
    crops: bool,
    batch_size: int,
) -> None:
    tagger, path = with_crops if crops else (None, exported)
    tagger = tagger or Tagger.from_pretrained(tiny_run.folder / "model", device="cpu")
    other = Tagger.from_pretrained(path)
    assert isinstance(other.model, OnnxModel) and other.model.crops == (2 if crops else 0)
    assert other.names == tagger.names and other.thresholds == tagger.thresholds
    images = pictures(11, seed=3)
    ours = tagger.predict(images, heatmaps=True, batch_size=4)
    theirs = other.predict(images, heatmaps=True, batch_size=batch_size)
    for one, two in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(two.probabilities, one.probabilities, atol=TOLERANCE)
        np.testing.assert_allclose(two.heatmaps, one.heatmaps, atol=TOLERANCE)
        assert two.tags == one.tags and two.box == one.box
    assert len({found.probabilities.round(3).tobytes() for found in theirs}) > 5


def test_its_graph_alone_gives_probabilities_and_tags(exported: Path) -> None:
    tagger = Tagger.from_pretrained(exported)
    pixels = np.stack([tagger.views(image) for image in pictures(3)])
    model = tagger.model
    assert isinstance(model, OnnxModel)
    found = dict(zip(OUTPUTS, model.session.run(None, {INPUT: pixels}), strict=True))
    probabilities = tagger.thresholds.probabilities(found["scores"])
    np.testing.assert_allclose(found["probabilities"], probabilities, atol=1e-6)
    assert (found["tags"] == tagger.thresholds.decide(found["scores"])).all()
    np.testing.assert_allclose(found["heatmaps"].sum(axis=(1, 2)), 1, atol=1e-5)


def test_openvino_runs_it_too(exported: Path) -> None:
    openvino = pytest.importorskip("openvino")
    tagger = Tagger.from_pretrained(exported)
    pixels = np.stack([tagger.views(image) for image in pictures(3)])
    model = openvino.Core().compile_model(exported, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = model(pixels)
    expected = tagger.predict(pictures(3), heatmaps=True)
    for name, values in (
        ("probabilities", [tags.probabilities for tags in expected]),
        ("heatmaps", [tags.heatmaps for tags in expected]),
    ):
        np.testing.assert_allclose(found[name], np.stack(values), atol=TOLERANCE)
    names = np.array(tagger.names)
    assert [names[row].tolist() for row in found["tags"]] == [
        [name for name in tagger.names if name in tags.tags] for tags in expected
    ]


def test_the_file_describes_itself_and_no_machine(exported: Path, tiny_run: TinyRun) -> None:
    metadata = onnx_metadata(exported)
    assert metadata == {one.key: one.value for one in onnx.load(exported).metadata_props}
    config = json.loads(metadata["config"])
    assert config["about"]["onnx"].startswith("fp32, images generated for its run; compared with")
    assert config["preprocessing"]["resize_mode"] == "squash"
    assert "| ONNX | fp32" in metadata["card"] and "This ONNX file holds all" in metadata["card"]
    data = exported.read_bytes()
    for path in (sys.prefix, str(Path(__file__).parents[2]), "site-packages"):
        assert path.encode() not in data
    assert saved_vocabulary(exported) == saved_vocabulary(tiny_run.folder / "model")
    assert len(model_digest(exported)) == 64 != model_digest(tiny_run.folder / "model")


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(
    ("resize_mode", "shortest_edge"),
    [("shortest", None), ("shortest", 37), ("squash", None), ("longest", None)],
)
def test_images_are_prepared_as_for_pytorch_bit_for_bit(
    resize_mode: str, shortest_edge: int | None, interpolation: str
) -> None:
    described = {
        "size": (33, 33),
        "mean": (0.48145466, 0.4578275, 0.40821073),
        "std": (0.26862954, 0.26130258, 0.27577711),
        "interpolation": interpolation,
        "resize_mode": resize_mode,
        "fill_color": 7,
    }
    if shortest_edge is not None:
        described["shortest_edge"] = shortest_edge
    theirs = Preprocessing.of(described, None, None)
    assert theirs.described is not None
    values = theirs.described | {"size": 33}
    del values["mode"]
    ours = _Preparation(**values)
    chance = random.Random(1)
    sizes = [(33, 33), (33, 34), (1, 90), (90, 1), (32, 66)]
    sizes += [(chance.randint(1, 150), chance.randint(1, 150)) for _ in range(40)]
    noise = np.random.default_rng(2)
    for width, height in sizes:
        image = Image.fromarray(noise.integers(0, 256, (height, width, 3), np.uint8))
        if resize_mode == "longest" and max(width, height) > 60 * min(width, height):
            continue  # a side of no pixel, which open_clip's fails on; such images are refused
        np.testing.assert_array_equal(
            ours(image), theirs.transform(image).numpy(), f"{width} x {height}"
        )


def test_int8_is_smaller_and_says_what_it_loses(
    tiny_run: TinyRun, exported: Path, tmp_path: Path
) -> None:
    tagger = Tagger.from_pretrained(tiny_run.folder / "model", device="cpu")
    path = tmp_path / "small.onnx"
    found = export_onnx(tagger, path, pictures(24), source="noise", int8=True)
    assert path.stat().st_size < 0.6 * exported.stat().st_size
    assert 0 < found.mean < 0.1 and found.images == 12
    made = Tagger.from_pretrained(path).about["onnx"]
    assert made == f"int8, ranges from 12 of noise; compared with PyTorch: {found}"


def test_what_it_cannot_do_is_told(exported: Path, tiny_run: TinyRun) -> None:
    for asked, words in (
        ({"crops": 3}, "was exported with --crops 0; export the model once more with --crops 3"),
        ({"image_size": 32}, "exported with --image-size 64"),
        ({"device": "cuda"}, "computes on the CPU"),
        ({"precision": "bf16"}, "leave out --precision bf16"),
    ):
        with pytest.raises(UserError, match=words):
            Tagger.from_pretrained(exported, **asked)  # type: ignore[arg-type]
    tagger = Tagger.from_pretrained(exported, resize_mode="shortest", crops=0, image_size=64)
    assert tagger.seen((200, 100)) == (50, 0, 150, 100)
    with pytest.raises(UserError, match="load the folder it was exported from"):
        _ = tagger.clip
    with pytest.raises(UserError, match="are too few"):
        export_onnx(Tagger.from_pretrained(tiny_run.folder / "model"), "a.onnx", [], source="")
    assert main(["export", str(exported), "--out", "a.onnx"]) == 2
    assert main(["export", str(tiny_run.folder / "model"), "--out", "a.bin"]) == 2


def test_files_that_are_no_tagger_are_refused_in_a_sentence(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = exported.read_bytes()
    half = len(data) // 2
    (tmp_path / "cut.onnx").write_bytes(data[:half])
    (tmp_path / "flipped.onnx").write_bytes(
        data[:half] + bytes([data[half] ^ 1]) + data[half + 1 :]
    )
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "noise.onnx").write_bytes(random.Random(0).randbytes(5000))
    (tmp_path / "model.bin").write_bytes(b"GGUF" + bytes(50))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "g", [x], [x])
    onnx.save(helper.make_model(graph), tmp_path / "foreign.onnx")
    picture = tmp_path / "a.png"
    pictures(1)[0].save(picture)
    for name, words in {
        "cut.onnx": "is no ONNX file, or is cut off",
        "flipped.onnx": "is damaged: it is not as it was exported",
        "empty.onnx": "holds no tagger",
        "noise.onnx": "is no ONNX file",
        "model.bin": "is no ONNX file",
        "foreign.onnx": "holds no tagger",
        "missing.onnx": "no such folder or file",
    }.items():
        assert main(["predict", str(tmp_path / name), str(picture)]) == 2
        said = capsys.readouterr().err
        assert f"t2ipal: {tmp_path / name}: " in said and words in said and said.count("\n") == 1


def test_a_graph_that_is_not_what_its_configuration_says_is_refused(
    exported: Path, tmp_path: Path
) -> None:
    def changed(**values: object) -> Path:
        model = onnx.load(exported)
        for one in model.metadata_props:
            if one.key == "config":
                one.value = json.dumps(json.loads(one.value) | values)
        path = tmp_path / "changed.onnx"
        onnx.save(model, path)
        return path

    seen = json.loads(onnx_metadata(exported)["config"])["preprocessing"]
    for values, words in (
        ({"crops": 3}, "says 10 views"),
        ({"crops": "many"}, "crops|malformed"),
        ({"preprocessing": seen | {"size": 32}}, "of 32 pixels"),
        ({"preprocessing": seen | {"size": 10**9}}, "'size' must be"),
        ({"preprocessing": seen | {"std": [0, 1, 1]}}, "must be"),
        ({"preprocessing": seen | {"std": [1e-320, 1, 1]}}, "must be"),
        ({"preprocessing": seen | {"mean": [1e308, 1, 1]}}, "must be"),
        ({"preprocessing": seen | {"code": "x"}}, "unknown key 'code'"),
        ({"preprocessing": None}, "malformed"),
        ({"format": 1}, "is no tagger of format"),
    ):
        with pytest.raises(UserError, match=words):
            Tagger.from_pretrained(changed(**values))


def test_scores_that_are_no_numbers_are_an_error(
    exported: Path, tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (exported, tiny_run.folder / "model"):
        tagger = Tagger.from_pretrained(path, device="cpu")
        size = tagger.model.image_size
        seen = np.full((3, size, size), np.nan, np.float32)
        monkeypatch.setattr(tagger.model, "preprocess", lambda image, seen=seen: seen)
        with pytest.raises(UserError, match="its scores are no finite numbers"):
            tagger.predict(pictures(1))
    tagger = Tagger.from_pretrained(tiny_run.folder / "model", device="cpu")
    nothing = torch.full((30, len(tagger.names)), torch.nan)
    monkeypatch.setattr(tagger.clip.head, "score_items", lambda items: nothing)
    with pytest.raises(UserError, match="its scores are no finite numbers"):
        evaluate(tagger, "miniature:30", cache=tmp_path, progress=False)


def test_it_is_evaluated_as_the_folder_is(
    exported: Path, tiny_run: TinyRun, tmp_path: Path
) -> None:
    ours = evaluate(tiny_run.folder / "model", "miniature:30", cache=tmp_path, progress=False)
    theirs = evaluate(exported, "miniature:30", cache=tmp_path, progress=False)
    assert theirs.to_json()["mAP"] == pytest.approx(ours.to_json()["mAP"], abs=1e-3)
    assert theirs.to_json()["images"] == ours.to_json()["images"] == 30


HEAVY = ("torch", "open_clip", "torchvision", "timm", "transformers", "scipy", "sklearn", "pandas")


def without_them(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in which none of these packages is installed."""
    blocked = f"import sys; sys.modules.update(dict.fromkeys({HEAVY}))\n"
    command = [sys.executable, "-c", blocked + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


CALL = "from t2ipal.cli import main; status = main(sys.argv[1:])\n"


def test_it_tags_where_pytorch_is_not_installed(exported: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for picture, file in zip(pictures(3), files, strict=True):
        picture.save(file)
    count = "print(len(sys.modules), 'tqdm.auto' in sys.modules); sys.exit(status)"
    done = without_them(CALL + count, "predict", str(exported), *map(str, files), "--scores")
    assert done.returncode == 0, done.stderr
    *lines, modules = done.stdout.splitlines()
    tagger = Tagger.from_pretrained(exported)
    for file, line in zip(files, lines, strict=True):
        assert line.startswith(str(file)) and f"dog{'*' * ('dog' in tagger.tags(file))} " in line
    assert int(modules.split()[0]) < 700, "an import that tagging does not need"
    done = without_them(
        "from t2ipal import Tagger; print(Tagger.from_pretrained(sys.argv[1]).tags(sys.argv[2]))",
        str(exported),
        str(files[0]),
    )
    assert done.stdout == f"{tagger.tags(files[0])}\n", done.stderr
    labels = tmp_path / "labels.csv"
    labels.write_text("image,labels\n0.png,dog\n1.png,cat\n2.png,dog|cat\n")
    done = without_them(CALL + "sys.exit(status)", "eval", str(exported), "--data", str(tmp_path))
    assert done.returncode == 0 and "mAP" in done.stdout, done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "photo", "examples/photos/cat.jpg"],
        ["doctor"],
        ["export", "photo", "--out", "x.onnx"],
    ],
)
def test_what_needs_pytorch_says_so(words: list[str]) -> None:
    done = without_them(CALL + "sys.exit(status)", *words)
    assert done.returncode == 2, done.stderr
    assert done.stderr == (
        "t2ipal: torch is not installed, which this needs; in a clone of t2ipal run: "
        "pip install '.[torch]'\n"
    )
