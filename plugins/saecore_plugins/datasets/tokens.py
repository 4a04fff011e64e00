"""Contexts of tokens that `saecore tokenize` has written, in a directory or on the hub."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs

from saecore.components import Component
from saecore.hookspecs import hookimpl

if TYPE_CHECKING:
    from saecore.cache.tokens import TokenStore


@attrs.frozen
class TokensConfig:
    """Where the tokens are; context_size and the other keys must be those they were made with."""

    path: str | None = None
    """Directory of the tokens."""
    repo: str | None = None
    """Hub repository of the tokens, in place of `path`; shards are fetched as they are read."""
    revision: str | None = None
    """Branch, tag or commit of the repository."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Report a missing or doubled place."""
        if (self.path is None) == (self.repo is None):
            yield "path", "expected exactly one of path and repo"
        if self.revision is not None and self.repo is None:
            yield "revision", "means something for repo only; remove the key"


def build(config: TokensConfig, tokenizer: Any) -> TokenStore:
    """Open the tokens.

    Raises:
        DataError: there are none, or they are not whole.
    """
    from saecore.cache.tokens import TokenStore
    from saecore.releases.hub import Hub
    from saecore.releases.repository import Directory

    files = Hub(config.repo, config.revision) if config.repo else Directory(str(config.path))
    return TokenStore(files)


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the dataset."""
    yield Component(
        kind="dataset",
        name="tokens",
        config=TokensConfig,
        build=build,
        summary="contexts of tokens written by `saecore tokenize`",
    )
