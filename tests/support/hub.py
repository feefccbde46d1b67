"""A hub on the loopback address: what huggingface_hub 2.4 asks for when it downloads a model.

It answers `/api/models/ID[/revision/REV]`, `/api/models/ID/tree/REV` and `/ID/resolve/REV/FILE`
(HEAD and GET, with ranges; weights are redirected to another address, as the real hub does), with
the real hub's headers and error codes. Every request is kept in `asked`.
"""

import hashlib
import json
import re
import socket
import struct
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

WEIGHTS = (".safetensors", ".gguf", ".bin", ".pth", ".pt")
"""Endings of files that the hub keeps apart and redirects to."""
_API = re.compile(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/(.+))?")
_FILE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
_CONTENT = re.compile(r"/(?:[^/]+/[^/]+/resolve|cdn)/[^/]+/(.+)")


@dataclass
class Repository:
    """A repository: revision -> its files by path."""

    revisions: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: bool = False
    """Whether its files are refused; its description is not."""

    def commit(self, revision: str) -> str | None:
        """The commit of a branch, tag or commit; None if there is none."""
        for name, files in self.revisions.items():
            content = [(path, hashlib.sha256(data).hexdigest()) for path, data in files.items()]
            sha = hashlib.sha1(json.dumps(sorted(content)).encode()).hexdigest()
            if revision in (name, sha):
                return sha
        return None

    def files(self, revision: str) -> dict[str, bytes]:
        """The files at a branch, tag or commit."""
        sha = self.commit(revision)
        return next(files for name, files in self.revisions.items() if self.commit(name) == sha)


@dataclass
class Hub:
    """The server and what it holds."""

    address: str
    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    """(method, path, range) of every request, in order."""
    breaks: dict[str, list[str]] = field(default_factory=dict)
    """Path of a file -> how its next answers break off: `close` or `reset`."""
    status: int | None = None
    """Answer of every request, such as 503; None: the true one."""

    def upload(self, name: str, folder: Path, revision: str = "main", inside: str = "") -> None:
        """Add a folder's files to a repository, in a folder of it if one is named."""
        files = self.repositories.setdefault(name, Repository()).revisions.setdefault(revision, {})
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                files[inside + path.relative_to(folder).as_posix()] = path.read_bytes()

    def gets(self, ending: str = "") -> list[str]:
        """Paths of the files whose content was asked for, by the ending of their names."""
        found = (_CONTENT.fullmatch(path) for method, path, _ in self.asked if method == "GET")
        return [match[1] for match in found if match and match[1].endswith(ending)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_):
        """Say nothing."""

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path, self.headers.get("Range")))
        if self.hub.status:
            return self._fail(self.hub.status)
        if match := _API.fullmatch(path):
            return self._describe(*match.groups())
        if path.startswith("/cdn/"):
            return self._serve(*path.removeprefix("/cdn/").partition("/")[::2])
        if match := _FILE.fullmatch(path):
            return self._resolve(*match.groups())
        return self._fail(404)

    def _describe(self, name: str, what: str | None, revision: str | None) -> None:
        repository = self.hub.repositories.get(name)
        if repository is None:
            return self._fail(401)  # the hub does not say whether it is private
        sha = repository.commit(revision or "main")
        if sha is None:
            return self._fail(404, "RevisionNotFound")
        files = repository.files(sha)
        if what == "tree":
            return self._json([_entry(path, data) for path, data in files.items()])
        siblings = [{"rfilename": path} for path in files]
        return self._json({"id": name, "modelId": name, "sha": sha, "siblings": siblings})

    def _resolve(self, name: str, revision: str, file: str) -> None:
        repository = self.hub.repositories.get(name)
        if repository is None:
            return self._fail(401, "RepoNotFound")
        if repository.gated:
            return self._fail(403, "GatedRepo")
        sha = repository.commit(revision)
        if sha is None:
            return self._fail(404, "RevisionNotFound")
        data = repository.files(sha).get(file)
        if data is None:
            return self._fail(404, "EntryNotFound", {"X-Repo-Commit": sha})
        own = {"X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        if not file.endswith(WEIGHTS):
            return self._send(data, own | {"ETag": f'"{_blob(data)}"'}, file)
        digest = hashlib.sha256(data).hexdigest()
        own |= {"X-Linked-Size": str(len(data)), "X-Linked-Etag": f'"{digest}"'}
        # Another host, as the real one: a redirect to the same host would be followed at once.
        elsewhere = self.hub.address.replace("127.0.0.1", "localhost")
        own["Location"] = f"{elsewhere}/cdn/{digest}/{file}"
        return self._reply(302, own, b"")

    def _serve(self, digest: str, file: str) -> None:
        held = (
            data
            for repository in self.hub.repositories.values()
            for files in repository.revisions.values()
            for data in files.values()
        )
        data = next(one for one in held if hashlib.sha256(one).hexdigest() == digest)
        self._send(data, {"ETag": f'"{digest}"', "Accept-Ranges": "bytes"}, file)

    def _send(self, data: bytes, headers: dict[str, str], file: str) -> None:
        status, part = 200, data
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if asked:
            status, part = 206, data[int(asked[1]) :]
            headers["Content-Range"] = f"bytes {asked[1]}-{len(data) - 1}/{len(data)}"
        breaks = self.hub.breaks.get(file)
        how = breaks.pop(0) if breaks and self.command == "GET" else None
        self._reply(status, headers, part, how)

    def _reply(self, status: int, headers: dict, body: bytes, how: str | None = None) -> None:
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body[: len(body) // 2] if how else body)
        self.wfile.flush()
        if how:
            self.close_connection = True
        if how == "reset":  # closing with unsent time 0 sends a reset instead of an end
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def _json(self, content: object) -> None:
        self._reply(200, {"Content-Type": "application/json"}, json.dumps(content).encode())

    def _fail(self, status: int, code: str | None = None, headers: dict | None = None) -> None:
        self._reply(status, ({"X-Error-Code": code} if code else {}) | (headers or {}), b"")


def _blob(data: bytes) -> str:
    """git's name of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _entry(path: str, data: bytes) -> dict:
    entry = {"type": "file", "path": path, "size": len(data), "oid": _blob(data)}
    if path.endswith(WEIGHTS):
        digest = hashlib.sha256(data).hexdigest()
        entry["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 134}
    return entry


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty hub that this process's client asks, with an empty cache."""
    from huggingface_hub import constants

    handler = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    address = f"http://127.0.0.1:{server.server_port}"
    handler.hub = Hub(address)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache" / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield handler.hub
    server.shutdown()
    server.server_close()
    thread.join()
