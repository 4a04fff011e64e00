"""An SAE's forward pass in parts, so that features can be edited between encode and decode."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from torch import Tensor

from saecore.core.normalizer import Restore
from saecore.ops.codes import Codes

if TYPE_CHECKING:
    from saecore.core.sae import SAE


@attrs.frozen(eq=False, kw_only=True)
class ForwardParts:
    """The result of `SAE.decompose`: features, and the other parts of a reconstruction.

    `decode(features)` completes the forward pass; edited features give edited reconstructions.
    """

    sae: SAE
    inputs: Tensor
    """Normalized rows as the encoder reads them, `[N, d_in]`."""
    features: Codes
    """Features as `encode_sparse` returns them, N rows."""
    skip_term: Tensor | None
    """What reconstructions add to decoded features `[N, d_out]`: a linear part (skip transcoder)
    or a prediction (temporal)."""
    restore: Restore | None
    """Undoes the normalization: from reconstructions of normalized activations to raw ones."""

    def decode(self, features: Codes | Tensor) -> Tensor:
        """Reconstruction `[N, d_out]` from features, Codes or dense `[N, d_sae]`."""
        x_hat = self.sae.decode_codes(self.sae.unscale(features))
        if self.skip_term is not None:
            x_hat = x_hat + self.skip_term
        return x_hat if self.restore is None else self.restore(x_hat)

    def preactivations(self) -> Tensor | None:
        """All pre-activations `[N, d_sae]`; see `SAE.all_preactivations`."""
        return self.sae.all_preactivations(self.inputs)
