"""What the local hub of tests/hub.py answers: one method a kind of request."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from tests.hub import LocalHub

LFS = (".safetensors", ".npz", ".pt", ".pth", ".bin")
"""Ends of names that are kept as LFS files, whose ETag is a sha256."""
BAD_TOKEN = "hf_expired"
"""The one token that is not accepted."""


def sha1(data):
    """Git's name of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def identity(name, data):
    """The ETag of a file."""
    return hashlib.sha256(data).hexdigest() if name.endswith(LFS) else sha1(data)


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    hub: LocalHub

    def log_message(self, format, *args):
        """Say nothing."""

    def do_GET(self):
        """Information, listings, downloads."""
        self._route("GET")

    def do_HEAD(self):
        """What a download would give."""
        self._route("HEAD")

    def do_POST(self):
        """Uploads."""
        self._route("POST")

    def do_PUT(self):
        """Content of an LFS file."""
        self._route("PUT")

    def _route(self, method):
        if self.hub.closed:  # on a connection that was kept
            self.close_connection = True
            return None
        url = urlsplit(self.path)
        path = unquote(url.path)
        self.query = parse_qs(url.query)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.asked.append(f"{method} {path}")
        self.failing = self.hub.failure(f"{method} {path}")
        if isinstance(self.failing, int):
            return self._answer({"error": "on demand"}, self.failing)
        if self.headers.get("Authorization", "").endswith(BAD_TOKEN):
            words = {"X-Error-Message": "Invalid credentials in Authorization header"}
            return self._answer({"error": "token"}, 401, words)
        for pattern, answer in ROUTES[method]:
            match = re.fullmatch(pattern, path)
            if match is not None:
                return answer(self, *match.groups())
        return self._answer({"error": "no such route"}, 404)

    # -- answers -------------------------------------------------------------------------------

    def _answer(self, value, status=200, headers=None):
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _error(self, status, code, message, headers=None):
        words = {"X-Error-Code": code, "X-Error-Message": message, **(headers or {})}
        self._answer({"error": message}, status, words)

    def _files(self, name, revision, gate=False):
        """The commit and its files; None where the answer was an error."""
        stored = self.hub.repositories.get(name)
        if stored is None:
            return self._error(404, "RepoNotFound", "Repository not found")
        if gate and name in self.hub.gated and "Authorization" not in self.headers:
            return self._error(401, "GatedRepo", f"Access to model {name} is restricted.")
        if gate and name in self.hub.gated:
            return self._error(403, "GatedRepo", f"You are not in the authorized list of {name}.")
        commit = stored.branches.get(revision, revision)
        if commit not in stored.commits:
            return self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit, stored.commits[commit]

    # -- reading -------------------------------------------------------------------------------

    def info(self, name, revision=None):
        """Repository information."""
        found = self._files(name, revision or "main")
        if found is not None:
            commit, files = found
            siblings = [{"rfilename": one} for one in sorted(files)]
            self._answer({"id": name, "modelId": name, "sha": commit, "private": False,
                          "gated": name in self.hub.gated, "tags": [], "downloads": 0, "likes": 0,
                          "siblings": siblings})  # fmt: skip

    def tree(self, name, revision, folder=None):
        """A listing, page by page."""
        found = self._files(name, revision)
        if found is None:
            return None
        commit, files = found
        start = f"{folder}/" if folder else ""
        inside = {one: data for one, data in files.items() if one.startswith(start)}
        if folder and not inside:
            return self._error(404, "EntryNotFound", f"{folder} does not exist on {revision!r}",
                               {"X-Repo-Commit": commit})  # fmt: skip
        rows, folders = [], set()
        recursive = self.query.get("recursive", ["false"])[0].lower() == "true"
        for one, data in sorted(inside.items()):
            rest = one.removeprefix(start)
            folders.update(start + rest[: m.start()] for m in re.finditer("/", rest))
            if recursive or "/" not in rest:
                rows.append(self._row(one, data))
        if not recursive:
            folders = {one for one in folders if "/" not in one.removeprefix(start)}
        rows += [
            {"type": "directory", "oid": sha1(f.encode()), "size": 0, "path": f} for f in folders
        ]
        at = int(self.query.get("cursor", ["0"])[0])
        headers = {}
        if at + self.hub.page < len(rows):
            more = f"{self.hub.url}{urlsplit(self.path).path}?recursive={recursive}"
            headers["Link"] = f'<{more}&cursor={at + self.hub.page}>; rel="next"'
        return self._answer(rows[at : at + self.hub.page], headers=headers)

    def _row(self, name, data):
        row = {"type": "file", "oid": sha1(data), "size": len(data), "path": name}
        if name.endswith(LFS):
            sha = hashlib.sha256(data).hexdigest()
            row["lfs"] = {"oid": sha, "size": len(data), "pointerSize": 134}
        return row

    def resolve(self, name, revision, file):
        """A file, whole or in part, whole or damaged."""
        found = self._files(name, revision, gate=True)
        if found is None:
            return None
        commit, files = found
        if file not in files:
            return self._error(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
        data, tag = files[file], identity(file, files[file])
        headers = {"X-Repo-Commit": commit, "ETag": f'"{tag}"', "Accept-Ranges": "bytes"}
        if file.endswith(LFS):
            headers |= {"X-Linked-Etag": f'"{tag}"', "X-Linked-Size": str(len(data))}
        if self.failing == "corrupt" and self.command == "GET":
            data = data[:-1] + bytes([data[-1] ^ 255])
        status, match = 200, re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if match is not None:
            first, last = int(match[1]), min(int(match[2] or len(data) - 1), len(data) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            data, status = data[first : last + 1], 206
        if self.failing == "cut" and self.command == "GET":
            self.send_response(status)
            for one, text in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(one, text)
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            return None
        return self._answer(data, status, headers)

    # -- writing -------------------------------------------------------------------------------

    def _refused(self):
        """Whether this request came without a token, which the answer then says."""
        if "Authorization" not in self.headers:
            self._answer({"error": "log in"}, 401, {"X-Error-Message": "Invalid username"})
            return True
        return False

    def whoami(self):
        """Who the token belongs to."""
        if not self._refused():
            self._answer({"type": "user", "name": "username", "auth": {"type": "access_token"}})

    def create(self):
        """A new repository; an existing one is a conflict, which clients may ignore."""
        if self._refused():
            return
        wanted = json.loads(self.body)
        name = f"{wanted.get('organization') or 'username'}/{wanted['name']}"
        there = name in self.hub.repositories
        if not there:
            self.hub.put(name, {".gitattributes": b""})
        self._answer({"url": f"{self.hub.url}/{name}", "id": name}, 409 if there else 200)

    def preupload(self, name, revision):
        """Which files are to be uploaded as LFS files."""
        found = None if self._refused() else self._files(name, revision)
        if found is None:
            return
        rows = [
            {"path": one["path"], "shouldIgnore": False,
             "uploadMode": "lfs" if one["path"].endswith(LFS) else "regular",
             "oid": sha1(found[1][one["path"]]) if one["path"] in found[1] else None}
            for one in json.loads(self.body)["files"]
        ]  # fmt: skip
        self._answer({"files": rows})

    def batch(self, name):
        """Where to upload LFS files that are not here yet."""
        if self._refused():
            return
        rows = []
        for one in json.loads(self.body)["objects"]:
            row = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in self.hub.objects:
                row["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/{one['oid']}"}}
            rows.append(row)
        self._answer({"transfer": "basic", "objects": rows})

    def upload(self, oid):
        """The content of an LFS file, refused where it is not what was announced."""
        if hashlib.sha256(self.body).hexdigest() != oid:
            return self._answer({"error": "another sha256"}, 400)
        self.hub.objects[oid] = self.body
        return self._answer(b"")

    def commit(self, name, revision):
        """A commit of lines of JSON."""
        found = None if self._refused() else self._files(name, revision)
        if found is None:
            return None
        files = {}
        for line in map(json.loads, self.body.splitlines()):
            value = line["value"]
            parent = value.get("parentCommit") if line["key"] == "header" else None
            if parent not in (None, found[0]):
                return self._answer({"error": "A commit has happened since"}, 412)
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                files[value["path"]] = None
            elif line["key"] == "deletedFolder":
                files |= {one: None for one in found[1] if one.startswith(value["path"])}
        commit = self.hub.put(name, files, revision)
        return self._answer({"success": True, "commitOid": commit, "pullRequestUrl": None,
                      "commitUrl": f"{self.hub.url}/{name}/commit/{commit}"})  # fmt: skip

    def valid(self):
        """The header of a model card."""
        self._answer({"errors": [], "warnings": []})


NAME = r"([\w.-]+/[\w.-]+)"
ROUTES = {
    "GET": [
        (rf"/api/models/{NAME}", Handler.info),
        (rf"/api/models/{NAME}/revision/(.+)", Handler.info),
        (rf"/api/models/{NAME}/tree/([^/]+)(?:/(.+))?", Handler.tree),
        (r"/api/whoami-v2", Handler.whoami),
        (rf"/{NAME}/resolve/([^/]+)/(.+)", Handler.resolve),
    ],
    "HEAD": [(rf"/{NAME}/resolve/([^/]+)/(.+)", Handler.resolve)],
    "POST": [
        (r"/api/repos/create", Handler.create),
        (r"/api/validate-yaml", Handler.valid),
        (rf"/api/models/{NAME}/preupload/([^/]+)", Handler.preupload),
        (rf"/api/models/{NAME}/commit/([^/]+)", Handler.commit),
        (rf"/{NAME}\.git/info/lfs/objects/batch", Handler.batch),
    ],
    "PUT": [(r"/lfs/([0-9a-f]{64})", Handler.upload)],
}
"""Patterns of paths by method, and what answers them."""
