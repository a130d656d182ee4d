"""The verb that opens the studio in the browser: its frame, and the page of reports.

The pages are in ``studio_tag`` and ``studio_make``. What they show comes from the same functions
as on the command line; a run is ``t2ipal run`` in a process of its own, so that it can be stopped,
and resumed anywhere.
"""

from __future__ import annotations

import html
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import KW_ONLY
from functools import lru_cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

from annotated_types import Le

from t2ipal.cli.door import sentence
from t2ipal.cli.options import Verb, require_paths
from t2ipal.cli.speech import say
from t2ipal.cli.studio_runs import Runs
from t2ipal.clip.clip_settings import DeviceSettings, ModelSettings
from t2ipal.errors import Count, UserError, settings
from t2ipal.files import LOCK
from t2ipal.files.broken import PictureSettings
from t2ipal.files.lock import one_job
from t2ipal.files.tables import refuse_special
from t2ipal.tagger import CONFIG, PACKAGED, model_folder

if TYPE_CHECKING:
    import gradio as gr

    from t2ipal.tagger.tagger import Tagger

_P = ParamSpec("_P")
_R = TypeVar("_R")

_WAITING = 128  # requests in the queue; further ones are refused
_KEPT_LOADED = 3  # taggers
_DAY = 24 * 60 * 60  # seconds that uploads are kept, or until the studio is closed
_UPLOADS = "t2ipal-studio-"
_CSS = """
.album { min-height: 0 }
.album .grid-wrap { overflow-y: visible; min-height: 0 !important; max-height: none !important }
.album .grid-container { grid-template-rows: none; grid-auto-rows: auto }
[data-testid="status-tracker"] :is(.error, .clear-status) { display: none }
iframe.report { width: 100%; height: 80vh; border: 1px solid var(--border-color-primary);
  border-radius: 8px; background: white }
@media (max-width: 700px) {
  .gradio-container main { padding: 12px !important }
  .album .grid-container { grid-template-columns: 1fr 1fr }
  .first { display: contents !important }
  .controls { order: 3 }
}
"""  # on a phone results come between the photos and what is chosen


@settings
class Studio(ModelSettings, DeviceSettings, PictureSettings, Verb):
    """Tag photos, make taggers and read reports in the browser, on this machine alone."""

    positional = ("model",)
    examples = """
        t2ipal studio
        t2ipal studio runs/mine/model --runs runs
        t2ipal studio --host 0.0.0.0 --port 8080
    """
    model: str = "photo"
    """photo (the tagger of this package), a model folder such as RUN/model, or ORG/NAME on the
    Hugging Face hub"""
    _: KW_ONLY
    runs: Annotated[Path, "DIR"] = Path("runs")
    """folder of the runs that are made and shown"""
    host: str = "127.0.0.1"
    """address to listen on: this machine alone; 0.0.0.0 lets everybody in the network in"""
    port: Annotated[Count, Le(65535)] | None = None
    """port to listen on; 7860 if omitted, or the next free one"""
    max_upload: Annotated[Count, "MB"] = 50
    """refuse larger photos, in megabytes"""

    def run(self) -> int:
        model_folder(self.model, typed=True)
        if self.runs.exists() and not self.runs.is_dir():
            raise UserError(f"{self.runs}: is a file; name a folder for runs.")
        try:  # before seconds of imports
            socket.create_server((self.host, self.port or 0)).close()
        except OSError as error:
            raise UserError(
                f"{self.host}: cannot be listened on ({error.strerror}); choose another --host or "
                "--port."
            ) from None
        with _uploads() as uploads, _Served(self, uploads) as studio:
            say(f"studio  {studio.url}  (Ctrl-C closes it)")
            try:
                threading.Event().wait()
            except KeyboardInterrupt:
                say("studio closed")
        return 0


class _Served:
    """A studio that answers at ``url`` while its block runs.

    Raises:
        UserError: gradio is not installed, or the address cannot be listened on.
    """

    def __init__(self, chosen: Studio, uploads: Path) -> None:
        # Before gradio is imported, which reads them.
        os.environ["GRADIO_TEMP_DIR"] = str(uploads)
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        try:
            import gradio as gr
        except ImportError:
            raise UserError(
                "the studio needs gradio; in a clone of t2ipal run: pip install '.[studio]'"
            ) from None
        self._chosen = chosen
        self.runs = Runs(chosen.runs)
        self.taggers = Taggers(chosen, self.runs)
        self._pages = _pages(self)
        theme = gr.themes.Default(
            primary_hue="teal",
            font=["system-ui", "sans-serif"],  # none is fetched
            font_mono=["ui-monospace", "monospace"],
        )
        faint, dark = "*neutral_600", "*neutral_300"  # gradio's own is hard to read
        self._theme = theme.set(
            block_info_text_color=faint,
            block_info_text_color_dark=dark,
            block_label_text_color=faint,
            block_label_text_color_dark=dark,
            button_large_text_size="*text_md",
            button_large_text_weight="500",
            button_primary_background_fill="*primary_700",
            button_primary_background_fill_hover="*primary_600",
        )
        self.url = ""

    def __enter__(self) -> _Served:
        chosen = self._chosen
        try:
            _, self.url, _ = self._pages.queue(max_size=_WAITING).launch(
                server_name=chosen.host,
                server_port=chosen.port,
                max_file_size=chosen.max_upload * 1_000_000,
                share=False,
                prevent_thread_lock=True,
                quiet=True,
                footer_links=["api"],
                run_history=False,
                ssr_mode=False,
                enable_monitoring=False,
                app_kwargs={"middleware": _middleware(chosen.host)},
                _frontend=False,  # else it gives up where its own page takes over 3 seconds
                theme=self._theme,
                css=_CSS,
            )
        except OSError as error:
            raise UserError(f"{chosen.host}: no port is free ({error}); choose a --port.") from None
        return self

    def __exit__(self, *_: object) -> None:
        self.runs.stop_all()
        self._pages.close(verbose=False)


def _middleware(host: str) -> list[Any]:
    """What refuses requests to another name, with which a foreign page could read answers.

    Such a page has its own name lead to this machine (DNS rebinding). Where everybody is let in,
    by any name, it is of no use.
    """
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    if host not in ("127.0.0.1", "localhost"):
        return []
    return [Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])]


@contextmanager
def _uploads() -> Iterator[Path]:
    """A folder for what is uploaded, which goes when the block ends, however it does."""
    with tempfile.TemporaryDirectory(prefix=_UPLOADS) as folder, one_job(folder):
        _remove_abandoned(Path(folder))
        yield Path(folder)


def _remove_abandoned(own: Path) -> None:
    """Remove what was uploaded to studios that were killed: nobody holds their locks."""
    for lock in own.parent.glob(f"{_UPLOADS}*/{LOCK}"):
        folder = lock.parent
        with suppress(UserError, OSError):
            # In a folder of another user the lock may be a link to anything.
            if folder != own and folder.lstat().st_uid == own.stat().st_uid:
                with one_job(folder):
                    shutil.rmtree(folder)


class Taggers:
    """Taggers by name, loaded when they are first asked for; the last few are kept."""

    def __init__(self, chosen: Studio, runs: Runs) -> None:
        from t2ipal.tagger.tagger import Tagger

        self._chosen, self._runs = chosen, runs
        self.first = chosen.model
        self._lock = threading.Lock()
        self._load = lru_cache(_KEPT_LOADED)(self._loaded)
        self._grown = lru_cache(_KEPT_LOADED)(Tagger.with_classes)

    def names(self) -> list[str]:
        """What there is to choose from: the one of the command line, the packaged, the runs'."""
        made = [f"{name}/model" for name in self._runs.names() if self._runs.model(name)]
        return list(dict.fromkeys([self.first, *PACKAGED, *made]))

    def __call__(self, name: str | None, further: tuple[str, ...] = ()) -> Tagger:
        """A tagger, with further classes.

        Raises:
            UserError: there is none of this name, it cannot be loaded, or has a class already.
        """
        name = name or self.first
        if name not in self.names():
            raise UserError(f"there is no tagger {name!r} here; choose one of the list.")
        place: str | Path = name
        if name != self.first and name not in PACKAGED:
            place = self._runs.folder(name.removesuffix("/model")) / "model"
        folder = model_folder(place)
        made = (folder / CONFIG).stat().st_mtime_ns if folder is not None else 0
        with self._lock:
            tagger = self._load(place, made)
            return self._grown(tagger, further) if further else tagger

    def _loaded(self, place: str | Path, made: int) -> Tagger:
        """``made`` tells a model from the one that was in this place before."""
        from t2ipal.tagger.tagger import Tagger

        chosen = self._chosen
        return Tagger.from_pretrained(
            place,
            device=chosen.device,
            precision=chosen.precision,
            image_size=chosen.image_size,
            resize_mode=chosen.resize_mode,
            crops=chosen.crops,
        )


def told(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """A function whose mistakes of the user are shown in the browser, as one sentence."""
    import gradio as gr

    @wraps(function)
    def telling(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            if (said := sentence(error)) is None:
                raise gr.Error("this failed; the terminal of the studio says where.") from error
            raise gr.Error(said, duration=15, print_exception=False) from None

    return telling


def _pages(studio: _Served) -> gr.Blocks:
    """The three pages."""
    import gradio as gr

    from t2ipal.cli.studio_make import make_page
    from t2ipal.cli.studio_tag import tag_page

    with gr.Blocks(
        title="t2ipal studio", analytics_enabled=False, delete_cache=(_DAY // 24, _DAY)
    ) as pages:
        gr.Markdown("# t2ipal studio")
        with gr.Tabs() as tabs:
            with gr.Tab("Tag", id="tag"):
                tagger = tag_page(studio.taggers, studio._chosen.max_megapixels)
            with gr.Tab("Make", id="make"):
                to_tag, to_report, run = make_page(pages, studio.runs)
            with gr.Tab("Report", id="report") as report:
                reported = _report_page(studio)
        names = studio.taggers.names

        def go_to_tag(name: str) -> tuple[Any, Any]:
            return gr.Tabs(selected="tag"), gr.Dropdown(choices=names(), value=f"{name}/model")

        def go_to_report(name: str) -> tuple[Any, Any]:
            listed = studio.runs.reported()
            return gr.Tabs(selected="report"), gr.Dropdown(choices=listed, value=name)

        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        to_tag.click(go_to_tag, run, [tabs, tagger], **private)
        to_report.click(go_to_report, run, [tabs, reported], **private)
        # Runs are made meanwhile, here or on the command line.
        report.select(
            lambda: gr.Dropdown(choices=studio.runs.reported()), None, reported, **private
        )
        pages.load(lambda: gr.Dropdown(choices=names()), None, tagger, **private)
    return pages


def _report_page(studio: _Served) -> Any:
    """Lay out the page; the choice of the run."""
    import gradio as gr
    from gradio.processing_utils import save_file_to_cache
    from gradio.utils import get_upload_folder

    empty = "<p>Choose a run to read its report.</p>"
    chosen = gr.Dropdown(
        choices=studio.runs.reported(),
        value=None,
        label="Run",
        info=f"A finished run in {studio.runs.home}/",
    )
    page = gr.HTML(empty)
    file = gr.DownloadButton("Download the report", visible=False)

    @told
    def shown(name: str | None) -> tuple[Any, Any]:
        if not name:
            return empty, gr.DownloadButton(visible=False)
        path = studio.runs.folder(name) / "report.html"
        require_paths(path)
        refuse_special(path)
        text = html.escape(path.read_text(encoding="utf-8"))
        frame = f'<iframe class="report" sandbox title="Report" srcdoc="{text}"></iframe>'
        copy = save_file_to_cache(path, get_upload_folder())
        return frame, gr.DownloadButton(value=copy, visible=True)

    chosen.change(shown, chosen, [page, file], api_visibility="private", show_progress="hidden")
    return chosen
