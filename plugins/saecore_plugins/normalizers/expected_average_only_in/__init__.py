"""One factor for all activations of a hook, so that their mean norm is √d; folded at the end."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.components import Component
from saecore.config.validators import at_least
from saecore.hookspecs import hookimpl


@attrs.frozen
class ExpectedAverageConfig:
    """Settings of the estimate."""

    tokens: int = attrs.field(default=100_000, validator=at_least(1))
    """Tokens of activations whose mean norm is taken, from the beginning of the stream."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the normalizer."""
    yield Component(
        kind="normalizer",
        name="expected_average_only_in",
        config=ExpectedAverageConfig,
        build="saecore_plugins.normalizers.expected_average_only_in.normalizer:ExpectedAverage",
        summary="one factor a hook that makes the mean norm √d, folded into the saved SAE",
    )
