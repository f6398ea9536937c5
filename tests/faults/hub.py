"""A small Hugging Face Hub of this machine: one dataset repository, and models, in memory.

tree       what is there            resolve              a file, or a range of it
revision   the repository           preupload, commit    files are added and deleted, whole

The files of a model are those of the folder that has its name; it has one revision, main. Those of
`CLOSED` are shown to who logs in.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

REPOSITORY = "datasets/someone/chats"
COMMIT = "0" * 40
CLOSED = {"someone/private": (401, "RepoNotFound"), "someone/gated": (403, "GatedRepo")}
"""Models that are not everybody's, and how the hub says so."""


class Handler(BaseHTTPRequestHandler):
    """Answers what `huggingface_hub` asks."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # the body follows the headers at once
    files: dict[str, bytes]

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, value: Any) -> None:
        self.send(json.dumps(value).encode(), **{"Content-Type": "application/json"})

    def send(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def missing(self) -> None:
        self.send(b"{}", 404, **{"X-Error-Code": "EntryNotFound"})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if found := re.fullmatch(rf"/api/{REPOSITORY}/tree/[^/]+/?(.*)", path):
            entries = self.entries(found[1])
            self.answer(entries) if entries else self.missing()
        elif found := re.fullmatch(rf"/{REPOSITORY}/resolve/[^/]+/(.*)", path):
            data = self.files.get(found[1])
            self.missing() if data is None else self.resolve(data)
        elif re.fullmatch(rf"/api/{REPOSITORY}(/revision/[^/]+)?", path):
            self.answer({"id": "someone/chats", "sha": COMMIT, "siblings": []})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/([^/]+)", path):
            self.model(*found.groups())
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.*)", path):
            self.resolve(self.files[f"{found[1]}/{found[2]}"])
        else:
            self.missing()

    def model(self, name: str, asked: str, revision: str) -> None:
        files = [self.entry(path) for path in self.files if path.startswith(f"{name}/")]
        closed = name in CLOSED and "Authorization" not in self.headers
        if not files or closed:
            status, code = CLOSED[name] if closed else (404, "RepoNotFound")
            self.send(b"{}", status, **{"X-Error-Code": code})
        elif revision not in {"main", COMMIT}:
            self.send(b"{}", 404, **{"X-Error-Code": "RevisionNotFound"})
        elif asked == "revision":
            self.answer({"id": name, "sha": COMMIT, "siblings": []})
        else:
            self.answer([{**file, "path": file["path"][len(name) + 1 :]} for file in files])

    def entries(self, folder: str) -> list[dict[str, Any]]:
        """List what is in a folder, or all that is below it if that was asked for."""
        prefix = f"{folder}/" if folder else ""
        below = [name[len(prefix) :] for name in self.files if name.startswith(prefix)]
        deep = "recursive=true" in self.path.lower()
        folders = {name.partition("/")[0] for name in below if "/" in name}
        return [
            *(self.entry(prefix + name) for name in below if deep or "/" not in name),
            *({"type": "directory", "path": prefix + name, "oid": COMMIT} for name in folders),
        ]

    def entry(self, name: str) -> dict[str, Any]:
        data = self.files[name]
        oid = hashlib.sha1(data).hexdigest()
        return {"type": "file", "path": name, "size": len(data), "oid": oid}

    def resolve(self, data: bytes) -> None:
        tag = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked:
            self.send(data, **tag)
            return
        start, last = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
        part = {**tag, "Content-Range": f"bytes {start}-{last}/{len(data)}"}
        self.send(data[start : last + 1], 206, **part)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            small = {"uploadMode": "regular", "shouldIgnore": False}
            self.answer({"files": [{"path": name, **small} for name in names]})
        elif "/commit/" in self.path:
            for line in body.splitlines():
                self.change(**json.loads(line))
            url = f"http://{self.headers['Host']}/{REPOSITORY}/commit/{COMMIT}"
            self.answer({"commitUrl": url, "commitOid": COMMIT})
        else:
            self.missing()

    def change(self, key: str, value: dict[str, Any]) -> None:
        if key == "file":
            self.files[value["path"]] = base64.b64decode(value["content"])
        elif key == "deletedFile":
            del self.files[value["path"]]
        else:
            assert key == "header", key


@contextlib.contextmanager
def hub() -> Iterator[tuple[str, dict[str, bytes]]]:
    """Serve an empty repository; yield the address and its files."""
    files: dict[str, bytes] = {}
    handler = type("Bound", (Handler,), {"files": files})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", files
        server.shutdown()
