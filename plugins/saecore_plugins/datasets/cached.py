"""Activations that `saecore cache` has written, in a directory or a repository of the hub."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from saecore.components import Component
from saecore.config.validators import at_least
from saecore.hookspecs import hookimpl

if TYPE_CHECKING:
    from saecore.cache.reading import ActivationCache


@attrs.frozen
class CachedConfig:
    """Where the cache is. With [model] the SAE is evaluated in the model that made it."""

    path: str | None = None
    """Directory of the cache."""
    repo: str | None = None
    """Hub repository of the cache, in place of `path`; shards are fetched as they are read."""
    revision: str | None = None
    """Branch, tag or commit of the repository."""
    hook: str | None = None
    """The hook to train on, where the cache has several and there is no [model]."""
    passes: int = attrs.field(default=1, validator=at_least(1))
    """How often the rows may be read, shards in another order each time."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Report a missing or doubled place."""
        if (self.path is None) == (self.repo is None):
            yield "path", "expected exactly one of path and repo"
        if self.revision is not None and self.repo is None:
            yield "revision", "means something for repo only; remove the key"


def build(config: CachedConfig, seed: int) -> ActivationCache:
    """Open the cache.

    Raises:
        DataError: there is none, or it is not whole.
    """
    from saecore.cache.reading import ActivationCache
    from saecore.releases.hub import Hub
    from saecore.releases.repository import Directory

    files = Hub(config.repo, config.revision) if config.repo else Directory(str(config.path))
    return ActivationCache(files, config.passes, seed)


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the dataset."""
    yield Component(
        kind="dataset",
        name="cached",
        config=CachedConfig,
        build=build,
        summary="activations written by `saecore cache`; trains without running the model",
        gives=frozenset({"activations", "recorded"}),
    )
