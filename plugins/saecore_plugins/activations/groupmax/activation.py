"""The GroupMax activation."""

from __future__ import annotations

from typing import Any

from saecore.core.activation import Activation, PreActivations
from saecore.core.sae_config import Shape, check_width
from saecore.errors import ConfigError
from saecore.ops.codes import Codes


class GroupMax(Activation):
    """The largest of each of k blocks of d_sae / k latents; negative ones become explicit zeros."""

    competitive = True

    def __init__(self, config: Any, shape: Shape) -> None:
        super().__init__()
        check_width(config.k, shape.d_sae)
        if shape.d_sae % config.k:
            raise ConfigError(
                [f"sae.k: expected a divisor of d_sae = {shape.d_sae}, got {config.k}"],
            )
        self.k = config.k

    def select(self, encoding: PreActivations) -> Codes:
        """The best of each group."""
        codes = encoding.group_max(self.k)
        return codes.with_values(codes.values.relu())
