"""Activations with mean 0 and covariance 1 in every direction; folded into the saved SAE."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.components import Component
from saecore.config.validators import at_least
from saecore.hookspecs import hookimpl


@attrs.frozen
class CovarianceWhiteningConfig:
    """Settings of the estimate."""

    tokens: int = attrs.field(default=100_000, validator=at_least(2))
    """Tokens of activations whose mean and covariance are taken, from the beginning of the
    stream; many times d_in are needed."""


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the normalizer."""
    yield Component(
        kind="normalizer",
        name="covariance_whitening",
        config=CovarianceWhiteningConfig,
        build="saecore_plugins.normalizers.covariance_whitening.normalizer:CovarianceWhitening",
        summary="activations with covariance 1 in every direction, folded into the saved SAE",
    )
