"""A repository of the hub at one commit, through the hub's own client and cache."""

from __future__ import annotations

import contextlib
import hashlib
import posixpath
import re
import time
import warnings
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from saecore.errors import CheckpointError, ReleaseError
from saecore.files import write_bytes
from saecore.releases.hub_errors import explained, is_transient, is_unreachable
from saecore.releases.repository import Repository, inside, plain

T = TypeVar("T")

WAITS = (1.0, 2.0, 4.0)
"""Seconds before asking again after an answer of 429 or 5xx."""


class Hub(Repository):
    """The files of a hub repository; what was downloaded once is served from the hub's cache.

    A branch or tag is resolved to its commit once, so that all files are of one state. Every file
    is compared with the hash that the hub lists for it when it is downloaded, and not again.
    Without a network, or with HF_HUB_OFFLINE set, the state that was downloaded last is used.

    Args:
        name: `username/repo-name`.
        revision: branch, tag or commit; default: the main branch.
        force_download: download again what is in the cache.
    """

    def __init__(
        self, name: str, revision: str | None = None, force_download: bool = False
    ) -> None:
        self.name = name
        self.revision = revision
        self._force = force_download
        self._fresh: set[str] = set()  # downloaded by this object already
        self._folders: dict[str, dict[str, str]] = {}

    @cached_property
    def commit(self) -> str:
        """The commit that the revision stands for."""
        return self._commit_and_cached[0]

    @cached_property
    def _commit_and_cached(self) -> tuple[str, Path | None]:
        """The commit and, where there is no network, the directory of the cache that holds it."""
        from huggingface_hub import constants

        if constants.HF_HUB_OFFLINE:
            return self._from_cache("HF_HUB_OFFLINE is set")
        try:
            info = self._asked(lambda api: api.model_info(self.name, revision=self.revision))
        except Exception as error:
            if not is_unreachable(error):
                raise explained(error, self.name, self.revision) from error
            found = self._from_cache(f"{constants.ENDPOINT} cannot be reached")
            warnings.warn(
                f"{constants.ENDPOINT} cannot be reached; {self.name} is read from the cache, "
                f"commit {found[0][:12]}",
                stacklevel=2,
            )
            return found
        return str(info.sha), None

    def _from_cache(self, why: str) -> tuple[str, Path]:
        from huggingface_hub import snapshot_download

        try:
            path = Path(snapshot_download(self.name, revision=self.revision, local_files_only=True))
        except Exception as error:
            at = f" at revision {self.revision}" if self.revision else ""
            raise ReleaseError(
                f"{self.name}: {why}, and nothing of it{at} is in the cache; load it once with a "
                "network, or give a directory"
            ) from error
        return path.name, path

    def _asked(self, call: Callable[[Any], T]) -> T:
        """Ask the hub, again where it is busy."""
        return asked(call)

    def has(self, name: str) -> bool:
        """Whether there is a file of this name; only its folder is listed."""
        name = plain(name)
        return name in self._folder(posixpath.dirname(name))

    def _list(self) -> list[str]:
        cached = self._commit_and_cached[1]
        if cached is not None:
            return [one.relative_to(cached).as_posix() for one in cached.rglob("*")
                    if one.is_file()]  # fmt: skip
        return list(self._hashes("", recursive=True))

    def _folder(self, folder: str) -> dict[str, str]:
        """Names of the files in a folder, and the hash that the hub lists for each."""
        cached = self._commit_and_cached[1]
        if cached is not None:
            inside = (cached / folder).iterdir() if (cached / folder).is_dir() else ()
            return {one.relative_to(cached).as_posix(): "" for one in inside if one.is_file()}
        if folder not in self._folders:
            self._folders[folder] = self._hashes(folder, recursive=False)
        return self._folders[folder]

    def _hashes(self, folder: str, recursive: bool) -> dict[str, str]:
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
            raise explained(error, self.name, self.revision) from error
        return {
            one.path: one.lfs.sha256 if one.lfs is not None else one.blob_id
            for one in rows
            if isinstance(one, RepoFile)
        }

    def _fetch(self, name: str) -> Path:
        from huggingface_hub import constants, try_to_load_from_cache
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        cached = self._commit_and_cached[1]
        if cached is not None:
            if not (cached / name).is_file():
                why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "no network"
                raise ReleaseError(
                    f"{self.name}: {name} is not in the cache ({why}); load it once with a network"
                )
            return cached / name
        found = try_to_load_from_cache(self.name, name, revision=self.commit)
        force = self._force and name not in self._fresh
        if isinstance(found, str) and not force:
            return Path(found)
        # Listed first: a name that is not there costs no further request.
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
                raise explained(error, f"{self.name}/{name}", self.revision) from error
            raise self.missing(name) from None
        except Exception as error:
            raise explained(error, f"{self.name}/{name}", self.revision) from error
        self._verify(path, name, expected)
        self._fresh.add(name)
        self._remember()
        return path

    def _remember(self) -> None:
        """Note in the cache what the revision stood for, for loads without a network.

        The client does so where it is given a branch, but then asks about every file again.
        """
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        revision = self.revision or constants.DEFAULT_REVISION
        folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(
            repo_id=self.name, repo_type="model"
        )
        note = folder / "refs" / revision
        if revision == self.commit or not inside(revision):
            return
        with contextlib.suppress(OSError, CheckpointError):  # a cache that is read-only otherwise
            note.parent.mkdir(parents=True, exist_ok=True)
            if not note.exists() or note.read_text() != self.commit:
                write_bytes(note, self.commit.encode())

    def _verify(self, path: Path, name: str, expected: str) -> None:
        """Compare a download with the hash that the hub lists, and remove it if it is another."""
        try:
            got = digest(path, expected)
        except BaseException:
            _remove(path)  # not known to be good
            raise
        if got != expected:
            _remove(path)
            raise ReleaseError(
                f"{self.name}/{name}: what was downloaded is not what the hub lists (hash "
                f"{got[:12]}…, expected {expected[:12]}…); it was removed, try again"
            )


def asked(call: Callable[[Any], T], token: str | None = None) -> T:
    """What the hub answers to a call of its client, asked again where it is busy.

    Args:
        call: takes the client.
        token: who asks; default: whoever is logged in.
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
    """The hash of a file: sha256 as LFS has it, or git's sha1, by the length of `like`."""
    if re.fullmatch(r"[0-9a-f]{64}", like):
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    made = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(2**20):
            made.update(block)
    return made.hexdigest()


def _remove(path: Path) -> None:
    """Remove a file of the cache: the link of the snapshot and the content it leads to."""
    target = path.resolve()
    path.unlink(missing_ok=True)
    target.unlink(missing_ok=True)
