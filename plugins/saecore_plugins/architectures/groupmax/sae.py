"""The GroupMax SAE."""

from __future__ import annotations

from typing import Any

from saecore.core.sae import SAE
from saecore.core.sae_config import Shape
from saecore_plugins.activations.groupmax.activation import GroupMax as Activation


class GroupMax(SAE):
    """f = the positive maxima of k blocks of d_sae / k latents, x̂ = f W_dec + b_dec.

    Source: EleutherAI's sparsify.
    """

    architecture = "groupmax"

    def __init__(self, config: Any, shape: Shape) -> None:
        super().__init__(config, shape)
        self.activation = Activation(config, shape)
