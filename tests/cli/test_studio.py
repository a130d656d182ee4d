"""The studio, driven in Chromium by Playwright as its users drive it, and through its API."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
from PIL import Image

from t2ipal.cli import main
from t2ipal.cli.studio import _remove_abandoned, _uploads
from t2ipal.cli.studio_runs import Runs, _Job
from t2ipal.errors import UserError
from t2ipal.files import LOCK
from t2ipal.files.lock import one_job
from t2ipal.tagger.tagger import Tagger

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PHOTOS = Path(__file__).parents[2] / "examples" / "photos"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE = 120_000  # milliseconds, for busy machines


@dataclass(frozen=True)
class Running:
    """A studio that was started on the command line, and the folder it was started in."""

    url: str
    home: Path


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    pytest.importorskip("gradio", reason="the studio needs the extra: pip install '.[studio]'")
    home = tmp_path_factory.mktemp("studio")
    process = subprocess.Popen(
        [sys.executable, "-m", "t2ipal", "studio", "--max-upload", "1"],
        cwd=home,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        said = process.stdout.readline()
        assert said.startswith("studio  http://127.0.0.1:"), said
        yield Running(said.split()[1], home)
    finally:
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)[0] == "studio closed\n"
        assert process.returncode == 0


@pytest.fixture(scope="module")
def tagger() -> Tagger:
    return Tagger.from_pretrained("photo")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    reason = "driving the studio needs Playwright: pip install playwright"
    playwright = pytest.importorskip("playwright.sync_api", reason=reason)
    if CHROMIUM is None:
        pytest.skip("driving the studio needs Chromium: apt-get install chromium")
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser, studio: Running) -> Iterator[Page]:
    with user(browser, studio) as opened:
        yield opened


@contextmanager
def user(browser: Browser, studio: Running) -> Iterator[Page]:
    """The page of a user of its own; nothing is ever asked of another machine."""
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.set_default_timeout(PATIENCE)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(studio.url)
    page.get_by_role("heading", name="t2ipal studio").wait_for()
    page.get_by_text("Drop photos to see their tags").wait_for()
    yield page
    page.context.close()
    elsewhere = [url for url in asked if not url.startswith((studio.url, "data:", "blob:"))]
    assert elsewhere == []


def upload(page: Page, *files: Path) -> None:
    page.locator("input[type=file]").first.set_input_files(files)


def chosen_class(page: Page) -> str:
    return page.locator("input[type=radio]:checked").input_value()


def downloaded(page: Page, button: str) -> bytes:
    with page.expect_download() as waiting:
        page.get_by_role("button", name=button).click()
    return Path(waiting.value.path()).read_bytes()


def test_photos_are_tagged_and_thresholds_moved(page: Page, tagger: Tagger, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_text("no picture")
    upload(page, PHOTOS / "cat.jpg", PHOTOS / "coffee.jpg", broken)
    page.get_by_text("2 photos, ").wait_for()
    said = page.get_by_text("broken.jpg: cannot be read").inner_text()
    assert "/" not in said  # where uploads lie is nobody's business
    assert chosen_class(page) == "cat"

    rows = list(csv.DictReader(io.StringIO(downloaded(page, "CSV").decode())))
    found = tagger.predict([PHOTOS / "cat.jpg", PHOTOS / "coffee.jpg"])
    assert [row["image"] for row in rows] == ["cat.jpg", "coffee.jpg"]
    assert [row["labels"].split("|") for row in rows] == [tags.tags for tags in found]
    assert float(rows[0]["cat"]) == round(found[0]["cat"], 4)

    page.get_by_label("Automatic thresholds").uncheck()
    number = page.get_by_label("number input for Threshold")
    number.fill("0.05")
    number.press("Enter")
    many = sum(len(tags.above(0.05)) for tags in found)
    page.get_by_text(f"2 photos, {many} tags").wait_for()
    with zipfile.ZipFile(io.BytesIO(downloaded(page, "XMP sidecars"))) as archive:
        assert archive.namelist() == ["cat.jpg.xmp", "coffee.jpg.xmp"]
        words = re.findall("<rdf:li>(.*?)</rdf:li>", archive.read("cat.jpg.xmp").decode())
        assert words == found[0].above(0.05)

    page.locator(".album button").nth(1).click()
    page.get_by_text("Classes in coffee.jpg").wait_for()
    before = page.locator("#heat img").get_attribute("src")
    page.get_by_role("radio", name=re.compile("^bowl")).check()
    page.get_by_text("Where: bowl").wait_for()
    assert page.locator("#heat img").get_attribute("src") != before


def test_a_new_class_is_scored_at_once(page: Page) -> None:
    upload(page, PHOTOS / "coffee.jpg")
    page.get_by_text("1 photo, ").wait_for()
    box = page.get_by_label("New classes")
    box.fill("espresso")
    box.press("Enter")
    page.get_by_text("Where: espresso").wait_for()
    assert chosen_class(page) == "espresso"
    box.fill("cup")  # is there already
    box.press("Enter")
    page.get_by_test_id("toast-body").get_by_text("cup").wait_for()


def test_a_tagger_is_made_and_used(
    page: Page,
    studio: Running,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page.get_by_role("tab", name="Make").click()
    page.get_by_role("button", name="Make the tagger").click()
    page.get_by_text("there are too few classes").wait_for()
    page.get_by_label("One name a line").fill("dog\ncar")
    page.get_by_label("number input for Captions per class").fill("5")
    page.get_by_label("number input for Captions per class").press("Enter")
    page.get_by_role("button", name="Write captions").click()
    page.get_by_text("10 captions name").wait_for()
    captions = page.get_by_placeholder("A dog beside a car")
    lines = captions.input_value().splitlines()
    assert len(lines) == 10
    captions.fill("\n".join([*lines, "A dog in a car."]))
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Denoising steps").fill("2")
    page.get_by_label("Epochs").fill("3")
    page.get_by_role("button", name="Make the tagger").click()
    page.get_by_text("tagger-1 is being made").wait_for()
    ended = page.get_by_role("heading", name=re.compile("tagger-1 (is ready|stopped)"))
    ended.wait_for(timeout=5 * PATIENCE)
    assert ended.inner_text() == "tagger-1 is ready"
    assert page.get_by_text("11 of 11 images · epoch 3 of 3").is_visible()
    assert page.locator("#made-images img").count() >= 11

    monkeypatch.chdir(studio.home)
    folder = Path("runs/tagger-1")
    capsys.readouterr()
    assert main(["run", "--config", str(folder / "config.yaml"), "--out", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "train: model, done before" in said and "changed since" not in said
    assert (folder / "captions.txt").read_text().splitlines()[-1] == "A dog in a car."

    page.get_by_role("button", name="Read its report").click()
    report = page.frame_locator("iframe.report")
    report.get_by_role("heading", name="tagger-1: a tagger from 11 captions").wait_for()
    page.get_by_role("tab", name="Make").click()
    page.get_by_role("button", name="Tag photos with it").click()
    upload(page, PHOTOS / "cat.jpg")
    page.get_by_text("1 photo, ").wait_for()
    page.locator("input[type=radio]").nth(2).wait_for(state="detached")  # its two classes alone
    page.get_by_text("This tagger knows").wait_for()  # that it does not know photos

    # Classes that are there already come back with the page.
    page.reload()
    page.get_by_role("tab", name="Make").click()
    page.get_by_label("Run").locator("visible=true").click()
    page.get_by_role("option", name="tagger-1").click()
    page.get_by_text("tagger-1 is ready").wait_for()
    assert page.get_by_label("One name a line").input_value() == "dog\ncar"


def test_a_run_is_stopped_and_resumed(page: Page, studio: Running) -> None:
    page.get_by_role("tab", name="Make").click()
    page.get_by_label("One name a line").fill("cat\nboat")
    page.get_by_placeholder("A dog beside a car").fill("A cat.\nA boat.\n" * 200)
    name = page.get_by_label("Run").locator("visible=true")
    name.fill("stopped")
    name.press("Enter")
    page.get_by_role("button", name="Make the tagger").click()
    page.get_by_text("stopped is being made").wait_for()
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("stopped is not finished").wait_for()
    assert page.get_by_text("t2ipal run --config").is_visible()
    with one_job(studio.home / "runs" / "stopped"):
        pass  # nobody works there any more


def test_two_users_see_their_own_photos(browser: Browser, studio: Running) -> None:
    with user(browser, studio) as one, user(browser, studio) as other:
        pages = {"cat": one, "rocket": other}
        for name, page in pages.items():
            upload(page, PHOTOS / f"{name}.jpg")
        for name, page in pages.items():
            page.get_by_text(f"Classes in {name}.jpg").wait_for()
            page.locator(".album button").wait_for()
            assert page.locator(".album button").count() == 1


def test_it_fits_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    upload(page, PHOTOS / "cat.jpg")
    page.get_by_text("Classes in cat.jpg").wait_for()
    for tab in ("Tag", "Make", "Report"):
        page.get_by_role("tab", name=tab).click()
        assert page.evaluate("document.documentElement.scrollWidth") == 390


def client(studio: Running) -> Any:
    from gradio_client import Client

    return Client(studio.url, verbose=False, httpx_kwargs={"timeout": 300})


def test_sixteen_clients_at_once_lose_nothing(studio: Running, tagger: Tagger) -> None:
    from gradio_client import handle_file

    names = ["astronaut", "cat", "coffee", "rocket"]
    tags = tagger.predict([PHOTOS / f"{name}.jpg" for name in names])
    wanted = dict(zip(names, tags, strict=True))

    def ask(name: str) -> Any:
        return client(studio).predict(handle_file(PHOTOS / f"{name}.jpg"), api_name="/tag")

    with ThreadPoolExecutor(16) as pool:
        asked = names * 4
        for name, found in zip(asked, pool.map(ask, asked), strict=True):
            assert found == wanted[name].to_json() | {"image": f"{name}.jpg"}


def test_the_api_takes_what_predict_takes(studio: Running, tmp_path: Path) -> None:
    from gradio_client import handle_file
    from gradio_client.exceptions import AppError

    photo, ask = handle_file(PHOTOS / "cat.jpg"), client(studio).predict
    found = ask(photo, threshold=0.0, classes=["dog", "cat"], api_name="/tag")
    assert found["tags"] == ["cat", "dog"] and list(found["scores"]) == ["dog", "cat"]
    with pytest.raises(AppError, match="no class 'unicorn'"):
        ask(photo, classes=["unicorn"], api_name="/tag")
    with pytest.raises(AppError, match="no tagger '/etc'"):
        ask(photo, tagger="/etc", api_name="/tag")
    (tmp_path / "broken.png").write_text("no picture")
    with pytest.raises(AppError, match=r"^broken\.png: cannot be read"):
        ask(handle_file(tmp_path / "broken.png"), api_name="/tag")


def test_what_is_too_large_or_was_not_uploaded_is_refused(studio: Running, tmp_path: Path) -> None:
    from gradio_client import handle_file

    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.png")
    with pytest.raises(Exception, match="1000000"):
        client(studio).predict(handle_file(tmp_path / "large.png"), api_name="/tag")
    named = {"path": str(PHOTOS / "cat.jpg"), "meta": {"_type": "gradio.FileData"}}
    body = json.dumps({"data": [named, None, None, None, None]}).encode()
    call = f"{studio.url}gradio_api/call/tag"
    headers = {"Content-Type": "application/json"}
    with urlopen(Request(call, body, headers)) as answer:
        event = json.load(answer)["event_id"]
    with urlopen(f"{call}/{event}") as answer:
        said = answer.read().decode()
    assert "event: error" in said and "scores" not in said


def asked(studio: Running, function: int, *data: Any) -> str:
    """What the server says in the end to a request that no page makes."""
    session = f"s{function}"
    body = json.dumps({"fn_index": function, "data": data, "session_hash": session}).encode()
    header = {"Content-Type": "application/json"}
    with urlopen(Request(f"{studio.url}gradio_api/queue/join", body, header)) as answer:
        answer.read()
    with urlopen(f"{studio.url}gradio_api/queue/data?session_hash={session}") as stream:
        lines = [
            line for line in stream.read().decode().splitlines() if "process_completed" in line
        ]
    return json.dumps(json.loads(lines[-1].removeprefix("data: "))["output"])


def test_requests_that_no_page_makes(studio: Running, tmp_path: Path) -> None:
    shutil.copy(PHOTOS / "cat.jpg", tmp_path / "secret.jpg")
    with urlopen(f"{studio.url}config") as answer:
        functions = {one["api_name"]: one["id"] for one in json.load(answer)["dependencies"]}
    tag, page = functions["tag"], 0
    secret = {"path": str(tmp_path / "secret.jpg"), "orig_name": "x.jpg"}
    nobody = [None] * 4
    for photo in (secret, {"path": "/proc/self/environ"}, {"path": ""}, {}, "x", 5, None):
        assert "was not uploaded" in asked(studio, tag, photo, *nobody)
    assert asked(studio, page, [secret], "photo", [], None, True, 0.5) == '{"error": null}'
    for values, why in (
        (["0.3", None, None, None], "threshold"),
        ([{}, None, None, None], "threshold"),
        ([None, 5, None, None], "classes"),
        ([None, None, "zebra", None], "new_classes"),
    ):
        assert why in asked(studio, tag, secret, *values)


def test_one_request_does_not_take_everybodys_time() -> None:
    pytest.importorskip("gradio", reason="the studio needs the extra: pip install '.[studio]'")
    from t2ipal.cli.studio_make import _counted
    from t2ipal.cli.studio_tag import _grown

    with pytest.raises(UserError, match="101 new classes are more than"):
        _grown(None, None, tuple(map(str, range(101))))  # type: ignore[arg-type]
    assert _counted("dog\ncat", "a dog\n" * 5001).startswith("5001 captions; with so many")


def test_another_host_name_is_refused(studio: Running) -> None:
    with pytest.raises(HTTPError) as refused:
        urlopen(Request(f"{studio.url}config", headers={"Host": "evil.example:7860"}))
    assert refused.value.code == 400


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("metrics.jsonl", "{}"),
        ("metrics.jsonl", '{"epoch": "x", "loss": null, "valid_map": null}'),
        ("model/config.json", "["),
        ("model/config.json", '{"about": []}'),
        ("model/config.json", None),
        ("log.txt", None),
    ],
)
def test_a_damaged_run_is_told_in_a_sentence(tmp_path: Path, file: str, text: str | None) -> None:
    pytest.importorskip("gradio", reason="the studio needs the extra: pip install '.[studio]'")
    from t2ipal.cli.studio_make import _figures, _said, _weak

    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    if text is None:
        os.mkfifo(path)
    else:
        path.write_text(text)
    read = {"metrics.jsonl": _figures, "log.txt": _said}.get(file, lambda _: _weak(tmp_path))
    with pytest.raises(UserError, match=file):
        read(path)


@pytest.mark.parametrize("name", ["", "..", "../there", "a/b", "/etc", ".hidden", None])
def test_runs_lie_in_their_folder(tmp_path: Path, name: str | None) -> None:
    with pytest.raises(UserError, match="cannot be called"):
        Runs(tmp_path).folder(name)


def test_a_run_that_is_being_written_is_not_there_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gradio", reason="the studio needs the extra: pip install '.[studio]'")
    from t2ipal.cli import studio_make

    runs = Runs(tmp_path / "runs")
    fields = ("dog\ncat", "A dog.", "miniature", "miniature", 1, 1, True)
    seen = []
    write = studio_make.write_text

    def watched(path: Path, text: str) -> None:
        write(path, text)
        seen.append((path.name, runs.names(), (tmp_path / "runs" / "new").exists()))

    monkeypatch.setattr(studio_make, "write_text", watched)
    studio_make._prepare(runs.folder("new"), *fields)
    assert seen == [("vocabulary.yaml", [], False), ("captions.txt", [], False)]
    names = ["captions.txt", "config.yaml", "vocabulary.yaml"]
    assert sorted(path.name for path in (tmp_path / "runs" / "new").iterdir()) == names
    assert [path.name for path in (tmp_path / "runs").iterdir()] == runs.names() == ["new"]


def test_a_run_is_stopped_where_interrupts_are_ignored(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does with 'studio &'
    try:
        runs.start("mine")
        runs.stop("mine")
    finally:
        signal.signal(signal.SIGINT, before)
    assert runs._jobs["mine"].process.returncode in (143, -signal.SIGTERM)
    assert runs.error("mine") == ""


@pytest.mark.parametrize(("status", "said"), [(130, ""), (143, ""), (2, "no."), (0, "")])
def test_a_run_that_is_interrupted_has_no_error(tmp_path: Path, status: int, said: str) -> None:
    code = f"import sys; print('t2ipal: no.', file=sys.stderr); sys.exit({status})"
    with (tmp_path / "said").open("w+b") as errors:
        process = subprocess.Popen([sys.executable, "-c", code], stderr=errors)
        process.wait()
        assert _Job(process, errors).error() == said


def test_a_studio_that_is_closed_starts_nothing_more(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    runs.stop_all()
    with pytest.raises(UserError, match="being closed"):
        runs.start("mine")


def test_uploads_go_with_their_studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(KeyboardInterrupt), _uploads() as folder:  # in its start, say
        (folder / "photo.jpg").touch()
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_uploads_to_a_killed_studio_go_with_the_next_one(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl", reason="a lock of another process is imitated with it")
    for name in ("own", "living", "killed", "other"):
        (tmp_path / f"t2ipal-studio-{name}").mkdir()
        (tmp_path / f"t2ipal-studio-{name}" / "photo.jpg").touch()
        if name != "other":
            (tmp_path / f"t2ipal-studio-{name}" / LOCK).touch()
    with (tmp_path / "t2ipal-studio-living" / LOCK).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        _remove_abandoned(tmp_path / "t2ipal-studio-own")
    left = sorted(path.name.removeprefix("t2ipal-studio-") for path in tmp_path.iterdir())
    assert left == ["living", "other", "own"]


def test_without_gradio_there_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["studio"]) == 2
    assert "pip install '.[studio]'" in capsys.readouterr().err


def test_an_address_that_cannot_be_listened_on_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["studio", "--host", "203.0.113.1"]) == 2  # of nobody, by RFC 5737
    assert "203.0.113.1: cannot be listened on" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["studio", "--port", str(port)]) == 2
    assert "choose another --host or --port" in capsys.readouterr().err
