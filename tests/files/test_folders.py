"""The walk through folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from t2ipal.errors import UserError
from t2ipal.files.folders import LeftOut, find_images


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (2, 2)).save(path, format="PNG")
    return path


def names(folder: Path, *paths: str | Path, **options: bool) -> list[str]:
    return [
        path.relative_to(folder).as_posix() for path in find_images(paths or (folder,), **options)
    ]


def test_folders_in_order_files_before_sub_folders(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/1.PNG", "a.jpg", "c.jfif", "b/d/3.webp"):
        picture(tmp_path / name)
    assert names(tmp_path) == ["a.jpg", "c.jfif", "b/1.PNG", "b/2.png", "b/d/3.webp"]
    assert names(tmp_path, recursive=False) == ["a.jpg", "c.jfif"]


def test_links_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    album = tmp_path / "elsewhere"
    picture(album / "1.png")
    photos = tmp_path / "photos"
    picture(photos / "0.png")
    (photos / "album").symlink_to(album)
    (photos / "again").symlink_to(album)
    (photos / "loop").symlink_to(photos)
    (photos / "2.png").symlink_to(album / "1.png")
    (photos / "gone.png").symlink_to(tmp_path / "gone")
    os.mkfifo(photos / "pipe.png")
    left = LeftOut()
    found = [p.relative_to(photos).as_posix() for p in find_images([photos], left)]
    assert found == ["0.png", "2.png"]
    assert dict(left.reasons) == {
        "dead links": 1,
        "pipes, sockets or devices": 1,
        "images listed twice": 1,
        "folders reached again through a link": 2,
    }


def test_a_link_as_argument(tmp_path: Path) -> None:
    picture(tmp_path / "real" / "1.png")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert names(tmp_path, tmp_path / "link") == ["link/1.png"]


def test_one_image_under_several_spellings_is_one(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "1.png")
    left = LeftOut()
    paths = [tmp_path / "a" / "1.png", f"{tmp_path}/a/../a/1.png", tmp_path / "a"]
    assert len(list(find_images(paths, left))) == 1
    assert str(left) == "left out: 2 images listed twice"


def test_what_systems_put_beside_pictures_is_left_out(tmp_path: Path) -> None:
    for name in (
        "1.png",
        ".hidden.png",
        "._1.png",
        "@eaDir/1.png",
        ".ipynb_checkpoints/1-checkpoint.png",
    ):
        picture(tmp_path / name)
    left = LeftOut()
    assert [path.name for path in find_images([tmp_path], left)] == ["1.png"]
    assert dict(left.reasons) == {"hidden files": 2, "hidden folders": 2}


def test_what_people_call_a_picture_is_named_if_it_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("t2ipal.files.pictures._register_heif", lambda: False)
    picture(tmp_path / "1.png")
    for name in ("a.HEIC", "b.heic", "c.cr2", "d.svg", "notes.txt", "labels.csv"):
        (tmp_path / name).write_text("x")
    left = LeftOut()
    assert [path.name for path in find_images([tmp_path], left)] == ["1.png"]
    assert str(left) == (
        "left out: 2 .heic (pip install pillow-heif), 1 .cr2 (camera raw; export as JPEG), "
        "1 .svg (vector graphics)"
    )


def test_patterns_and_files_named_outright(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "b.txt").write_text("words")
    assert names(tmp_path, tmp_path / "*") == ["a.png"]
    assert names(tmp_path, tmp_path / "b.txt") == ["b.txt"]  # its reader will say that it is none
    for missing in ("gone", "*.gone"):
        with pytest.raises(UserError, match="no such file"):
            names(tmp_path, tmp_path / missing)


def test_a_folder_called_like_a_picture(tmp_path: Path) -> None:
    picture(tmp_path / "x.png" / "1.png")
    assert names(tmp_path) == ["x.png/1.png"]
