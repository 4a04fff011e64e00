"""Well-known releases such as gpt2-small-res-jb: 170 with 13,857 SAEs.

`releases.jsonl.gz` has one line per release; `make.py` writes it, and NOTICE names its source. A
line is parsed when its release is requested.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from saecore.core.catalogue import Entry
from saecore.core.release import CatalogueFacts
from saecore.plugins import Component, NoSettings, hookimpl

FILE = Path(__file__).with_name("releases.jsonl.gz")


class Published:
    """Reads the file beside this module."""

    def __init__(self, config: NoSettings) -> None:
        self.config = config

    @cached_property
    def _lines(self) -> dict[str, str]:
        """Lines by release, which is the first string of the line's first field."""
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
        saes = (dict(zip(keys, sae, strict=True)) for sae in zip(*columns.values(), strict=True))
        return [
            Entry(
                source=row["source"],
                repository=row["repository"],
                path=sae["path"],
                width=sae.get("width"),
                facts=CatalogueFacts(
                    release=release,
                    sae_id=sae["id"],
                    model=row["model"],
                    hook=sae["hook"],
                    l0=sae.get("l0"),
                    variance_explained=sae.get("variance_explained"),
                    norm_scaling_factor=sae.get("norm_scaling_factor"),
                    neuronpedia=sae.get("neuronpedia"),
                    overrides=row["overrides"],
                ),
            )
            for sae in saes
        ]


@hookimpl
def saecore_components() -> Iterable[Component]:
    yield Component(
        kind="catalogue",
        name="published",
        build=Published,
        summary="170 well-known releases with 13,857 SAEs",
    )
