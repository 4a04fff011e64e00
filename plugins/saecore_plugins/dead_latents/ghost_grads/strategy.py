"""The ghost-gradient loss."""

from __future__ import annotations

from torch import Tensor

from saecore.core.dead_latents import DeadLatentsStrategy
from saecore.core.sae import SAE
from saecore.core.step import Batch, StepContext, StepOutput


class GhostGrads(DeadLatentsStrategy):
    """Dead latents reconstruct the residual as if they had fired with exp(pre).

    With r = x − x̂ and D the dead latents, for each token

        g = exp(pre_D) W_dec[D],   ĝ = g · sg(‖r‖ / (2 ‖g‖)),   ℓ = mean over tokens ‖ĝ − sg(r)‖²
        loss = ℓ · sg(reconstruction loss / ℓ)

    where sg stops gradients. Source: Anthropic, January 2024, as in SAELens up to 5 (which has the
    last factor per element, not per batch).
    """

    def losses(
        self, sae: SAE, batch: Batch, output: StepOutput, context: StepContext
    ) -> dict[str, Tensor]:
        """The loss `ghost_grad_loss`; zero while no latent is dead."""
        latents = context.dead.nonzero(as_tuple=True)[0]
        if not len(latents):
            return {"ghost_grad_loss": output.reconstruction.new_zeros(())}
        residual = (batch.targets.flatten(1) - output.reconstruction).detach()
        pre = sae.preactivations(batch.inputs, latents)  # [N, n_dead]
        # A common factor of a token's ghosts cancels in ĝ; this one keeps exp from overflowing.
        ghosts = (pre - pre.detach().amax(dim=1, keepdim=True)).exp()
        decoded = ghosts @ sae.W_dec[latents].flatten(1)
        norms = decoded.detach().norm(dim=1, keepdim=True).clamp(min=1e-12)
        scaled = decoded * (residual.norm(dim=1, keepdim=True) / (2 * norms))
        error = (scaled - residual).square().sum(-1).mean()
        size = context.reconstruction_loss(output.reconstruction).detach()
        return {"ghost_grad_loss": error * (size / error.detach().clamp(min=1e-12))}
