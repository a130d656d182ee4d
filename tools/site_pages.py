"""Pages of the documentation site that lie outside ``docs/``; a hook of mkdocs (``mkdocs.yml``).

The README is the home page, CONTRIBUTING, CHANGELOG and SECURITY are pages, and files that pages
link to (configurations, NOTICE, LICENSE) are part of the site, so that one link serves on a code
host and on the site alike.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}
FILES = ("NOTICE", "LICENSE", "CITATION.cff", "configs/**/*.yaml")
_LINK = re.compile(r"(?<=\]\()([^)#\s]+)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages and files of the repository's root."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=_LINK.sub(_from_root, text)))
    for pattern in FILES:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links of ``docs/`` into the repository's root lead to the same files of the site."""
    up = "../" * page.file.src_uri.count("/")

    def on_site(match: re.Match[str]) -> str:
        outside = match[1].removeprefix(f"../{up}")
        return match[1] if outside == match[1] else up + _on_site(outside)

    return _LINK.sub(on_site, markdown)


def _from_root(match: re.Match[str]) -> str:
    return _on_site(match[1].removeprefix("docs/"))


def _on_site(link: str) -> str:
    return PAGES.get(link, link)
