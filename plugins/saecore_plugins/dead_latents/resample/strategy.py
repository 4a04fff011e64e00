"""Resampling of dead latents."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from saecore.core.dead_latents import DeadLatentsStrategy
from saecore.core.optimizer import Optimizer
from saecore.core.sae import SAE
from saecore.core.step import Batch, StepContext
from saecore.errors import ConfigError
from saecore.training.optimizer_steps import reset_rows
from saecore_plugins.dead_latents.resample import ResampleConfig


class Resample(DeadLatentsStrategy):
    """Periodically point dead latents in the directions of badly reconstructed inputs.

    For each dead latent a token of the batch is drawn without replacement, with probability ∝ ℓ²
    or ∝ ℓ, ℓ = ‖x̂ − target‖². Let v be the unit vector along the encoder's input (x − b_dec if
    that is subtracted) and u the one along the target (v, or target − b_dec if a different hook is
    reconstructed):

        encoder row = 0.2 · v · mean norm of the encoder rows of living latents
        decoder row = u · mean norm of the decoder rows of living latents (1 if constrained to 1)
        biases of the latent = 0; thresholds stay; optimizer state of changed rows is reset.

    Source: Bricken et al. 2023, and dictionary_learning, which draws ∝ ‖x̂ − x‖ and does not
    subtract b_dec. Latents beyond the number of tokens in the batch wait for the next resampling.
    """

    def __init__(self, config: ResampleConfig) -> None:
        super().__init__(config)
        self.config = config

    def acts(self, step: int) -> bool:
        """After every `every_steps` steps, up to `until_step`."""
        done, until = step + 1, self.config.until_step
        return done % self.config.every_steps == 0 and (until is None or done <= until)

    @torch.no_grad()
    def after_step(
        self, sae: SAE, optimizer: Optimizer, batch: Batch, context: StepContext
    ) -> Tensor:
        """Give dead latents new weights; return a mask of them `[d_sae]`.

        Raises:
            ConfigError: the rows of a matrix do not have the size of the activations.
        """
        revived = torch.zeros_like(context.dead)
        latents = context.dead.nonzero(as_tuple=True)[0][: len(batch)]
        if not len(latents):
            return revived
        rows = self._drawn(sae, batch, context, len(latents))
        seen = batch.inputs[rows].flatten(1)
        read = seen if sae.center is None else seen - sae.center
        same = batch.targets is batch.inputs
        written = read if same else batch.targets[rows].flatten(1) - sae.b_dec
        living = ~context.dead
        for name, parameter in sae.named_parameters(recurse=False):
            if name == "encoder":
                _renew(parameter, latents, read, 0.2, living, sae)
            elif name == "W_dec":
                _renew(parameter, latents, written, 1.0, living, sae)
            elif name != "b_dec" and parameter.shape == context.dead.shape:
                parameter[latents] = 0
            else:
                continue
            reset_rows(optimizer, parameter, latents)
        revived[latents] = True
        return revived

    def _drawn(self, sae: SAE, batch: Batch, context: StepContext, n: int) -> Tensor:
        """Draw `n` different tokens of the batch by their loss; return their indices."""
        x_hat = context.restored(sae.reconstruct(sae.select(batch.inputs), batch.inputs))
        loss = (x_hat - context.targets.flatten(1)).float().square().sum(-1)
        share = loss / loss.max().clamp(min=1e-30)  # squares of large losses could overflow
        weights = share.square() if self.config.probability == "squared_loss" else share
        # Keep every probability positive: fewer tokens than latents may have a loss.
        return weights.clamp(min=1e-12).multinomial(n, generator=context.generator("resample"))


def _renew(
    matrix: nn.Parameter, latents: Tensor, rows: Tensor, scale: float, living: Tensor, sae: SAE
) -> None:
    """Give `latents [n]` the directions `rows [n, …]`, at `scale` times the mean live norm."""
    if rows[0].numel() != matrix[0].numel():
        raise ConfigError(
            ["sae.dead_latents: resample needs encoder and decoder rows of the size of the "
             f'activations, which {sae.architecture} does not have; use "auxk" or "none"'],
        )  # fmt: skip
    norms = matrix.flatten(1).norm(dim=1)
    # If no latent is alive, fall back to the mean norm of all.
    mean = norms[living].mean() if bool(living.any()) else norms.mean()
    flat = rows.flatten(1).to(matrix.dtype)
    unit = flat / flat.norm(dim=1, keepdim=True).clamp(min=1e-12)
    matrix[latents] = (scale * mean * unit).view_as(matrix[latents])
