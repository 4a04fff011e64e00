"""The ReLU activation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saecore.core.activation import Activation, PreActivations
from saecore.core.sae_config import Shape
from saecore.ops.codes import Codes

if TYPE_CHECKING:
    from saecore.plugins import NoSettings


class ReLU(Activation):
    """Every latent whose pre-activation is positive."""

    sparse = False

    def __init__(self, config: NoSettings, shape: Shape) -> None:
        super().__init__()

    def select(self, encoding: PreActivations) -> Codes:
        """The positive pre-activations."""
        return encoding.above(0.0)
