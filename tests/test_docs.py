"""README, CONTRIBUTING and docs/: links lead somewhere, commands exist, examples run."""

from __future__ import annotations

import ast
import contextlib
import doctest
import functools
import importlib
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tools.house import survey

from t2ipal.cli import _VERBS, main

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
VERBS = ("run", "label", "generate", "import", "pack", "embed", "train", "predict", "eval")
VERBS += ("compare", "benchmark", "studio", "doctor", "add-class", "calibrate", "suggest", "export")
VERBS += ("data", "push", "prove")
# Of every verb, and of scripts in tools/.
_FOREIGN = frozenset({"--help", "--help-all", "--start", "--memory", "--resume"})
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_OPTION = re.compile(r"(?<![\w-])--[a-z][\w.-]*")


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


every_page = pytest.mark.parametrize("page", PAGES, ids=_name)
current = pytest.mark.parametrize(  # the changelog names what there was
    "page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=_name
)


def _anchor(heading: str) -> str:
    kept = re.sub(r"[^\w\s-]", "", heading.strip().lower())
    return re.sub(r"[\s-]+", "-", kept)


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://")):
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{_name(page)} links to {link}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(_anchor, headings), f"{_name(page)} links to {link}"


def test_what_pages_link_to_outside_docs_is_part_of_the_site() -> None:
    hook = ast.parse((ROOT / "tools" / "site_pages.py").read_text(encoding="utf-8"))
    values = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in hook.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id in ("PAGES", "FILES")
    }
    on_site = {ROOT / name for name in values["PAGES"]}
    on_site |= {path for pattern in values["FILES"] for path in ROOT.glob(pattern)}
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#\s]+)", _BLOCK.sub("", page.read_text(encoding="utf-8"))):
            target = (page.parent / link).resolve()
            if not link.startswith(("http://", "https://")) and ROOT / "docs" not in target.parents:
                assert target in on_site, f"{_name(page)} links to {link}"


@current
def test_files_that_are_named_exist(page: Path) -> None:
    """Paths in code: from the repository's root, or from the package (``clip/dense.py``)."""
    for path in re.findall(
        r"(?<![\w./-])(?:(?:src|tests|tools|docs|configs|examples)/[\w./-]*\w|\w[\w/]*\.py)",
        page.read_text(encoding="utf-8"),
    ):
        found = [root / path for root in (ROOT, ROOT / "src" / "t2ipal", page.parent)]
        assert any(place.exists() for place in found), f"{_name(page)} names {path}"


def test_the_table_of_rooms_is_what_the_source_imports() -> None:
    rooms = survey().arrows
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w/]+)/` \| .* \| (.*)\|$", text, re.MULTILINE)
    assert {room for room, _ in rows} == {room for room in survey().rooms if "." not in room}
    for room, imports in rows:
        if imports.strip() not in ("most", "all"):
            between = {there for there in rooms.get(room, ()) if "." not in there} - {"files"}
            assert set(_CODE.findall(imports)) == between, room


def test_functions_of_the_equations_exist() -> None:
    text = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    rows = re.findall(r"\| `(\w+/\w+\.py)` ((?:`\w+`(?:, )?)+)", text)
    assert len(rows) > 10
    for path, names in rows:
        tree = ast.parse((ROOT / "src" / "t2ipal" / path).read_text(encoding="utf-8"))
        kinds = ast.FunctionDef | ast.ClassDef
        defined = {node.name for node in ast.walk(tree) if isinstance(node, kinds)}
        assert set(_CODE.findall(names)) <= defined, f"{path} lacks one of {names}"


@functools.cache
def _options(verb: str) -> frozenset[str]:
    """The options of a verb by its own help."""
    said = ""
    for argument in ("--help", "--help-all"):
        page, errors = io.StringIO(), io.StringIO()
        with (
            contextlib.redirect_stdout(page),
            contextlib.redirect_stderr(errors),
            contextlib.suppress(SystemExit),
        ):
            main([verb, argument])
        said += page.getvalue()
    return frozenset(option.rstrip(".-") for option in _OPTION.findall(said))


def _commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Verb and options of each ``t2ipal VERB ...`` in code."""
    shell = [code for kind, code in _BLOCK.findall(text) if kind in ("sh", "text")]
    pieces = [*"\n".join(shell).replace("\\\n", " ").splitlines()]
    pieces += _CODE.findall(_BLOCK.sub("", text))
    for piece in pieces:
        for command in re.findall(r"(?:^|\s)t2ipal ([a-z]+[^;&#|]*)", piece):
            verb, *rest = command.split()
            yield verb, [option for word in rest for option in _OPTION.findall(word)]


@current
def test_commands_have_the_verbs_and_options_that_pages_name(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    text = page.read_text(encoding="utf-8")
    for verb, options in _commands(text):
        assert verb in _VERBS, f"{_name(page)}: there is no verb {verb}"
        missing = [option for option in options if option not in _options(verb) | _FOREIGN]
        assert not missing, f"{_name(page)}: t2ipal {verb} has no {missing}"
    everything = frozenset().union(*map(_options, VERBS), _FOREIGN)
    for code in _CODE.findall(_BLOCK.sub("", text)):
        if code.startswith("--"):
            option = _OPTION.findall(code)[0]
            assert option in everything, f"{_name(page)}: no verb has {option}"


@every_page
def test_options_of_scripts_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for command, rest in re.findall(r"python (tools/\w+\.py|-m tools[.\w]+)([^`#&\n]*)", text):
        script = command.removeprefix("-m ").replace(".", "/").removesuffix("/py")
        place = ROOT / script / "__main__.py"
        source = (place if place.exists() else ROOT / f"{script}.py").read_text(encoding="utf-8")
        for option in _OPTION.findall(rest):
            assert f'"{option}"' in source, f"{_name(page)}: {command} has no {option}"


@every_page
def test_python_on_pages_is_valid_and_imports_what_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for kind, code in _BLOCK.findall(text):
        if kind != "python":
            continue
        if code.startswith(">>>"):
            example = doctest.DocTestParser().get_doctest(code, {}, page.name, None, None)
            assert not doctest.DocTestRunner().run(example).failed
            continue
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("t2ipal"):
                module = importlib.import_module(node.module or "")
                assert all(hasattr(module, alias.name) for alias in node.names)


def _with_examples() -> list[str]:
    """Modules of the package whose docstrings hold examples."""
    package = ROOT / "src"
    return [
        ".".join(path.relative_to(package).with_suffix("").parts)
        for path in sorted((package / "t2ipal").rglob("*.py"))
        if re.search(r"^ +>>> ", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]


@pytest.mark.parametrize("module", _with_examples())
def test_examples_in_docstrings(module: str) -> None:
    failed, tried = doctest.testmod(importlib.import_module(module))
    assert tried and not failed


def test_ten_public_functions_have_an_example() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [
        test.name
        for module in _with_examples()
        for test in finder.find(importlib.import_module(module))
        if test.examples
    ]
    assert len(found) >= 10, found
    assert not [name for name in found if any(p.startswith("_") for p in name.split("."))]
