"""A hub repository at one commit, through the hub's own client and cache."""

from __future__ import annotations

import contextlib
import hashlib
import posixpath
import re
import time
import warnings
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from saecore.errors import ReleaseError, StorageError
from saecore.storage.files import write_bytes
from saecore.storage.hub_errors import describe_hub_error, is_transient, is_unreachable
from saecore.storage.repository import Repository, is_inside, normalized

T = TypeVar("T")

WAITS = (1.0, 2.0, 4.0)
"""Seconds to wait before each retry after a 429 or 5xx response."""


class Hub(Repository):
    """The files of a hub repository; downloaded files are served from the hub's cache.

    A branch or tag is resolved to its commit once, so all files are from one commit. Each download
    is verified against the hash that the hub lists; cached files are not verified again. Without a
    network, or with HF_HUB_OFFLINE set, the commit that was downloaded last is used.

    Args:
        name: `username/repo-name`.
        revision: branch, tag or commit; default: the main branch.
        force_download: download files even if they are cached.
        known: returns names of repositories, to suggest one if this name does not exist.
    """

    def __init__(
        self,
        name: str,
        revision: str | None = None,
        force_download: bool = False,
        known: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self._known = known
        self.name = name
        self.revision = revision
        self._force = force_download
        self._fresh: set[str] = set()  # names that this object has downloaded
        self._folders: dict[str, dict[str, str]] = {}

    @cached_property
    def commit(self) -> str:
        """The commit of the revision."""
        return self._commit_and_cached[0]

    @cached_property
    def _commit_and_cached(self) -> tuple[str, Path | None]:
        """The commit and, without a network, the cache directory that holds it."""
        from huggingface_hub import constants

        if constants.HF_HUB_OFFLINE:
            return self._from_cache("HF_HUB_OFFLINE is set")
        try:
            info = self._asked(lambda api: api.model_info(self.name, revision=self.revision))
        except Exception as error:
            if not is_unreachable(error):
                raise describe_hub_error(error, self.name, self.revision, self._known()) from error
            cached = self._from_cache(f"{constants.ENDPOINT} cannot be reached")
            warnings.warn(
                f"{constants.ENDPOINT} cannot be reached; {self.name} is read from the cache, "
                f"commit {cached[0][:12]}",
                stacklevel=2,
            )
            return cached
        return str(info.sha), None

    def _from_cache(self, reason: str) -> tuple[str, Path]:
        """The commit that was downloaded last, and its directory in the cache."""
        from huggingface_hub import snapshot_download

        try:
            path = Path(snapshot_download(self.name, revision=self.revision, local_files_only=True))
        except Exception as error:
            at = f" at revision {self.revision}" if self.revision else ""
            raise ReleaseError(
                f"{self.name}: {reason}, and it is not in the cache{at}; load it once with a "
                "network, or give a directory"
            ) from error
        return path.name, path

    def _asked(self, call: Callable[[Any], T]) -> T:
        """Call the hub's client, with retries."""
        return asked(call)

    def has(self, name: str) -> bool:
        """Whether a file of this name exists; only its folder is listed."""
        name = normalized(name)
        return name in self._folder(posixpath.dirname(name))

    def _list(self) -> list[str]:
        cached = self._commit_and_cached[1]
        if cached is not None:
            return [
                file.relative_to(cached).as_posix() for file in cached.rglob("*") if file.is_file()
            ]
        return list(self._hashes("", recursive=True))

    def _folder(self, folder: str) -> dict[str, str]:
        """Hashes of the files in a folder, by name."""
        cached = self._commit_and_cached[1]
        if cached is not None:
            entries = (cached / folder).iterdir() if (cached / folder).is_dir() else ()
            return {file.relative_to(cached).as_posix(): "" for file in entries if file.is_file()}
        if folder not in self._folders:
            self._folders[folder] = self._hashes(folder, recursive=False)
        return self._folders[folder]

    def _hashes(self, folder: str, recursive: bool) -> dict[str, str]:
        """Hashes of the files in a folder as the hub lists them, by name."""
        from huggingface_hub.errors import EntryNotFoundError
        from huggingface_hub.hf_api import RepoFile

        def ask(api: Any) -> list[Any]:
            return list(api.list_repo_tree(self.name, folder or None, recursive=recursive,
                                           revision=self.commit))  # fmt: skip

        try:
            rows = self._asked(ask)
        except EntryNotFoundError:  # no such folder
            return {}
        except Exception as error:
            raise describe_hub_error(error, self.name, self.revision, self._known()) from error
        return {
            row.path: row.lfs.sha256 if row.lfs is not None else row.blob_id
            for row in rows
            if isinstance(row, RepoFile)
        }

    def _fetch(self, name: str) -> Path:
        from huggingface_hub import constants, try_to_load_from_cache
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        cached = self._commit_and_cached[1]
        if cached is not None:
            if not (cached / name).is_file():
                reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "no network"
                raise ReleaseError(
                    f"{self.name}: {name} is not in the cache ({reason}); load it once with a "
                    "network"
                )
            return cached / name
        local = try_to_load_from_cache(self.name, name, revision=self.commit)
        force = self._force and name not in self._fresh
        if isinstance(local, str) and not force:
            return Path(local)
        # List first: a missing name then costs no further request.
        expected = self._folder(posixpath.dirname(name)).get(name)
        if expected is None:
            raise self.missing(name)
        try:
            path = Path(
                self._asked(
                    lambda api: api.hf_hub_download(
                        self.name, name, revision=self.commit, force_download=force
                    )
                )
            )
        except EntryNotFoundError as error:
            if isinstance(error, LocalEntryNotFoundError):
                raise describe_hub_error(
                    error, f"{self.name}/{name}", self.revision, self._known()
                ) from error
            raise self.missing(name) from None
        except Exception as error:
            raise describe_hub_error(
                error, f"{self.name}/{name}", self.revision, self._known()
            ) from error
        self._verify(path, name, expected)
        self._fresh.add(name)
        self._remember()
        return path

    def _remember(self) -> None:
        """Record the revision's commit in the cache, for loads without a network.

        The client records it when called with a branch, but then asks about every file again.
        """
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        revision = self.revision or constants.DEFAULT_REVISION
        folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(
            repo_id=self.name, repo_type="model"
        )
        ref = folder / "refs" / revision
        if revision == self.commit or not is_inside(revision):
            return
        with contextlib.suppress(OSError, StorageError):  # the cache may be read-only
            ref.parent.mkdir(parents=True, exist_ok=True)
            if not ref.exists() or ref.read_text() != self.commit:
                write_bytes(ref, self.commit.encode())

    def _verify(self, path: Path, name: str, expected: str) -> None:
        """Compare a download with the hash that the hub lists; delete it if they differ."""
        try:
            got = digest(path, expected)
        except BaseException:
            _remove(path)  # unverified
            raise
        if got != expected:
            _remove(path)
            raise ReleaseError(
                f"{self.name}/{name}: the download does not match the hash that the hub lists (got "
                f"{got[:12]}…, expected {expected[:12]}…); it was deleted, try again"
            )


def asked(call: Callable[[Any], T], token: str | None = None) -> T:
    """Call the hub's client, and retry while the hub is busy.

    Args:
        call: the call, a function of the client.
        token: access token; default: that of the user who is logged in.

    Returns:
        The result of the call.
    """
    from huggingface_hub import HfApi

    for wait in WAITS:
        try:
            return call(HfApi(token=token))
        except Exception as error:
            if not is_transient(error):
                raise
        time.sleep(wait)
    return call(HfApi(token=token))


def digest(path: Path, like: str) -> str:
    """The hash of a file, of the kind of `like`: sha256 (LFS) or git's sha1."""
    if re.fullmatch(r"[0-9a-f]{64}", like):
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    sha1 = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(2**20):
            sha1.update(block)
    return sha1.hexdigest()


def _remove(path: Path) -> None:
    """Delete a file from the cache: the snapshot's link and its target."""
    target = path.resolve()
    path.unlink(missing_ok=True)
    target.unlink(missing_ok=True)
