"""Whiten activations to mean 0 and covariance 1; folded into the saved SAE."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.plugins import Component, at_least, hookimpl


@attrs.frozen
class CovarianceWhiteningConfig:
    """Settings of the estimate."""

    tokens: int = attrs.field(default=100_000, validator=at_least(2))
    """Number of tokens, from the start of the stream, to estimate mean and covariance from; many
    times d_in are needed."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="normalizer",
        name="covariance_whitening",
        config=CovarianceWhiteningConfig,
        build="saecore_plugins.normalizers.covariance_whitening.normalizer:CovarianceWhitening",
        summary="activations with covariance 1 in every direction, folded into the saved SAE",
    )
