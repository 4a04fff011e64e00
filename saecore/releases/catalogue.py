"""Look up published SAEs in the installed catalogues, offline."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from saecore.core.catalogue import Catalogue, Entry
from saecore.errors import ReleaseError, nearest
from saecore.plugins.host import Host, current_host


def catalogues() -> dict[str, Catalogue]:
    """Every installed catalogue, by its plugin's name.

    Raises:
        PluginError: a plugin cannot be used.
    """
    return _opened(current_host())


@lru_cache(maxsize=1)
def _opened(host: Host) -> dict[str, Catalogue]:
    components = {name: host.component("catalogue", name) for name in host.names("catalogue")}
    return {name: component.make(component.config()) for name, component in components.items()}


@lru_cache(maxsize=4)
def _by_id(host: Host, plugin: str, name: str) -> dict[str, Entry]:
    return {str(entry.facts.sae_id): entry for entry in _opened(host)[plugin].entries(name)}


def owner(release: str) -> str | None:
    """The plugin of the catalogue that has a release; None if no catalogue has it.

    Raises:
        ReleaseError: more than one catalogue has it.
    """
    owners = sorted(
        name for name, catalogue in catalogues().items() if release in catalogue.names()
    )
    if len(owners) > 1:
        raise ReleaseError(
            f"{release}: the catalogues {' and '.join(owners)} both have a release of this name; "
            f"run with --block catalogue.{owners[-1]} to use the other"
        )
    return owners[0] if owners else None


def names() -> list[str]:
    """The names of all releases, sorted."""
    return sorted({name for catalogue in catalogues().values() for name in catalogue.names()})


def everything() -> Iterator[Entry]:
    """Every SAE of every catalogue, release by release."""
    for catalogue in catalogues().values():
        for name in catalogue.names():
            yield from catalogue.entries(name)


def repositories() -> set[str]:
    """The hub repositories of all catalogues."""
    return {entry.repository for entry in everything()}


def release(name: str) -> dict[str, Entry]:
    """The SAEs of a release, by name.

    Raises:
        ReleaseError: no catalogue has it.
    """
    plugin = owner(name)
    if plugin is None:
        raise ReleaseError(
            f"{name}: no catalogue has a release of this name{nearest(name, names(), 3)} "
            "(`saecore releases` lists them)"
        )
    return _by_id(current_host(), plugin, name)


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
