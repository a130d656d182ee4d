"""Data sets of Hugging Face's library: saved by it, as parquet files, with other columns."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from t2ipal.cli import main
from t2ipal.errors import UserError
from t2ipal.files import write_jsonl
from t2ipal.generation.samples import read_samples
from t2ipal.generation.store import read_manifest

datasets = pytest.importorskip("datasets")
TEXTS = ["two dogs", "a red sky", "a cat on an orange sofa"]


def picture(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def table(image: str = "image", caption: str = "text", texts: Any = TEXTS, **more: Any) -> Any:
    columns = {image: [picture(n) for n in range(3)], caption: texts, **more}
    return datasets.Dataset.from_dict(columns).cast_column(image, datasets.Image())


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def save(path: Path, form: str) -> str:
    if form == "disk":
        table().save_to_disk(str(path))
    elif form == "imagefolder":
        path.mkdir()
        for number in range(3):
            picture(number).save(path / f"{number}.png")
        rows = [{"file_name": f"{n}.png", "text": text} for n, text in enumerate(TEXTS)]
        write_jsonl(path / "metadata.jsonl", rows)
    elif form == "webdataset":
        path.mkdir()
        with tarfile.open(path / "000.tar", "w") as tar:
            for number, text in enumerate(TEXTS):
                encoded = io.BytesIO()
                picture(number).save(encoded, format="PNG")
                for suffix, data in (("png", encoded.getvalue()), ("txt", text.encode())):
                    member = tarfile.TarInfo(f"{number}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    elif form == "splits":
        datasets.DatasetDict(train=table(), test=table().select([0])).save_to_disk(str(path))
    else:
        path.mkdir()
        table().to_parquet(str(path / "train-00000-of-00001.parquet"))
    return f"hf:{path}"


@pytest.mark.parametrize("form", ["disk", "splits", "parquet", "imagefolder", "webdataset"])
def test_images_and_captions_come_out_in_order(tmp_path: Path, form: str) -> None:
    samples = list(read_samples(save(tmp_path / "data", form)))
    assert [sample.caption for sample in samples] == TEXTS
    for seed, sample in enumerate(samples):
        assert np.array_equal(np.asarray(sample.image()), np.asarray(picture(seed)))
    copies = [path for path in (tmp_path / "cache").rglob("*.arrow") if path.stat().st_size]
    assert not copies, "a folder is read where it lies"


def test_splits_and_columns_are_chosen(tmp_path: Path) -> None:
    spec = save(tmp_path / "data", "splits")
    assert len(list(read_samples(f"{spec}?split=test"))) == 1
    table("jpg", "sentence").save_to_disk(str(tmp_path / "odd"))
    (first, *_) = read_samples(f"hf:{tmp_path / 'odd'}?image=jpg&caption=sentence")
    assert (first.key, first.caption) == ("000000000", "two dogs")


def test_import_takes_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec, out = save(tmp_path / "data", "disk"), tmp_path / "out"
    assert main(["import", spec, "--classes", "voc2007", "--out", str(out)]) == 0
    assert "2 images are in" in capsys.readouterr().out
    assert [row.labels for row in read_manifest(out)] == [("dog",), ("cat", "sofa")]


def test_bad_data_sets_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def complaint(spec: str) -> str:
        with pytest.raises(UserError) as caught:
            list(read_samples(spec))
        return str(caught.value)

    spec = save(tmp_path / "data", "splits")
    assert "choose a split with ?split=...: train, test" in complaint(f"{spec}?split=val")
    assert "unknown option 'spilt' (did you mean" in complaint(f"{spec}?spilt=test")
    assert "no caption column 'txt'" in complaint(f"{spec}?caption=txt")
    assert "there are: image." in complaint(f"{spec}?image=text")
    table(caption="sentence").save_to_disk(str(tmp_path / "a"))
    assert "name the caption column" in complaint(f"hf:{tmp_path / 'a'}")
    table(texts=[["a dog", "two dogs"]] * 3).save_to_disk(str(tmp_path / "b"))
    assert "row 0: text is list, not one text" in complaint(f"hf:{tmp_path / 'b'}")
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "a.txt").write_text("a dog")
    assert "name the image column" in complaint(f"hf:{tmp_path / 'words'}")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "code.py").write_text("raise SystemExit('run')")
    assert "cannot be loaded" in complaint(f"hf:{tmp_path / 'code'}")
    (tmp_path / "empty").mkdir()
    assert "cannot be loaded" in complaint(f"hf:{tmp_path / 'empty'}")
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    assert "pip install datasets" in complaint(spec)
