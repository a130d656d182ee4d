"""A hub on the loopback address: the part of the Hugging Face API that the libraries here use.

It serves repositories from folders, takes commits, and fails on demand: access that is refused,
too many requests, errors of the server, connections cut in the middle of a file. Large files lie,
as on the real hub, on another server to which it redirects and which must not see the token.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import huggingface_hub
import huggingface_hub.file_download
import huggingface_hub.hf_api
import huggingface_hub.utils._http
import pytest
import transformers.utils.hub
import yaml

TOKEN = "hf_loopback"
LARGE = (".safetensors", ".bin", ".pt")  # stored by git-lfs on the hub

Content = Path | bytes


@dataclass
class Fault:
    """What goes wrong with requests whose ``METHOD /path`` the pattern matches.

    Attributes:
        status: answer this; 0 for the right answer.
        cut: close the connection after this many bytes of the body.
        times: how often; None for ever.
        headers: further ones of the answer.
    """

    pattern: str
    status: int = 0
    cut: int | None = None
    times: int | None = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Repository:
    """Commits by their id, each with its files, and the commit of each branch and tag.

    Attributes:
        gated: asks for its licence to be accepted: 401 without a token, 403 with one.
        private: 401 without a token.
    """

    commits: dict[str, dict[str, Content]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    private: bool = False

    def commit(self, files: dict[str, Content], ref: str = "main") -> str:
        """Let ``ref`` be these files, and return the id of the commit."""
        text = repr((sorted((name, _sha256(what)) for name, what in files.items()), len(self.refs)))
        commit = hashlib.sha1(text.encode()).hexdigest()
        self.commits[commit] = files
        self.refs[ref] = commit
        return commit

    def find(self, revision: str) -> str | None:
        return self.refs.get(revision, revision if revision in self.commits else None)


class Hub:
    """The hub, at ``url``.

    Attributes:
        repositories: by id.
        faults: the first that matches a request is what happens.
        requests: ``METHOD /path`` of each request, in order.
        tokens_at_the_store: tokens that the server of large files was sent.
        ranges: the parts of files that were asked for.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.tokens_at_the_store: list[str] = []
        self.ranges: list[str] = []
        self.blobs: dict[str, Content] = {}  # large files by SHA-256
        self._servers = [_Server(("127.0.0.1", 0), handler) for handler in (_Api, _Store)]
        for server in self._servers:
            server.hub = self
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        self.url, self.store_url = (
            f"http://127.0.0.1:{server.server_port}" for server in self._servers
        )

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def add(
        self,
        repo: str,
        folder: Path | dict[str, Content],
        *,
        ref: str = "main",
        gated: bool = False,
        private: bool = False,
    ) -> str:
        """Put a folder, or files by name, on the hub; the id of the commit."""
        files = folder if isinstance(folder, dict) else files_of(folder)
        found = self.repositories.setdefault(repo, Repository())
        found.gated, found.private = gated, private
        return found.commit(files, ref)

    def count(self, pattern: str) -> int:
        """How many requests the pattern matches."""
        return sum(re.search(pattern, request) is not None for request in self.requests)

    @contextmanager
    def failing(self, *faults: Fault) -> Iterator[None]:
        """Let these faults happen meanwhile."""
        self.faults += faults
        try:
            yield
        finally:
            self.faults.clear()

    def fault(self, request: str) -> Fault | None:
        for fault in self.faults:
            if fault.times != 0 and re.search(fault.pattern, request):
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None


@contextmanager
def serving(cache: Path) -> Iterator[Hub]:
    """A hub to which the libraries of this process go meanwhile, with an empty cache of its own.

    They do what the environment variables HF_ENDPOINT, HF_HUB_CACHE and HF_HUB_DISABLE_XET would
    let them do from the start. Nobody waits before asking again.
    """
    hub = Hub()
    with pytest.MonkeyPatch.context() as patch:
        where = {"ENDPOINT": hub.url, "HF_HUB_CACHE": str(cache), "HF_HUB_DISABLE_XET": True}
        where["HUGGINGFACE_CO_URL_TEMPLATE"] = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        where |= {"HF_HUB_OFFLINE": False, "HF_TOKEN_PATH": str(cache / "token")}
        where |= {"DOWNLOAD_CHUNK_SIZE": 1000}  # what arrived of a file is written in such pieces
        for name, value in where.items():
            patch.setattr(huggingface_hub.constants, name, value)
        patch.setattr(huggingface_hub.hf_api.api, "endpoint", hub.url)
        patch.setattr(transformers.utils.hub, "_hf_api", None)
        patch.delenv("HF_TOKEN", raising=False)
        for module in (huggingface_hub.utils._http, huggingface_hub.file_download):
            patch.setattr(module, "time", SimpleNamespace(sleep=lambda seconds: None))
        try:
            yield hub
        finally:
            hub.close()
            huggingface_hub.utils._http.close_session()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: Hub


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    @property
    def hub(self) -> Hub:
        return self.server.hub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def _serve(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        request = f"{self.command} {path}"
        self.hub.requests.append(request)
        self.fault = self.hub.fault(request)
        if self.fault is not None and self.fault.status:
            self._json({"error": "on demand"}, self.fault.status, **self.fault.headers)
        else:
            self.answer(path)

    def answer(self, path: str) -> None:
        raise NotImplementedError

    def _json(self, content: Any, status: int = 200, **headers: str) -> None:
        self._send(json.dumps(content).encode(), status, **headers)

    def _error(self, status: int, code: str, text: str = "", **headers: str) -> None:
        message = {"X-Error-Code": code, "X-Error-Message": text or code}
        self._json({"error": text or code}, status, **message, **headers)

    def _send(self, content: Content, status: int = 200, **headers: str) -> None:
        data = content if isinstance(content, bytes) else content.read_bytes()
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if wanted and status == 200:
            self.hub.ranges.append(wanted[0])
            first = int(wanted[1])
            if first >= len(data):
                status, data = 416, b""
            else:
                last = int(wanted[2] or len(data) - 1)
                headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
                status, data = 206, data[first : last + 1]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.fault is not None and self.fault.cut is not None:
            self.wfile.write(data[: self.fault.cut])
            self.close_connection = True
            return
        self.wfile.write(data)


class _Store(_Handler):
    """The server of large files, by their SHA-256 or any other name in ``blobs``."""

    def answer(self, path: str) -> None:
        if token := self.headers.get("Authorization"):
            self.hub.tokens_at_the_store.append(token)
        name = path.removeprefix("/")
        if self.command == "PUT":
            if hashlib.sha256(self.body).hexdigest() != name:
                self._error(400, "BadDigest")
                return
            self.hub.blobs[name] = self.body
            self._json({})
        elif name in self.hub.blobs:
            self._send(self.hub.blobs[name])
        else:
            self._error(404, "NotFound")


class _Api(_Handler):
    def answer(self, path: str) -> None:
        for pattern, method in (
            (r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", self._info),
            (r"/api/models/([^/]+/[^/]+)/tree/([^/]+)(?:/(.*))?", self._tree),
            (r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self._resolve),
            (r"/api/repos/create", self._create),
            (r"/api/models/([^/]+/[^/]+)/branch/(.+)", self._branch),
            (r"/api/validate-yaml", lambda: self._json({"errors": [], "warnings": []})),
            (r"/api/models/([^/]+/[^/]+)/preupload/(.+)", self._preupload),
            (r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", self._batch),
            (r"/api/models/([^/]+/[^/]+)/commit/(.+)", self._commit),
        ):
            if found := re.fullmatch(pattern, path):
                method(*found.groups())  # type: ignore[operator]
                return
        self._error(404, "NotFound")

    def _token(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _allowed(self, repo: str, revision: str, *, files: bool = False) -> str | None:
        """The commit, or None after an answer that refuses."""
        found = self.hub.repositories.get(repo)
        if found is None or (found.private and not self._token()):
            self._error(404 if self._token() else 401, "RepoNotFound", "Repository not found")
        elif found.gated and files:
            self._error(403 if self._token() else 401, "GatedRepo", "Access is restricted")
        elif (commit := found.find(revision)) is None:
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return commit
        return None

    def _info(self, repo: str, revision: str | None) -> None:
        if commit := self._allowed(repo, revision or "main"):
            found = self.hub.repositories[repo]
            files = [{"rfilename": name} for name in found.commits[commit]]
            self._json(
                {
                    "_id": "0", "id": repo, "modelId": repo, "sha": commit, "siblings": files,
                    "private": found.private, "gated": "manual" if found.gated else False,
                    "tags": [], "downloads": 0, "likes": 0, "disabled": False,
                    "cardData": _front_matter(found.commits[commit].get("README.md", b"")),
                }
            )  # fmt: skip

    def _tree(self, repo: str, revision: str, inside: str | None) -> None:
        if commit := self._allowed(repo, revision):
            start = f"{inside}/" if inside else ""
            files = self.hub.repositories[repo].commits[commit]
            self._json(
                [_entry(name, what) for name, what in files.items() if name.startswith(start)]
            )

    def _resolve(self, repo: str, revision: str, name: str) -> None:
        commit = self._allowed(repo, revision, files=True)
        if commit is None:
            return
        files = self.hub.repositories[repo].commits[commit]
        headers = {"X-Repo-Commit": commit}
        if name not in files:
            self._error(404, "EntryNotFound", **headers)
        elif name.endswith(LARGE):
            digest = _sha256(files[name])
            self.hub.blobs[digest] = files[name]
            headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(_size(files[name]))}
            self._send(b"", 302, Location=f"{self.hub.store_url}/{digest}", **headers)
        else:
            self._send(files[name], ETag=f'"{_sha256(files[name])[:40]}"', **headers)

    # --- what writes ---

    def _create(self) -> None:
        asked = json.loads(self.body)
        repo = f"{asked['organization'] or 'somebody'}/{asked['name']}"
        if not self._token():
            self._error(401, "", "Invalid credentials in Authorization header")
            return
        if repo in self.hub.repositories:
            self._json({"url": f"{self.hub.url}/{repo}", "error": "exists already"}, 409)
            return
        private = asked.get("visibility") == "private"
        self.hub.repositories[repo] = Repository(private=private)
        self.hub.repositories[repo].commit({".gitattributes": b""})
        self._json({"url": f"{self.hub.url}/{repo}"})

    def _branch(self, repo: str, name: str) -> None:
        found = self.hub.repositories[repo]
        if name in found.refs:
            self._json({"error": "exists already"}, 409)
            return
        found.refs[name] = found.refs["main"]
        self._json({})

    def _preupload(self, repo: str, revision: str) -> None:
        if self._allowed(repo, revision):
            files = json.loads(self.body)["files"]
            self._json(
                {
                    "files": [
                        {
                            "path": file["path"],
                            "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                            "shouldIgnore": False,
                        }
                        for file in files
                    ]
                }
            )

    def _batch(self, repo: str) -> None:
        objects = json.loads(self.body)["objects"]
        self._json(
            {
                "transfer": "basic",
                "objects": [
                    {**one, "actions": {"upload": {"href": f"{self.hub.store_url}/{one['oid']}"}}}
                    for one in objects
                ],
            }
        )

    def _commit(self, repo: str, revision: str) -> None:
        before = self._allowed(repo, revision)
        if before is None:
            return
        if not self._token():
            self._error(401, "", "Invalid credentials in Authorization header")
            return
        found = self.hub.repositories[repo]
        files = dict(found.commits[before])
        for line in self.body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
            elif entry["key"] == "deletedFile":
                del files[value["path"]]
        commit = found.commit(files, revision)
        url = f"{self.hub.url}/{repo}/commit/{commit}"
        self._json({"success": True, "commitOid": commit, "commitUrl": url})


def files_of(folder: Path) -> dict[str, Content]:
    """The files of a folder by their names in a repository."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in files}


def _entry(name: str, content: Content) -> dict[str, Any]:
    digest, size = _sha256(content), _size(content)
    entry: dict[str, Any] = {"type": "file", "path": name, "size": size, "oid": digest[:40]}
    if name.endswith(LARGE):
        entry["lfs"] = {"oid": digest, "size": size, "pointerSize": 130}
    return entry


def _front_matter(card: Content) -> dict[str, Any]:
    text = (card if isinstance(card, bytes) else card.read_bytes()).decode()
    return yaml.safe_load(text.split("---")[1]) if text.startswith("---") else {}


def _size(content: Content) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _sha256(content: Content) -> str:
    data = content if isinstance(content, bytes) else content.read_bytes()
    return hashlib.sha256(data).hexdigest()
