"""Matryoshka BatchTopK: nested dictionaries, each of which reconstructs (arXiv 2503.17547)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import attrs

from saecore.plugins import Component, at_least, exactly_one, hookimpl
from saecore_plugins.architectures.batchtopk import BatchTopKConfig


@attrs.frozen(kw_only=True)
class MatryoshkaBatchTopKConfig(BatchTopKConfig):
    """Settings of a Matryoshka BatchTopK SAE."""

    matryoshka_widths: tuple[int, ...] = attrs.field(default=(), validator=at_least(1))
    """Increasing numbers of latents of the nested dictionaries; d_sae is appended if it is not the
    last."""
    random_widths: int = attrs.field(default=0, validator=at_least(0))
    """Draw this many widths in every step instead, small ones more often."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Report widths that do not increase, or both kinds of widths, or neither."""
        widths = self.matryoshka_widths
        if any(high <= low for low, high in itertools.pairwise(widths)):
            yield "matryoshka_widths", f"expected increasing numbers, got {list(widths)}"
        yield from exactly_one(self, "matryoshka_widths", "random_widths")


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="architecture",
        name="matryoshka_batchtopk",
        config=MatryoshkaBatchTopKConfig,
        build="saecore_plugins.architectures.matryoshka_batchtopk.sae:MatryoshkaBatchTopK",
        summary="nested BatchTopK dictionaries, each of which reconstructs",
    )
