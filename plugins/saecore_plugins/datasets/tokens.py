"""Contexts of tokens written by `saecore tokenize`, in a directory or a hub repository."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs

from saecore.plugins import Component, exactly_one, hookimpl

if TYPE_CHECKING:
    from saecore.activations.cache.tokens import TokenStore


@attrs.frozen
class TokensConfig:
    """Where the tokens are; context_size and the other keys must be those they were made with."""

    path: str | None = None
    """Directory of the tokens."""
    repo: str | None = None
    """Hub repository of the tokens, instead of `path`; shards are fetched as they are read."""
    revision: str | None = None
    """Branch, tag or commit of the repository."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Report a missing or doubled location."""
        yield from exactly_one(self, "path", "repo")
        if self.revision is not None and self.repo is None:
            yield "revision", "applies to repo only; remove the key"


def build(config: TokensConfig, tokenizer: Any) -> TokenStore:
    """Open the tokens.

    Raises:
        DataError: there are no tokens, or a shard is missing.
    """
    from saecore.activations.cache.tokens import TokenStore
    from saecore.storage.hub import Hub
    from saecore.storage.repository import Directory

    files = Hub(config.repo, config.revision) if config.repo else Directory(str(config.path))
    return TokenStore(files)


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="dataset",
        name="tokens",
        config=TokensConfig,
        build=build,
        summary="contexts of tokens written by `saecore tokenize`",
    )
