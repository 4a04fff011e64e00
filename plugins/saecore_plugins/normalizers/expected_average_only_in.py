"""One factor for all activations, so that their mean norm is √d_in; folded at the end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from saecore.components import Component
from saecore.config.validators import at_least
from saecore.errors import NumericsError
from saecore.hookspecs import hookimpl

if TYPE_CHECKING:
    from saecore.sae import SAE
    from saecore.step import Batch


@attrs.frozen
class ExpectedAverageConfig:
    """Settings of the estimate."""

    tokens: int = attrs.field(default=100_000, validator=at_least(1))
    """Tokens of activations whose mean norm is taken, from the beginning of the stream."""


class ExpectedAverage:
    """Multiplies by s = √d_in / mean ‖x‖ (Anthropic, April 2024; the name is SAELens')."""

    def __init__(self, config: ExpectedAverageConfig) -> None:
        self.tokens = config.tokens
        self.factor = 1.0

    def estimate(self, batches: Iterable[Batch]) -> None:
        """Take the mean norm of the inputs.

        Raises:
            NumericsError: it is zero or not finite.
        """
        total, count, d_in = 0.0, 0, 0
        for batch in batches:
            total += float(batch.inputs.float().norm(dim=-1).double().sum())
            count, d_in = count + batch.inputs[..., 0].numel(), batch.inputs.shape[-1]
        mean = total / count if count else 0.0
        if not 0 < mean < float("inf"):
            raise NumericsError(
                f"sae.normalizer: the mean norm of {count} activations is {mean}; "
                "expected a positive number; check the hook and the model's dtype"
            )
        self.factor = float(d_in**0.5 / mean)

    def apply(self, batch: Batch) -> Batch:
        """Scale inputs and targets."""
        return batch.map(lambda x: x * self.factor)

    def restorer(self, batch: Batch) -> None:
        """The loss is taken on scaled activations."""

    def fold(self, sae: SAE) -> None:
        """Move the factor into the weights."""
        sae.scale_input(self.factor)

    def state_dict(self) -> dict[str, Any]:
        """The factor."""
        return {"factor": self.factor}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the factor."""
        self.factor = float(state["factor"])


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the normalizer."""
    yield Component(
        kind="normalizer",
        name="expected_average_only_in",
        config=ExpectedAverageConfig,
        build=ExpectedAverage,
        summary="one factor that makes the mean norm √d_in, folded into the saved SAE",
    )
