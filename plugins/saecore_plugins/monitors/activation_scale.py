"""Activations whose scale is far from √d."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from saecore.plugins import Component, above, hookimpl

if TYPE_CHECKING:
    from saecore.core.monitor import View


@attrs.frozen
class ActivationScaleConfig:
    """When a scale counts as far off."""

    factor: float = attrs.field(default=2.0, validator=above(1))
    """Largest factor from √d, up or down, with a normalizer."""
    unscaled_factor: float = attrs.field(default=20.0, validator=above(1))
    """Largest factor from √d, up or down, without a normalizer."""


class ActivationScale:
    """Warns when the mean norm of the SAE's inputs is far from √d."""

    def __init__(self, config: ActivationScaleConfig) -> None:
        self.config = config

    def __call__(self, view: View) -> str | None:
        """Check the last batch."""
        from saecore.core.normalizer import NormalizerStrategy

        scaled = type(view.normalizer) is not NormalizerStrategy
        limit = self.config.factor if scaled else self.config.unscaled_factor
        if 1 / limit <= view.mean_norm <= limit:
            return None
        finding = f"the SAE sees activations with a mean norm of {view.mean_norm:.3g}·√d"
        if scaled:
            return (
                f"{finding}, although the normalizer targets √d; raise sae.normalizer.tokens "
                "so that its estimate is representative"
            )
        return (
            f"{finding}; learning rate, coefficients and first weights are made for √d: set "
            'sae.normalizer = "expected_average_only_in"'
        )


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="monitor",
        name="activation_scale",
        config=ActivationScaleConfig,
        build=ActivationScale,
        summary="activations whose scale is far from √d",
    )
