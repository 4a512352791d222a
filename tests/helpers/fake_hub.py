"""A Hugging Face Hub of a few model repositories on 127.0.0.1, to test downloads and uploads without a network.

It serves what `huggingface_hub` and `diffusers` ask for when they load a model: model info, the listing of files and
the files themselves, for branches and commits, with the Hub's own headers and errors; and it takes what they send when
they create a repository and commit a folder to it. Large-file storage and tokens are left out.
"""

import base64
import hashlib
import json
import re
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import huggingface_hub
from huggingface_hub import constants, hf_api

Files = dict[str, bytes]

_API = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)(/(?P<kind>revision|tree)/(?P<revision>[^/]+))?$")
_WRITE = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/(?P<kind>preupload|commit)/(?P<branch>[^/]+)$")
_RESOLVE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)$")


class FakeHub:
    """The server and its repositories; use it in a ``with`` statement.

    Attributes:
        endpoint: Its address, for ``HF_ENDPOINT``.
        requests: What was asked for, as ``"GET /path"``, in order.
        cut_connections: Ending of file names whose download breaks off halfway, every time; none by default.
    """

    def __init__(self):
        self.commits: dict[str, dict[str, Files]] = {}  # repository -> commit -> files
        self.branches: dict[str, dict[str, str]] = {}  # repository -> branch -> commit
        self.requests: list[str] = []
        self.cut_connections: str | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "FakeHub":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def stop(self) -> None:
        """Go down: connections are refused from now on."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def push(self, repo: str, folder: Path, branch: str = "main") -> str:
        """Commit the files of a folder to a branch; return the commit's hash."""
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return self.commit(repo, {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}, branch)

    def files(self, repo: str, branch: str = "main") -> Files:
        """The files of a branch."""
        return self.commits[repo][self.branches[repo][branch]]

    def commit(self, repo: str, files: Files, branch: str = "main") -> str:
        """Make these files the newest commit of a branch; return its hash."""
        commit = hashlib.sha1(repr(sorted((name, _etag(data)) for name, data in files.items())).encode()).hexdigest()
        self.commits.setdefault(repo, {})[commit] = files
        self.branches.setdefault(repo, {})[branch] = commit
        return commit

    def connect(self, monkeypatch, cache: Path) -> None:
        """Make this process talk to this Hub and keep what it downloads in a cache of its own.

        `huggingface_hub` reads ``HF_ENDPOINT`` and ``HF_HOME`` once, when it is imported, so what it read is replaced.
        """
        monkeypatch.setattr(constants, "ENDPOINT", self.endpoint)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", self.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(hf_api.api, "endpoint", self.endpoint)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        huggingface_hub.close_session()

    def environment(self, home: Path) -> dict[str, str]:
        """Environment variables by which another process talks to this Hub, with a cache of its own."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1",
        }


class _Handler(BaseHTTPRequestHandler):
    # HTTP/1.0, the default: a connection per request, so that none outlives the server.

    def __init__(self, hub: FakeHub, *args):
        self.hub = hub
        super().__init__(*args)

    def log_message(self, *_) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        """Create a repository, say that no file is large, or take a commit."""
        self.hub.requests.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.path == "/api/validate-yaml":
            return self._send_json({"errors": [], "warnings": []})
        if self.path == "/api/repos/create":
            request = json.loads(body)
            repo = f"{request.get('organization') or 'me'}/{request['name']}"
            if repo not in self.hub.commits:
                self.hub.commit(repo, {})
            return self._send_json({"url": f"{self.hub.endpoint}/{repo}"})
        match = _WRITE.match(unquote(urlsplit(self.path).path))
        if match is None or match["repo"] not in self.hub.commits:
            return self._send_error("RepoNotFound")
        if match["kind"] == "preupload":
            names = [file["path"] for file in json.loads(body)["files"]]
            regular = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
            return self._send_json({"files": regular})
        files = dict(self.hub.files(match["repo"], match["branch"]))
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            elif line["key"] == "deletedFile":
                del files[line["value"]["path"]]
        commit = self.hub.commit(match["repo"], files, match["branch"])
        url = f"{self.hub.endpoint}/{match['repo']}/commit/{commit}"
        return self._send_json({"commitUrl": url, "commitOid": commit, "success": True})

    def _answer(self) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        path = unquote(urlsplit(self.path).path)
        match = _API.match(path) or _RESOLVE.match(path)
        if match is None or match["repo"] not in self.hub.commits:
            return self._send_error("RepoNotFound")
        revision = match["revision"] or "main"
        commit = self.hub.branches[match["repo"]].get(revision, revision)
        files = self.hub.commits[match["repo"]].get(commit)
        if files is None:
            return self._send_error("RevisionNotFound")
        if match.re is _RESOLVE:
            return self._send_file(match["path"], files, commit)
        if match["kind"] == "tree":
            return self._send_json(
                [{"type": "file", "path": name, "size": len(data), "oid": _etag(data)} for name, data in files.items()]
            )
        siblings = [{"rfilename": name} for name in files]
        return self._send_json({"id": match["repo"], "sha": commit, "siblings": siblings, "tags": []})

    def _send_json(self, content) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send_error(self, code: str, **headers: str) -> None:
        self._send(404, b"", {"X-Error-Code": code, "X-Error-Message": f"fake hub: {code}", **headers})

    def _send_file(self, path: str, files: Files, commit: str) -> None:
        if path not in files:
            return self._send_error("EntryNotFound", **{"X-Repo-Commit": commit})
        headers = {"X-Repo-Commit": commit, "ETag": f'"{_etag(files[path])}"'}
        data, status = files[path], 200
        if byte_range := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start = int(byte_range[1])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            data, status = data[start:], 206
        cut = self.command == "GET" and self.hub.cut_connections and path.endswith(self.hub.cut_connections)
        self._send(status, data, headers, sent=len(data) // 2 if cut else None)

    def _send(self, status: int, data: bytes, headers: dict[str, str], sent: int | None = None) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[:sent])


def _etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
