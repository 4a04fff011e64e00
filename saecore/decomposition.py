"""An SAE's forward pass in parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from torch import Tensor

from saecore.codes import Codes
from saecore.normalize import Restore

if TYPE_CHECKING:
    from saecore.sae import SAE


@attrs.frozen(eq=False)
class Decomposition:
    """What `SAE.decompose` gives: the features, and what else a reconstruction is made of.

    `decode(features)` is the SAE's forward pass; other features give other reconstructions.
    """

    sae: SAE
    """The SAE."""
    inputs: Tensor
    """Rows as the encoder reads them `[N, d_in]`, scaled where the SAE scales its input."""
    features: Codes
    """What `encode` gives, N rows."""
    beside: Tensor | None
    """What reconstructions have beside decoded features `[N, d_out]`: a linear part (skip
    transcoder), a prediction (temporal)."""
    restore: Restore | None
    """From reconstructions of scaled activations to those of raw ones."""

    def decode(self, features: Codes | Tensor) -> Tensor:
        """The reconstruction `[N, d_out]` from features, Codes or dense `[N, d_sae]`."""
        out = self.sae.decode_scaled(features)
        if self.beside is not None:
            out = out + self.beside
        return out if self.restore is None else self.restore(out)

    def preactivations(self) -> Tensor | None:
        """All pre-activations `[N, d_sae]`, where the architecture has them."""
        return self.sae.all_preactivations(self.inputs)
