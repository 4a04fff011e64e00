"""Files into a repository of the hub: one commit, nothing replaced that was not meant to be."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from saecore.errors import ReleaseError
from saecore.releases.hub import asked, digest
from saecore.releases.hub_errors import not_written
from saecore.releases.repository import inside

README = "README.md"


class ConflictError(ReleaseError):
    """The repository has other files of these names, and nobody said that they may go.

    Args:
        repository: `username/repo-name`.
        names: the files.
    """

    def __init__(self, repository: str, names: Sequence[str]) -> None:
        self.names = list(names)
        some = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
        super().__init__(
            f"{repository}: has other content under {len(names)} of these names ({some}); publish "
            "under another name (--id), or say that it may be replaced (--overwrite, "
            "overwrite=True)"
        )


@attrs.frozen
class Published:
    """What was done."""

    repository: str
    """`username/repo-name`."""
    commit: str
    """The state of the repository that has all files."""
    url: str
    """Where people look at it."""
    files: tuple[str, ...]
    """Names that this commit has written; none where everything was there already."""
    size: int
    """Bytes of all files, those that were there already included."""
    notes: tuple[str, ...] = ()
    """What the user should know, one line each."""


@attrs.frozen
class Target:
    """A repository that is written to.

    Raises:
        ReleaseError: the name is none of a repository.
    """

    name: str = attrs.field()
    """`username/repo-name`; it is made if it is not there."""
    token: str | None = attrs.field(default=None, repr=False)
    """Who writes; default: whoever is logged in (`hf auth login`, or HF_TOKEN)."""
    revision: str | None = None
    """The branch; default: the main one."""
    private: bool = False
    """Whether a new repository can be seen by nobody else."""

    @name.validator
    def _check(self, attribute: Any, value: str) -> None:
        part = r"[A-Za-z0-9][\w.-]{0,95}"
        if re.fullmatch(rf"{part}/{part}", str(value), re.ASCII) is None:
            raise ReleaseError(
                f"{value}: not the name of a repository of the hub; expected username/repo-name"
            )

    def _ask(self, call: Callable[[Any], Any]) -> Any:
        try:
            return asked(call, self.token)
        except Exception as error:
            raise not_written(error, self.name, self.revision) from error

    def contents(self) -> tuple[str | None, dict[str, str]]:
        """The newest commit and the hash of every file; None where there is no repository."""
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
        from huggingface_hub.hf_api import RepoFile

        def look(api: Any) -> tuple[str | None, dict[str, str]]:
            try:
                commit = str(api.model_info(self.name, revision=self.revision).sha)
            except GatedRepoError:
                raise
            except RepositoryNotFoundError:
                return None, {}
            rows = api.list_repo_tree(self.name, recursive=True, revision=commit)
            return commit, {
                one.path: one.lfs.sha256 if one.lfs is not None else one.blob_id
                for one in rows
                if isinstance(one, RepoFile)
            }

        found: tuple[str | None, dict[str, str]] = self._ask(look)
        return found

    def card(self, commit: str) -> str:
        """The README of a commit."""
        call = self._ask(lambda api: api.hf_hub_download(self.name, README, revision=commit))
        return Path(call).read_text(encoding="utf-8")

    def write(
        self,
        files: Mapping[str, Path],
        message: str,
        card: Callable[[str | None], str | None],
        overwrite: bool = False,
    ) -> Published:
        """Commit files.

        Files that are there with the same content are left alone. If somebody else writes
        meanwhile, nothing is written. Content of large files that an attempt has uploaded before
        it failed is not sent again by the next.

        Args:
            files: by their names in the repository.
            message: the commit's.
            card: from the README that is there (None where there is none) to the new one, or to
                None where it is to stay.
            overwrite: whether files of other content may be replaced.

        Raises:
            ConflictError: there are such files and they may not.
            ReleaseError: a name cannot be one of a file, or the hub does not accept the files.
        """
        for name in files:
            if posixpath.normpath(name) != name or not inside(name) or re.search(r"[`|]", name):
                raise ReleaseError(f"{self.name}: {name!r} cannot be the name of a file")
        commit, there = self.contents()
        other = {name: one for name, one in files.items() if not same(one, there.get(name))}
        if (replaced := sorted(set(other) & set(there))) and not overwrite:
            raise ConflictError(self.name, replaced)
        old = None if commit is None or README not in there else self.card(commit)
        text = card(old)
        notes: tuple[str, ...] = ()
        if text is None:
            notes = (f"{README} is somebody's own and stays as it is; add these names by hand",)
        url, size = self._url(), sum(one.stat().st_size for one in files.values())
        new = sorted(other) + ([README] if text not in (None, old) else [])
        if commit is not None and not new:
            return Published(self.name, commit, url, (), size, notes)
        if commit is None:
            self._ask(lambda api: api.create_repo(self.name, private=self.private, exist_ok=True))
        done = self._ask(lambda api: self._commit(api, other, text, old, message, commit))
        return Published(self.name, str(done.oid), url, tuple(new), size, notes)

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

        adds = [CommitOperationAdd(name, str(one)) for name, one in sorted(files.items())]
        if text is not None and text != old:
            adds.append(CommitOperationAdd(README, text.encode()))
        return api.create_commit(
            self.name, adds, commit_message=message, revision=self.revision, parent_commit=parent
        )

    def _url(self) -> str:
        from huggingface_hub import constants

        at = f"/tree/{self.revision}" if self.revision else ""
        return f"{constants.ENDPOINT}/{self.name}{at}"


def same(file: Path, listed: str | None) -> bool:
    """Whether a file is what the hub lists."""
    return listed is not None and digest(file, listed) == listed
