"""Catalogues: metadata of published SAEs that is available offline."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

import attrs

from saecore.core.release import CatalogueFacts


@attrs.frozen(kw_only=True)
class Entry:
    """One SAE of a catalogue."""

    source: str
    """The release plugin that reads it."""
    repository: str
    """The hub repository, `username/repo-name`."""
    path: str
    """Its path in the repository."""
    facts: CatalogueFacts
    """Its metadata; `release`, `sae_id`, `model` and `hook` are always set."""
    width: int | None = None
    """Number of latents, if names or authors give it; loading uses the tensors' sizes."""

    @property
    def layer(self) -> int | None:
        """The layer, from the hook's name."""
        match = re.match(r"blocks\.(\d+)\.", self.facts.hook or "")
        return None if match is None else int(match[1])


class Catalogue(Protocol):
    """Releases and their SAEs; a plugin of the kind `catalogue`."""

    def names(self) -> Sequence[str]:
        """The names of all releases."""

    def entries(self, release: str) -> Sequence[Entry]:
        """The SAEs of a release, in display order."""
