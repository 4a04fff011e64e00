"""Activations written by `saecore cache`, in a directory or a hub repository."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from saecore.plugins import Component, at_least, exactly_one, hookimpl

if TYPE_CHECKING:
    from saecore.activations.cache.reader import ActivationCache


@attrs.frozen(kw_only=True)
class CachedConfig:
    """Where the cache is. With [model], the SAE is evaluated in the model that made the cache."""

    path: str | None = None
    """Directory of the cache."""
    repo: str | None = None
    """Hub repository of the cache, instead of `path`; shards are fetched as they are read."""
    revision: str | None = None
    """Branch, tag or commit of the repository."""
    hook: str | None = None
    """The hook to train on, if the cache has several and there is no [model]."""
    passes: int = attrs.field(default=1, validator=at_least(1))
    """How often the rows may be read, with the shards shuffled each time."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Report a missing or doubled location."""
        yield from exactly_one(self, "path", "repo")
        if self.revision is not None and self.repo is None:
            yield "revision", "applies to repo only; remove the key"


def build(config: CachedConfig, seed: int) -> ActivationCache:
    """Open the cache.

    Raises:
        DataError: there is no cache, or a shard is missing.
    """
    from saecore.activations.cache.reader import ActivationCache
    from saecore.storage.hub import Hub
    from saecore.storage.repository import Directory

    files = Hub(config.repo, config.revision) if config.repo else Directory(str(config.path))
    return ActivationCache(files, config.passes, seed)


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="dataset",
        name="cached",
        config=CachedConfig,
        build=build,
        summary="activations written by `saecore cache`; trains without running the model",
        provides=frozenset({"activations", "recorded"}),
    )
