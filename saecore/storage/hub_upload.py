"""Upload files to a hub repository in one commit, without replacing any by accident."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from saecore.errors import ConflictError, ReleaseError
from saecore.storage.hub import asked, digest
from saecore.storage.hub_errors import not_written
from saecore.storage.repository import is_inside

README = "README.md"


@attrs.frozen(kw_only=True)
class Published:
    """The result of an upload."""

    repository: str
    """`username/repo-name`."""
    commit: str
    """The commit that contains all files."""
    url: str
    """The repository's page."""
    files: tuple[str, ...]
    """Names that this commit changed; none if everything was up to date."""
    size: int
    """Size of all files in bytes, unchanged ones included."""
    notes: tuple[str, ...] = ()
    """What the user should know, one line each."""


@attrs.frozen(kw_only=True)
class Target:
    """A repository to upload to.

    Raises:
        ReleaseError: not a valid repository name.
    """

    name: str = attrs.field()
    """`username/repo-name`; created if it does not exist."""
    token: str | None = attrs.field(default=None, repr=False)
    """Access token; default: that of the user who is logged in (`hf auth login`, or HF_TOKEN)."""
    revision: str | None = None
    """The branch; default: the main one."""
    private: bool = False
    """Whether to make a new repository private."""

    @name.validator
    def _check(self, attribute: Any, value: str) -> None:
        part = r"[A-Za-z0-9][\w.-]{0,95}"
        if re.fullmatch(rf"{part}/{part}", str(value), re.ASCII) is None:
            raise ReleaseError(f"{value}: not a valid repository name; expected username/repo-name")

    def _ask(self, call: Callable[[Any], Any]) -> Any:
        try:
            return asked(call, self.token)
        except Exception as error:
            raise not_written(error, self.name, self.revision) from error

    def contents(self) -> tuple[str | None, dict[str, str]]:
        """The latest commit and the hash of every file; None if the repository does not exist."""
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
        from huggingface_hub.hf_api import RepoFile

        def listing(api: Any) -> tuple[str | None, dict[str, str]]:
            try:
                commit = str(api.model_info(self.name, revision=self.revision).sha)
            except GatedRepoError:
                raise
            except RepositoryNotFoundError:
                return None, {}
            rows = api.list_repo_tree(self.name, recursive=True, revision=commit)
            return commit, {
                row.path: row.lfs.sha256 if row.lfs is not None else row.blob_id
                for row in rows
                if isinstance(row, RepoFile)
            }

        contents: tuple[str | None, dict[str, str]] = self._ask(listing)
        return contents

    def card(self, commit: str) -> str:
        """Download the README of a commit."""
        path = self._ask(lambda api: api.hf_hub_download(self.name, README, revision=commit))
        return Path(path).read_text(encoding="utf-8")

    def write(
        self,
        files: Mapping[str, Path],
        message: str,
        card: Callable[[str | None], str | None],
        overwrite: bool = False,
    ) -> Published:
        """Commit files.

        Files that already have this content are skipped. If someone else commits in between,
        nothing is written. A retry after a failure does not send large files again.

        Args:
            files: files by their names in the repository.
            message: the commit message.
            card: maps the current README (None if there is none) to the new one, or to None to
                keep the current one.
            overwrite: whether to replace files that have other content.

        Raises:
            ConflictError: files have other content, and `overwrite` is False.
            ReleaseError: a name is not a valid file name, or the hub does not accept the files.
        """
        for name in files:
            if posixpath.normpath(name) != name or not is_inside(name) or re.search(r"[`|]", name):
                raise ReleaseError(f"{self.name}: {name!r} is not a valid file name")
        commit, hashes = self.contents()
        changed = {
            name: file for name, file in files.items() if not is_same(file, hashes.get(name))
        }
        if (replaced := sorted(set(changed) & set(hashes))) and not overwrite:
            raise ConflictError(self.name, replaced)
        old = None if commit is None or README not in hashes else self.card(commit)
        text = card(old)
        notes: tuple[str, ...] = ()
        if text is None:
            notes = (
                f"{README} was not written by saecore and is not changed; add the names by hand",
            )
        url, size = self._url(), sum(file.stat().st_size for file in files.values())
        new = sorted(changed) + ([README] if text not in (None, old) else [])
        if commit is not None and not new:
            return Published(
                repository=self.name, commit=commit, url=url, files=(), size=size, notes=notes
            )
        if commit is None:
            self._ask(lambda api: api.create_repo(self.name, private=self.private, exist_ok=True))
        done = self._ask(lambda api: self._commit(api, changed, text, old, message, commit))
        return Published(
            repository=self.name,
            commit=str(done.oid),
            url=url,
            files=tuple(new),
            size=size,
            notes=notes,
        )

    def _commit(
        self,
        api: Any,
        files: Mapping[str, Path],
        text: str | None,
        old: str | None,
        message: str,
        parent: str | None,
    ) -> Any:
        from huggingface_hub import CommitOperationAdd

        adds = [CommitOperationAdd(name, str(file)) for name, file in sorted(files.items())]
        if text is not None and text != old:
            adds.append(CommitOperationAdd(README, text.encode()))
        return api.create_commit(
            self.name, adds, commit_message=message, revision=self.revision, parent_commit=parent
        )

    def _url(self) -> str:
        from huggingface_hub import constants

        at = f"/tree/{self.revision}" if self.revision else ""
        return f"{constants.ENDPOINT}/{self.name}{at}"


def is_same(file: Path, listed: str | None) -> bool:
    """Whether a file has the hash that the hub lists."""
    return listed is not None and digest(file, listed) == listed
