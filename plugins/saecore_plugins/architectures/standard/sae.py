"""The standard SAE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from saecore.codes import Codes
from saecore.sae import SAE
from saecore.sae_config import Shape
from saecore.step import Batch, Scheduled, StepContext, StepOutput


class Standard(SAE):
    """f = activation((x − b_dec) W_enc + b_enc), x̂ = f W_dec + b_dec, plus λ · mean ‖f · n‖_p.

    n are the norms of the decoder rows, which are free. Source: Bricken et al. 2023 with the
    decoder norms inside the penalty (Anthropic, April 2024), as in SAELens 6.
    """

    architecture = "standard"
    coefficient = "l1_coefficient"
    saved_fields: ClassVar = ()
    training_fields = frozenset(
        {"decoder_init_norm", "l1_coefficient", "lp_norm", "l1_warm_up_steps"}
    )

    def __init__(self, config: Any, shape: Shape) -> None:
        super().__init__(config, shape)
        self.activation = config.activation.build(shape)
        self._scheduled = {
            "l1_coefficient": Scheduled(config.l1_coefficient, config.l1_schedule.build())
        }

    def training_step(self, batch: Batch, context: StepContext) -> StepOutput:
        """The reconstruction loss and the sparsity penalty."""
        output = super().training_step(batch, context)
        coefficient = context.scheduled["l1_coefficient"]
        output.losses["l1_loss"] = coefficient * self.penalty(output.codes).mean()
        return output

    def penalty(self, codes: Codes) -> Tensor:
        """‖f · n‖_p of each token `[N]`: a true p-norm, zero (with gradient zero) at f = 0."""
        weighted = codes.values * codes.per_latent(self.decoder_norms())
        p = self.cfg.lp_norm
        if p == 1:
            return codes.sum_per_row(weighted.abs())
        powers = codes.sum_per_row(weighted.abs() ** p)
        # The p-th root has no derivative at 0: rows without features are left out of it.
        empty = powers == 0
        return torch.where(empty, 0.0, torch.where(empty, 1.0, powers) ** (1 / p))

    def scheduled(self) -> Mapping[str, Scheduled]:
        """The weight of the penalty, and what the activation schedules."""
        return {**super().scheduled(), **self._scheduled}

    def training_details(self) -> dict[str, Any]:
        """Warm-up under the reference's name."""
        steps = getattr(self.cfg.l1_schedule.config, "warm_up_steps", 0)
        return {**super().training_details(), "l1_warm_up_steps": steps}
