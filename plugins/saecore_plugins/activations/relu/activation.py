"""The ReLU activation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from saecore import ops
from saecore.codes import Codes

if TYPE_CHECKING:
    from saecore_plugins.activations.relu import ReLUConfig


class ReLU:
    """Selects every latent whose pre-activation is positive."""

    def __init__(self, config: ReLUConfig) -> None:
        pass

    def select(
        self, x: Tensor, W_enc: Tensor, b_enc: Tensor, *, centre: Tensor | None = None
    ) -> Codes:
        """Features of `x [N, d_in]` that are not zero; arguments as in `saecore.ops`."""
        return ops.select_above(x, W_enc, b_enc, 0.0, centre=centre)
