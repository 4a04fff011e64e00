"""A repository of the hub at one revision."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from saecore.errors import ReleaseError
from saecore.releases.repository import Repository


class Hub(Repository):
    """The files of a hub repository; what was downloaded once is served from the hub's cache.

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

    @cached_property
    def _api(self):  # type: ignore[no-untyped-def]
        from huggingface_hub import HfApi

        return HfApi()

    def _list(self) -> list[str]:
        try:
            return list(self._api.list_repo_files(self.name, revision=self.revision))
        except Exception as error:
            raise ReleaseError(f"{self.name}: cannot be listed: {error}") from error

    def _fetch(self, name: str) -> Path:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError

        try:
            return Path(
                hf_hub_download(self.name, name, revision=self.revision, force_download=self._force)
            )
        except EntryNotFoundError:
            raise self.missing(name) from None
        except Exception as error:
            raise ReleaseError(f"{self.name}/{name}: cannot be downloaded: {error}") from error
