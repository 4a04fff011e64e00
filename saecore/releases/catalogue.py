"""What is known of published SAEs without asking a network: plugins of the kind `catalogue`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Protocol

import attrs

from saecore.errors import ReleaseError, nearest
from saecore.plugins import Host, current_host
from saecore.releases.source import Facts


@attrs.frozen
class Entry:
    """One SAE of a catalogue."""

    source: str
    """The plugin that reads its format."""
    repository: str
    """The hub's repository, `username/repo-name`."""
    path: str
    """Where in the repository it is."""
    facts: Facts
    """What is known of it; `release`, `sae_id`, `model` and `hook` always are."""
    width: int | None = None
    """Number of latents, where a name or its authors say it; loading goes by the tensors."""

    @property
    def layer(self) -> int | None:
        """The layer in the hook's name."""
        match = re.match(r"blocks\.(\d+)\.", self.facts.hook or "")
        return None if match is None else int(match[1])


class Catalogue(Protocol):
    """Releases and their SAEs; a third party's is registered like every plugin."""

    def names(self) -> Sequence[str]:
        """The names of all releases."""

    def entries(self, release: str) -> Sequence[Entry]:
        """The SAEs of one of them, in the order in which they are to be shown."""


def catalogues() -> dict[str, Catalogue]:
    """Every installed catalogue by its plugin's name.

    Raises:
        PluginError: one of them cannot be used.
    """
    return _opened(current_host())


@lru_cache(maxsize=1)
def _opened(host: Host) -> dict[str, Catalogue]:
    components = {name: host.component("catalogue", name) for name in host.names("catalogue")}
    return {name: one.make(one.config()) for name, one in components.items()}


@lru_cache(maxsize=4)
def _by_id(host: Host, plugin: str, name: str) -> dict[str, Entry]:
    return {str(one.facts.sae_id): one for one in _opened(host)[plugin].entries(name)}


def owner(release: str) -> str | None:
    """The plugin of the catalogue that has a release, if there is one.

    Raises:
        ReleaseError: several have it.
    """
    found = sorted(name for name, one in catalogues().items() if release in one.names())
    if len(found) > 1:
        raise ReleaseError(
            f"{release}: the catalogues {' and '.join(found)} both have a release of this name; "
            f"run with --block catalogue.{found[-1]} to go by the other"
        )
    return found[0] if found else None


def names() -> list[str]:
    """The names of all releases, sorted."""
    return sorted({name for one in catalogues().values() for name in one.names()})


def everything() -> Iterator[Entry]:
    """Every SAE of every catalogue, release by release."""
    for one in catalogues().values():
        for name in one.names():
            yield from one.entries(name)


def release(name: str) -> dict[str, Entry]:
    """The SAEs of a release by their names.

    Raises:
        ReleaseError: no catalogue has it.
    """
    found = owner(name)
    if found is None:
        raise ReleaseError(
            f"{name}: no catalogue has a release of this name{nearest(name, names(), 3)} "
            "(`saecore releases` lists them)"
        )
    return _by_id(current_host(), found, name)


def entry(name: str, sae_id: str) -> Entry:
    """One SAE of a release.

    Raises:
        ReleaseError: no catalogue has the release, or the release has no such SAE.
    """
    saes = release(name)
    if sae_id not in saes:
        close = nearest(sae_id, list(saes), 3) if sae_id else ""
        raise ReleaseError(
            f"{name}: no SAE {sae_id!r} in this release{close} "
            f"(`saecore releases show {name}` lists its {len(saes)})"
        )
    return saes[sae_id]
