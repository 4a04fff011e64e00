"""A hub on 127.0.0.1: what `huggingface_hub` asks a server, with errors on demand.

It speaks repository information, listings, downloads (ETag, LFS sha256, ranges) and commits
(preupload, LFS batch and upload, commit), so that the real client runs against it:

    hub.put("someone/saes", {"a/cfg.json": b"{}"})     # a commit; a directory will do, too
    hub.fail(r"/resolve/", 503, times=2)               # or "cut", "corrupt"
    hub.gated.add("someone/saes")
    hub.asked                                          # what was asked: "GET /api/models/…"

Errors that the real hub answers have its headers, because its client tells them apart by these.
"""

from __future__ import annotations

import hashlib
import re
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path

import attrs

from tests.hub_answers import Handler, sha1


@attrs.define
class Stored:
    """A repository: files by name for every commit, commits by branch."""

    commits: dict[str, dict[str, bytes]]
    branches: dict[str, str]


@attrs.define
class Failure:
    """What to answer instead to requests whose method and path match."""

    pattern: str
    kind: int | str
    times: int


class LocalHub:
    """The server and what it keeps."""

    def __init__(self):
        self.repositories: dict[str, Stored] = {}
        self.objects: dict[str, bytes] = {}
        self.gated: set[str] = set()
        self.page = 1000
        self.closed = False
        self.asked: list[str] = []
        self._failures: list[Failure] = []
        self._lock = threading.Lock()
        handler = type("BoundHandler", (Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        """Stop the server."""
        self.closed = True
        self._server.shutdown()
        self._server.server_close()

    def put(self, name, files, branch="main"):
        """Commit files (a mapping, or a directory) on top of what the branch has; its commit.

        None in a mapping deletes a file.
        """
        if isinstance(files, str | Path):
            root = Path(files)
            files = {
                one.relative_to(root).as_posix(): one.read_bytes()
                for one in sorted(root.rglob("*")) if one.is_file()
            }  # fmt: skip
        with self._lock:
            stored = self.repositories.setdefault(name, Stored({}, {}))
            before = stored.commits.get(stored.branches.get(branch, ""), {})
            content = {**before, **files}
            content = {n: one for n, one in content.items() if one is not None}
            text = "".join(f"{n}{sha1(content[n])}" for n in sorted(content)) + branch
            commit = hashlib.sha1(f"{len(stored.commits)}{text}".encode()).hexdigest()
            stored.commits[commit] = content
            stored.branches[branch] = commit
        return commit

    def fail(self, pattern, kind, times=1):
        """Answer the next requests that match "METHOD /path" with a status, "cut" or "corrupt"."""
        self._failures.append(Failure(pattern, kind, times))

    def failure(self, request):
        """The failure that is due for a request."""
        with self._lock:
            for one in self._failures:
                if one.times > 0 and re.search(one.pattern, request):
                    one.times -= 1
                    return one.kind
        return None


def connect(hub, directory, patch):
    """Let `huggingface_hub` in this process and its children use the hub and a cache of its own.

    Its constants are read from the environment when it is imported, which may be long ago.

    Args:
        hub: the server.
        directory: where the cache is kept.
        patch: pytest's monkeypatch.
    """
    from huggingface_hub import constants

    cache = Path(directory) / "huggingface"
    for name, value in {"HF_ENDPOINT": hub.url, "HF_HOME": cache, "HF_HUB_CACHE": cache / "hub",
                        "HF_HUB_DISABLE_XET": "1", "HF_TOKEN_PATH": cache / "token",
                        "HF_HUB_DISABLE_PROGRESS_BARS": "1"}.items():  # fmt: skip
        patch.setenv(name, str(value))
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HUGGING_FACE_HUB_TOKEN"):
        patch.delenv(name, raising=False)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    for name, value in {"ENDPOINT": hub.url, "HUGGINGFACE_CO_URL_TEMPLATE": template,
                        "HF_HOME": str(cache), "HF_HUB_CACHE": str(cache / "hub"),
                        "HF_TOKEN_PATH": str(cache / "token"), "HF_HUB_DISABLE_XET": True,
                        "HF_HUB_OFFLINE": False,
                        "HF_HUB_DISABLE_PROGRESS_BARS": True}.items():  # fmt: skip
        patch.setattr(constants, name, value)
