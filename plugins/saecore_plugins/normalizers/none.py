"""Activations as they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from saecore.components import Component
from saecore.hookspecs import hookimpl

if TYPE_CHECKING:
    from saecore.sae import SAE
    from saecore.step import Batch


@attrs.frozen
class NoneConfig:
    """Leaving activations alone has no settings."""


class NoNormalizer:
    """Changes nothing."""

    tokens = 0

    def __init__(self, config: NoneConfig) -> None:
        pass

    def estimate(self, batches: Iterable[Batch]) -> None:
        """Nothing to estimate."""

    def apply(self, batch: Batch) -> Batch:
        """The batch itself."""
        return batch

    def fold(self, sae: SAE) -> None:
        """Nothing to fold."""

    def state_dict(self) -> dict[str, Any]:
        """No state."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """No state."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the normalizer."""
    yield Component(
        kind="normalizer",
        name="none",
        config=NoneConfig,
        build=NoNormalizer,
        summary="activations as they are",
    )
