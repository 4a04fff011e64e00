"""The crosscoder."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from saecore.open_sae import OpenSAE
from saecore.step import Batch, StepContext, StepOutput


class Crosscoder(OpenSAE):
    """f = activation(Σ_h x_h W_enc,h + b_enc), x̂_h = f W_dec,h + b_dec,h, for every hook h.

    The penalty is λ · mean Σ f · Σ_h ‖W_dec,h‖. The hooks stand one after another in the last
    dimension: d_in = hooks · d, W_dec `[d_sae, hooks · d]`; activations go in and out as
    `[..., hooks, d]` or joined. Source: Lindsey et al. 2024.
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

    def training_step(self, batch: Batch, context: StepContext) -> StepOutput:
        """The losses, over all hooks together."""
        joined = batch.map(lambda x: x.flatten(1))
        context = attrs.evolve(context, targets=context.targets.flatten(1))
        return super().training_step(joined, context)
