"""The studio's page that tags photos, and the function that other programs call."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr
from gradio import FileData
from gradio.utils import get_upload_folder

from t2ipal.cli.studio import Taggers, told
from t2ipal.errors import Share, UserError, read_settings, settings
from t2ipal.files.pictures import load_image
from t2ipal.report.overlay import heat_overlay
from t2ipal.tagger.card import plain_markdown
from t2ipal.tagger.keywords import JOURNAL, add_keywords
from t2ipal.tagger.tag_file import header_line, tags_line
from t2ipal.tagger.tagger import Tagger
from t2ipal.tagger.tags import Tags

_MOST_PHOTOS = 200  # at once
_MOST_CLASSES = 100  # new ones; each takes a moment of everybody's time
_LISTED = 12  # classes of a photo that are listed
_SMALL, _LARGE = 400, 1000  # pixels of the longer side, in the gallery and alone
_EMPTY = "Drop photos to see their tags. They stay on this machine."


@settings
class _Asked:
    """What another program asks of a photo."""

    threshold: Share | None = None
    """from which probability a class is a tag"""
    classes: tuple[str, ...] | None = None
    """these classes alone"""
    new_classes: tuple[str, ...] | None = None
    """further classes"""
    tagger: str | None = None
    """one of the list"""


@dataclass(frozen=True)
class _Photo:
    """A photo that was tagged: its name, its tags with heatmaps, and a small copy of it."""

    name: str
    tags: Tags
    small: str


@dataclass(frozen=True)
class _Album:
    """The photos of one user, and what tagged them."""

    tagger: str = ""
    further: tuple[str, ...] = ()
    photos: tuple[_Photo, ...] = ()
    unread: tuple[tuple[str, str], ...] = ()  # file, and why
    warning: str | None = None  # of photos that the tagger does not know
    chosen: int = 0


def tag_page(taggers: Taggers, max_megapixels: float) -> Any:
    """Lay out the page; the choice of the tagger, for other pages to set."""
    album = gr.State(_Album())
    with gr.Row():
        with gr.Column(scale=1, min_width=320, elem_classes="first"):
            files = gr.File(file_count="multiple", file_types=["image"], label="Photos", height=180)
            with gr.Column(elem_classes="controls"):
                tagger = gr.Dropdown(choices=taggers.names(), value=taggers.first, label="Tagger")
                automatic = gr.Checkbox(
                    True, label="Automatic thresholds", info="Fitted for each class with the tagger"
                )
                threshold = gr.Slider(
                    0.01, 0.99, 0.5, step=0.01, label="Threshold", interactive=False,
                    info="A class is a tag from this probability on",
                )  # fmt: skip
                further = gr.Dropdown(
                    choices=[], value=[], multiselect=True, allow_custom_value=True,
                    label="New classes",
                    info="Type a name and press Enter: scored at once, without training",
                )  # fmt: skip
                with gr.Row():
                    table = gr.DownloadButton("CSV", interactive=False, min_width=120)
                    sidecars = gr.DownloadButton("XMP sidecars", interactive=False, min_width=120)
        with gr.Column(scale=2, min_width=320):
            said = gr.Markdown(_EMPTY)
            gallery = gr.Gallery(
                show_label=False, elem_classes="album", columns=3, height="auto", visible=False,
                allow_preview=False, buttons=[], interactive=False,
            )  # fmt: skip
            heat = gr.Image(
                label="Where", visible=False, interactive=False, buttons=[], elem_id="heat"
            )
            classes = gr.Radio(choices=[], label="Show where", visible=False)

    limits = [automatic, threshold]
    results = [said, gallery, table, sidecars]
    one = [heat, classes]

    @told
    def tagged(
        paths: list[str] | None,
        name: str,
        more: list[str] | None,
        old: _Album,
        auto: bool,
        limit: float,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - how gradio is asked for one
    ) -> list[Any]:
        names = tuple(dict.fromkeys(word for one in more or () if (word := one.strip())))
        new = _tag(taggers, name, names, paths or [], max_megapixels, old, progress)
        fresh = [one for one in names if one not in old.further]
        return [new, *_results(new, auto, limit), *_one(new, auto, limit, fresh[-1:])]

    @told
    def moved(found: _Album, auto: bool, limit: float, shown: str | None) -> list[Any]:
        return [*_results(found, auto, limit), *_one(found, auto, limit, [shown or ""])]

    @told
    def chosen(found: _Album, auto: bool, limit: float, event: gr.SelectData) -> list[Any]:
        found = replace(found, chosen=int(event.index))
        return [found, *_one(found, auto, limit)]

    @told
    def looked(found: _Album, name: str) -> Any:
        return _overlay(found, name)

    private = {"api_visibility": "private"}
    busy: dict[str, Any] = {**private, "concurrency_id": "tagger", "concurrency_limit": 1}
    everything = [files, tagger, further, album, *limits]
    for changed in (files.change, tagger.change, further.change):
        changed(tagged, everything, [album, *results, *one], show_progress_on=said, **busy)
    for changed in (automatic.change, threshold.change):
        changed(
            moved, [album, *limits, classes], [*results, *one],
            show_progress="hidden", trigger_mode="always_last", **private,
        )  # fmt: skip
    automatic.change(
        lambda auto: gr.Slider(interactive=not auto), automatic, threshold, queue=False,
        show_progress="hidden", **private,
    )  # fmt: skip
    gallery.select(chosen, [album, *limits], [album, *one], show_progress="hidden", **private)
    classes.input(looked, [album, classes], heat, show_progress="hidden", **private)

    def tag(
        photo: FileData,
        threshold: float | None = None,
        classes: list[str] | None = None,
        new_classes: list[str] | None = None,
        tagger: str | None = None,
    ) -> dict[str, Any]:
        """Tags of one photo, and the probability of every class.

        Args:
            photo: the photo.
            threshold: from which probability a class is a tag; the tagger's thresholds if omitted.
            classes: these classes alone; all of the tagger's if omitted.
            new_classes: names of further classes to score.
            tagger: one of those that the page lists; the first one if omitted.
        """
        asked = read_settings(
            _Asked,
            {
                "threshold": threshold,
                "classes": classes,
                "new_classes": new_classes,
                "tagger": tagger,
            },
        )
        given: Any = photo if isinstance(photo, dict) else {}
        path = _uploaded(given.get("path"))
        further = tuple(dict.fromkeys(asked.new_classes or ()))
        stream = _grown(taggers, asked.tagger, further).stream(
            [path],
            threshold=asked.threshold,
            classes=[*asked.classes, *further] if asked.classes else None,
            max_megapixels=max_megapixels,
        )
        found = next(iter(stream))
        name = str(given.get("orig_name") or path.name)
        if found.error is not None:
            raise UserError(found.error.replace(str(path), name))
        return replace(found, image=Path(name)).to_json()

    gr.api(told(tag), api_name="tag", concurrency_id="tagger", concurrency_limit=1)
    return tagger


def _uploaded(path: object) -> Path:
    """The file of an upload. Gradio looks at those of the page, but a program may name any file.

    Raises:
        UserError: it is another file.
    """
    home = Path(get_upload_folder()).resolve()
    if isinstance(path, str) and "\0" not in path:
        found = Path(path).resolve()
        if found.is_relative_to(home) and found.is_file():
            return found
    raise UserError("the photo was not uploaded here; upload it first, as handle_file does.")


def _grown(taggers: Taggers, name: str | None, further: tuple[str, ...]) -> Tagger:
    if len(further) > _MOST_CLASSES:
        raise UserError(
            f"{len(further)} new classes are more than the studio takes at once ({_MOST_CLASSES}); "
            "'t2ipal add-class' adds any number to a tagger."
        )
    return taggers(name, further)


def _tag(
    taggers: Taggers,
    name: str,
    further: tuple[str, ...],
    paths: Sequence[str],
    max_megapixels: float,
    old: _Album,
    progress: gr.Progress,
) -> _Album:
    """The album of these files; what the same tagger said of one before is kept."""
    if len(paths) > _MOST_PHOTOS:
        raise UserError(
            f"{len(paths)} photos are more than the studio takes at once ({_MOST_PHOTOS}); "
            "'t2ipal predict' tags folders of any size."
        )
    same = (old.tagger, old.further) == (name, further)
    there = {str(photo.tags.image): photo for photo in old.photos} if same else {}
    smalls = {str(photo.tags.image): photo.small for photo in old.photos}
    unread = {path: why for path, why in old.unread if path in paths}
    names = _distinct([Path(path).name for path in paths])
    warning = old.warning if same else None
    missing = [path for path in paths if path not in there and path not in unread]
    if missing:
        progress((0, len(missing)), desc="Tagging", unit="photos")
        chosen_tagger = _grown(taggers, name, further)
        stream = chosen_tagger.stream(
            map(Path, missing), heatmaps=True, batch_size=4, max_megapixels=max_megapixels
        )
        for done, tags in enumerate(stream, 1):
            path = str(tags.image)
            label = names[paths.index(path)]
            if tags.error is not None:
                unread[path] = tags.error.replace(path, label)
            else:
                small = smalls.get(path) or _small_copy(tags, get_upload_folder())
                there[path] = _Photo(label, replace(tags, picture=None), small)
            progress((done, len(missing)), desc="Tagging", unit="photos")
        warning = chosen_tagger.unlike(photo.tags.size for photo in there.values())
    photos = tuple(there[path] for path in paths if path in there)
    chosen = old.chosen if old.chosen < len(photos) else 0
    return _Album(name, further, photos, tuple(unread.items()), warning, chosen)


def _small_copy(tags: Tags, folder: str) -> str:
    from gradio.processing_utils import save_pil_to_cache

    assert tags.picture is not None, "heatmaps were asked for"
    small = tags.picture.copy()
    small.thumbnail((_SMALL, _SMALL))
    return str(save_pil_to_cache(small, folder, format="webp"))


def _distinct(names: Sequence[str]) -> list[str]:
    """Names of files, numbered where one comes again."""
    found: list[str] = []
    for name in names:
        path, number, new = Path(name), 1, name
        while new in found:
            number += 1
            new = f"{path.stem}-{number}{path.suffix}"
        found.append(new)
    return found


def _shown(tags: Tags, auto: bool, limit: float) -> list[str]:
    return tags.tags if auto else tags.above(limit)


def _results(album: _Album, auto: bool, limit: float) -> list[Any]:
    """What is said of all photos: sentence, gallery, table and sidecars."""
    if not album.photos and not album.unread:
        off = gr.DownloadButton(value=None, interactive=False)
        return [_EMPTY, gr.Gallery(value=[], visible=False), off, off]
    lists = [_shown(photo.tags, auto, limit) for photo in album.photos]
    pictures = [
        (photo.small, ", ".join(shown) or "no tag")
        for photo, shown in zip(album.photos, lists, strict=True)
    ]
    count, tags = len(pictures), sum(map(len, lists))
    said = f"**{count} photo{'s' * (count != 1)}, {tags} tag{'s' * (tags != 1)}**"
    if not album.photos:
        said = "No photo could be read."
    else:
        said += ". Choose a photo to see where each class was found." if count > 1 else "."
    doubts = [why for _, why in album.unread]
    if album.warning is not None:
        doubts.append(album.warning[:1].upper() + album.warning[1:])
    said += "".join(f"\n\n⚠️ {plain_markdown(why)}" for why in doubts)
    files: list[Any] = [gr.DownloadButton(value=None, interactive=False)] * 2
    if album.photos:
        files = [
            gr.DownloadButton(value=str(path), interactive=True) for path in _files(album, lists)
        ]
    columns = min(3, max(1, count))
    return [said, gr.Gallery(value=pictures, visible=count > 0, columns=columns), *files]


def _files(album: _Album, lists: Sequence[list[str]]) -> tuple[Path, Path]:
    """``tags.csv``, and ``sidecars.zip`` with an XMP file per photo that has a tag."""
    folder = Path(tempfile.mkdtemp(dir=get_upload_folder()))
    table, archive = folder / "tags.csv", folder / "sidecars.zip"
    lines = [header_line("csv", album.photos[0].tags.names) or ""]
    with zipfile.ZipFile(archive, "w") as out:
        for photo, shown in zip(album.photos, lists, strict=True):
            file = folder / photo.name
            lines.append(tags_line("csv", replace(photo.tags, image=Path(photo.name)), shown))
            sidecar, new = add_keywords(file, shown, "xmp", embed=False, journal=folder / JOURNAL)
            if new:
                out.write(sidecar, sidecar.name)
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return table, archive


def _one(album: _Album, auto: bool, limit: float, wanted: Sequence[str] = ()) -> list[Any]:
    """The chosen photo with the heatmap of a class, and its classes with their probabilities."""
    if not album.photos:
        return [gr.Image(value=None, visible=False), gr.Radio(choices=[], visible=False)]
    photo = album.photos[album.chosen]
    shown = set(_shown(photo.tags, auto, limit))
    listed = photo.tags.top(_LISTED)
    listed += [name for name in photo.tags.top(len(photo.tags)) if name in album.further]
    listed = list(dict.fromkeys([*listed, *photo.tags.above(limit)] if not auto else listed))
    choices = [
        (f"{name} {photo.tags[name]:.0%}{' ✓' if name in shown else ''}", name) for name in listed
    ]
    name = next((one for one in wanted if one in listed), listed[0])
    return [
        _overlay(album, name),
        gr.Radio(choices=choices, value=name, visible=True, label=f"Classes in {photo.name}"),
    ]


def _overlay(album: _Album, name: str) -> Any:
    """The heatmap of a class over the chosen photo."""
    photo = album.photos[album.chosen]
    assert photo.tags.image is not None, "files are tagged"
    picture = load_image(photo.tags.image, max_megapixels=float("inf"))  # it was read before
    scale = min(1.0, _LARGE / max(picture.size))
    # A JPEG may have been decoded at another size than when it was tagged.
    small = picture.resize([max(1, round(scale * side)) for side in picture.size])
    box = [round(edge * small.width / photo.tags.size[0]) for edge in photo.tags.box]
    overlay = heat_overlay(small, photo.tags.heatmap(name), seen=(box[0], box[1], box[2], box[3]))
    return gr.Image(value=overlay, visible=True, label=f"Where: {name}")
