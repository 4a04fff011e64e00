"""The standard SAE."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import Tensor

from saecore.core.penalized_sae import PenalizedSAE
from saecore.core.sae_config import Shape
from saecore.core.schedule import Scheduled
from saecore.core.step import StepContext
from saecore.ops.codes import Codes


class Standard(PenalizedSAE):
    """f = activation((x − b_dec) W_enc + b_enc), x̂ = f W_dec + b_dec, plus λ · mean ‖f · n‖_p.

    n are the unconstrained norms of the decoder rows. Source: Bricken et al. 2023 with the
    decoder norms inside the penalty (Anthropic, April 2024), as in SAELens 6. A schedule of p
    (p-annealing) is Karvonen et al. 2024, arXiv 2408.00113.
    """

    architecture = "standard"
    file_form = attrs.evolve(PenalizedSAE.file_form, training_state=("penalty_scale", "last_p"))
    penalty_scale: Tensor
    last_p: Tensor

    def __init__(self, config: Any, shape: Shape) -> None:
        super().__init__(config, shape)
        self._scheduled["lp_norm"] = Scheduled(config.lp_norm, config.lp_schedule.build())
        if config.lp_rescale:
            self.register_buffer("penalty_scale", torch.ones((), device=shape.device))
            self.register_buffer("last_p", torch.zeros((), device=shape.device))

    def penalty_loss(self, codes: Codes, context: StepContext) -> Tensor:
        """The penalty with this step's p."""
        p = float(context.scheduled["lp_norm"])
        penalty = self.penalty(codes, p).mean()
        if self.cfg.lp_rescale:
            self._keep_continuous(codes, p, penalty)
            penalty = penalty * self.penalty_scale
        return context.scheduled["l1_coefficient"] * penalty

    @torch.no_grad()
    def _keep_continuous(self, codes: Codes, p: float, penalty: Tensor) -> None:
        """Rescale the penalty so that this step's change of p does not change its value."""
        last = float(self.last_p)
        if last not in (0.0, p):
            ratio = self.penalty(codes, last).mean() / penalty
            self.penalty_scale.mul_(ratio.nan_to_num(1.0, posinf=1.0))
        self.last_p.fill_(p)
