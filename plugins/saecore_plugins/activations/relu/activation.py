"""The ReLU activation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saecore.activation import Activation, Encoding
from saecore.codes import Codes
from saecore.sae_config import Shape

if TYPE_CHECKING:
    from saecore_plugins.activations.relu import ReLUConfig


class ReLU(Activation):
    """Every latent whose pre-activation is positive."""

    sparse = False

    def __init__(self, config: ReLUConfig, shape: Shape) -> None:
        super().__init__()

    def select(self, encoding: Encoding) -> Codes:
        """The features that are not zero."""
        return encoding.above(0.0)
