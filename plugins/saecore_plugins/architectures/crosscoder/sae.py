"""The crosscoder."""

from __future__ import annotations

import torch
from torch import Tensor

from saecore.core.activation import PreActivations
from saecore.core.penalized_sae import PenalizedSAE


class Crosscoder(PenalizedSAE):
    """f = activation(Σ_h x_h W_enc,h + b_enc), x̂_h = f W_dec,h + b_dec,h, for every hook h.

    The penalty is λ · mean Σ f · Σ_h ‖W_dec,h‖. Hooks are concatenated in the last
    dimension: d_in = hooks · d, W_dec `[d_sae, hooks · d]`; activations are `[..., hooks, d]` or
    concatenated. Source: Lindsey et al. 2024.
    """

    architecture = "crosscoder"
    several_hooks = True

    def decoder_norms(self) -> Tensor:
        """Sum over hooks of the norms of the decoder rows `[d_sae]`."""
        return self.decoder_norms_by_hook().sum(1)

    def decoder_norms_by_hook(self) -> Tensor:
        """Norms of the decoder rows of each hook `[d_sae, hooks]`."""
        by_hook = self.W_dec.unflatten(1, (self.cfg.hooks, -1))
        norms: Tensor = torch.linalg.vector_norm(by_hook, dim=-1)
        return norms

    def encoding(self, x: Tensor) -> PreActivations:
        """The encoder over `x [N, hooks, d]` or `[N, d_in]`."""
        return super().encoding(x.flatten(1))
