"""The gated SAE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from saecore import ops
from saecore.core.activation import PreActivations
from saecore.core.file_form import FileForm
from saecore.core.sae import SAE
from saecore.core.sae_config import Shape
from saecore.core.schedule import Scheduled
from saecore.core.step import Batch, StepContext, StepOutput
from saecore.ops.codes import Codes


class Gated(SAE):
    """f = 1[π > 0] relu(x_c W_enc e^{r_mag} + b_mag), π = x_c W_enc + b_gate, x̂ = f W_dec + b_dec.

    losses: mean ‖x̂ − x‖², λ · mean Σ relu(π) · n and mean ‖relu(π) W_dec + b_dec − x‖², with x_c =
    x − b_dec and n the norms of the decoder rows. Source: Rajamanoharan et al. 2024; SAELens 6 for
    the norms.
    """

    architecture = "gated"
    file_form = FileForm(
        saved_fields=(),
        training_fields=frozenset({"decoder_init_norm", "l1_coefficient", "l1_warm_up_steps"}),
        warm_up=("l1_warm_up_steps", "l1_schedule"),
    )
    latent_vectors = ("b_gate", "b_mag")

    b_gate: nn.Parameter
    b_mag: nn.Parameter
    r_mag: nn.Parameter

    def __init__(self, config: Any, shape: Shape) -> None:
        super().__init__(config, shape)
        self._scheduled = {
            "l1_coefficient": Scheduled(config.l1_coefficient, config.l1_schedule.build())
        }

    def parameter_sizes(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        """Replace b_enc by a bias of the gate, and bias and log scale of the magnitude."""
        sizes = super().parameter_sizes(shape)
        del sizes["b_enc"]
        return {**sizes, **dict.fromkeys(("b_gate", "b_mag", "r_mag"), (shape.d_sae,))}

    @property
    def coefficient(self) -> str:
        """The weight of the penalty on the gate."""
        return "l1_coefficient"

    def encoding(self, x: Tensor) -> PreActivations:
        """The gate's pre-activations π."""
        return PreActivations(
            x=x,
            W_enc=self.W_enc,
            b_enc=self.b_gate,
            center=self.center,
            scale=None,
            decoder_norms=self.decoder_norms,
        )

    def _magnitude(self, gate: Codes) -> Codes:
        """Features where π > 0, computed from π: x_c W_enc = π − b_gate."""
        raw = gate.values - gate.per_latent(self.b_gate)
        scaled = raw * gate.per_latent(self.r_mag.exp()) + gate.per_latent(self.b_mag)
        return gate.with_values(scaled.relu())

    def all_preactivations(self, x: Tensor) -> Tensor:
        """Pre-activations of the magnitude, x_c W_enc e^{r_mag} + b_mag, as in SAELens."""
        gate = self.encoding(x).dense()
        return (gate - self.b_gate) * self.r_mag.exp() + self.b_mag

    def select(self, x: Tensor) -> Codes:
        """The features whose gate is open."""
        return self._magnitude(self.encoding(x).above(0.0))

    def training_step(self, batch: Batch, context: StepContext) -> StepOutput:
        """The reconstruction loss, the gate penalty and the auxiliary reconstruction loss."""
        gate = self.encoding(batch.inputs).above(0.0)
        codes = self._magnitude(gate)
        x_hat = self.reconstruct(codes, batch.inputs)
        decoder: tuple[Tensor, ...] = (self.decoder_norms(), self.W_dec, self.b_dec)
        if self.cfg.detach_aux:
            # The norms too: otherwise the penalty shrinks the rows and r_mag compensates.
            decoder = tuple(tensor.detach() for tensor in decoder)
        norms, W_dec, b_dec = decoder
        penalty = gate.l1(norms).mean()
        losses = {
            "mse_loss": context.reconstruction_loss(x_hat),
            "l1_loss": context.scheduled["l1_coefficient"] * penalty,
            "auxiliary_reconstruction_loss": context.reconstruction_loss(
                ops.decode(gate, W_dec, b_dec)
            ),
        }
        return StepOutput(losses, codes, x_hat)

    def shift_preactivations(self, shift: Tensor) -> None:
        """Shift both gate and magnitude, which share the encoder."""
        with torch.no_grad():
            self.b_gate.add_(shift)
            self.b_mag.add_(shift * self.r_mag.exp())

    def scheduled(self) -> Mapping[str, Scheduled]:
        """The weight of the penalty."""
        return self._scheduled
