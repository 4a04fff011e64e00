"""The AuxK loss."""

from __future__ import annotations

import torch
from torch import Tensor

from saecore import ops
from saecore.core.dead_latents import DeadLatentsStrategy
from saecore.core.sae import SAE
from saecore.core.step import Batch, Level, StepContext, StepOutput
from saecore.ops.codes import Codes
from saecore_plugins.dead_latents.auxk import AuxKConfig


class AuxK(DeadLatentsStrategy):
    """The k_aux best dead latents of each token reconstruct the residual, which gets no gradient.

    loss = coefficient · min(n_dead / k_aux, 1) · mean ‖ê − (x − x̂)‖², with ê the decoded
    pre-activations (without bias) of the best dead latents. Source: Gao et al. 2024; the defaults
    are SAELens 6's form, in which ê is not rectified and the loss not normalized.
    """

    def __init__(self, config: AuxKConfig) -> None:
        super().__init__(config)
        self.config = config

    def losses(
        self, sae: SAE, batch: Batch, output: StepOutput, context: StepContext
    ) -> dict[str, Tensor]:
        """The loss `auxiliary_reconstruction_loss`; zero while no latent is dead."""
        whole = Level(0, len(context.dead), output.reconstruction)
        levels = output.levels if self.config.per_level and output.levels else (whole,)
        parts = [self._loss(sae, batch, level, context.dead) for level in levels]
        return {"auxiliary_reconstruction_loss": torch.stack(parts).sum()}

    def _loss(self, sae: SAE, batch: Batch, level: Level, dead: Tensor) -> Tensor:
        latents = dead[level.start : level.stop].nonzero(as_tuple=True)[0] + level.start
        if not len(latents):
            return level.reconstruction.new_zeros(())
        limit = self.config.k_aux or max(1, sae.cfg.d_in // 2)
        k_aux = min(limit, len(latents))
        pre = sae.preactivations(batch.inputs, latents)  # [N, n_dead]
        if self.config.rectify:
            pre = pre.relu()
        scale = sae.latent_scale()
        ranked = pre.detach() if scale is None else pre.detach() * scale[latents]
        best = (ranked.abs() if sae.rank_by_abs else ranked).topk(k_aux, dim=1).indices
        codes = Codes.from_top(pre.gather(1, best), best, len(latents))  # over dead latents only
        residual = (batch.targets.flatten(1) - level.reconstruction).detach()
        error = (ops.decode(codes, sae.W_dec[latents], None) - residual).square().sum(-1).mean()
        if self.config.normalize:
            variance = (residual - residual.mean(0)).square().sum(-1).mean()
            error = error / variance.clamp(min=1e-12)
        return self.config.coefficient * min(len(latents) / limit, 1.0) * error
