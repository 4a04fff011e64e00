"""Scale the activations of a hook by one factor to a mean norm of √d; folded at the end."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.plugins import Component, at_least, hookimpl


@attrs.frozen
class ExpectedAverageConfig:
    """Settings of the estimate."""

    tokens: int = attrs.field(default=100_000, validator=at_least(1))
    """Number of tokens, from the start of the stream, to estimate the mean norm from."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="normalizer",
        name="expected_average_only_in",
        config=ExpectedAverageConfig,
        build="saecore_plugins.normalizers.expected_average_only_in.normalizer:ExpectedAverage",
        summary="one factor a hook that makes the mean norm √d, folded into the saved SAE",
    )
