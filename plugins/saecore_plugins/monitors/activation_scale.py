"""A scale of activations far from the one that the settings are made for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from saecore.components import Component
from saecore.config.validators import above
from saecore.hookspecs import hookimpl

if TYPE_CHECKING:
    from saecore.monitors import View


@attrs.frozen
class ActivationScaleConfig:
    """What counts as far."""

    factor: float = attrs.field(default=2.0, validator=above(1))
    """From √d, up or down, where a normalizer has scaled the activations."""
    unscaled_factor: float = attrs.field(default=20.0, validator=above(1))
    """The same where none has."""


class ActivationScale:
    """Warns when the mean norm of what the SAE sees is far from √d."""

    def __init__(self, config: ActivationScaleConfig) -> None:
        self.config = config

    def __call__(self, view: View) -> str | None:
        """Look at the last batch."""
        from saecore.normalizer import NormalizerStrategy

        scaled = type(view.normalizer) is not NormalizerStrategy
        limit = self.config.factor if scaled else self.config.unscaled_factor
        if 1 / limit <= view.mean_norm <= limit:
            return None
        found = f"the SAE sees activations with a mean norm of {view.mean_norm:.3g}·√d"
        if scaled:
            return (
                f"{found}, the normalizer was to bring them to √d; raise sae.normalizer.tokens so "
                "that it sees what is typical"
            )
        return (
            f"{found}; learning rate, coefficients and first weights are made for √d: set "
            'sae.normalizer = "expected_average_only_in"'
        )


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the monitor."""
    yield Component(
        kind="monitor",
        name="activation_scale",
        config=ActivationScaleConfig,
        build=ActivationScale,
        summary="activations whose scale is far from √d",
    )
