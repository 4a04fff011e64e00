"""The releases that the field knows by name, such as gpt2-small-res-jb: 170 with 13,857 SAEs.

`releases.jsonl.gz` has one line a release; `make.py` writes it and NOTICE says from what. A line is
parsed when its release is asked for.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs

from saecore.components import Component
from saecore.hookspecs import hookimpl
from saecore.releases.catalogue import Entry
from saecore.releases.source import Facts

FILE = Path(__file__).with_name("releases.jsonl.gz")


@attrs.frozen
class PublishedConfig:
    """This catalogue has no settings."""


class Published:
    """Reads the file beside this module."""

    def __init__(self, config: PublishedConfig) -> None:
        self.config = config

    @cached_property
    def _lines(self) -> dict[str, str]:
        """Each release's line by its name, which is the first string of the line's first field."""
        lines = gzip.decompress(FILE.read_bytes()).decode().splitlines()
        return {line.split('"', 4)[3]: line for line in lines}

    def names(self) -> Sequence[str]:
        """All releases, sorted."""
        return list(self._lines)

    def entries(self, release: str) -> Sequence[Entry]:
        """The SAEs of a release."""
        row = json.loads(self._lines[release])
        columns: dict[str, list[Any]] = row["saes"]
        keys = list(columns)
        saes = (dict(zip(keys, one, strict=True)) for one in zip(*columns.values(), strict=True))
        return [
            Entry(
                source=row["source"],
                repository=row["repository"],
                path=one["path"],
                width=one.get("width"),
                facts=Facts(
                    release=release,
                    sae_id=one["id"],
                    model=row["model"],
                    hook=one["hook"],
                    l0=one.get("l0"),
                    variance_explained=one.get("variance_explained"),
                    norm_scaling_factor=one.get("norm_scaling_factor"),
                    neuronpedia=one.get("neuronpedia"),
                    overrides=row["overrides"],
                ),
            )
            for one in saes
        ]


@hookimpl
def saecore_components() -> Iterable[Component]:
    """Offer the catalogue."""
    yield Component(
        kind="catalogue",
        name="published",
        config=PublishedConfig,
        build=Published,
        summary="170 releases with 13,857 SAEs that the field knows by name",
    )
