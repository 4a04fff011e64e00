"""What people call an SAE, and where that is: a catalogue's release, the hub, or a directory."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

import attrs

from saecore.errors import ReleaseError, nearest
from saecore.releases import catalogue
from saecore.releases.repository import Directory, Repository, inside
from saecore.releases.source import Facts


@attrs.frozen
class Place:
    """Where an SAE is, and what is known of it before anything is read."""

    files: Repository
    """The repository or directory."""
    path: str
    """Where in it the SAE is."""
    facts: Facts
    """What a catalogue knows."""
    source: str | None = None
    """The plugin that reads it; None where that is to be seen from the files."""


def find(
    release: str, sae_id: str = "", *, revision: str | None = None, force_download: bool = False
) -> Place:
    """Where an SAE is; nothing is asked of a network.

    Args:
        release: a catalogue's release, a hub repository `username/repo-name`, or a directory.
        sae_id: the SAE's name in the release, or its path in the repository or directory; an
            empty one is the repository or directory itself.
        revision: branch, tag or commit of the repository.
        force_download: download again what is in the cache.

    Raises:
        ReleaseError: nothing is called so, or several things are.
    """
    from saecore.releases.hub import Hub

    release, directory = str(release), Path(release).expanduser()
    local = re.match(r"[./~\\]|[A-Za-z]:[/\\]", release) is not None  # cannot be anything else
    found = {} if local else _elsewhere(release)
    if directory.is_dir():
        found["directory"] = f"the directory {release}"
    if len(found) > 1:
        raise ReleaseError(
            f"{release}: could be {' or '.join(found.values())}; write ./{release} for the "
            "directory, or rename it"
        )
    if "directory" in found:
        if revision is not None:
            raise ReleaseError(f"{release}: a directory has no revisions; leave out revision=")
        return Place(Directory(directory), _path(sae_id, release), Facts())
    if "catalogue" in found:
        entry = catalogue.entry(release, sae_id)
        files = Hub(entry.repository, revision, force_download)
        return Place(files, entry.path, entry.facts, entry.source)
    if "hub" in found:
        path = _path(sae_id, release)
        return Place(Hub(release, revision, force_download), path, Facts(sae_id=sae_id or None))
    close = nearest(release, catalogue.names(), 3)
    raise ReleaseError(
        f"{release}: no directory, not the name of a hub repository (username/repo-name), and no "
        f"release of the catalogue{close} (`saecore releases` lists them)"
    )


def _elsewhere(release: str) -> dict[str, str]:
    """What is not a directory of this machine and goes by this name."""
    found = {}
    if catalogue.owner(release) is not None:
        found["catalogue"] = "the catalogue's release"
    if re.fullmatch(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", release, re.ASCII):
        found["hub"] = "the hub's repository"
    return found


def _path(sae_id: str, release: str) -> str:
    """A path in a repository or directory.

    Raises:
        ReleaseError: it leads out of it.
    """
    path = posixpath.normpath(str(sae_id) or ".")
    if not inside(path):
        raise ReleaseError(f"{release}: {str(sae_id)!r} is not a path in a repository")
    return path
