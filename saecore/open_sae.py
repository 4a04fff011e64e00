"""An SAE whose activation is chosen in the experiment, with an L1 or Lp penalty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor

from saecore.codes import Codes
from saecore.config.structure import structure_choice
from saecore.plugins import current_host
from saecore.sae import SAE
from saecore.sae_config import Shape
from saecore.step import Batch, Scheduled, StepContext, StepOutput


class OpenSAE(SAE):
    """Any activation, and λ · mean ‖f · n‖_p with n the norms of the decoder rows, which are free.

    Source of the penalty: Bricken et al. 2023 with the decoder norms inside (Anthropic, April
    2024), as in SAELens 6.
    """

    saved_fields: ClassVar = ("activation",)
    training_fields = frozenset(
        {"decoder_init_norm", "l1_coefficient", "lp_norm", "l1_warm_up_steps"}
    )

    def __init__(self, config: Any, shape: Shape) -> None:
        super().__init__(config, shape)
        self.activation = config.activation.build(shape)
        weight = config.l1_coefficient
        if weight is None:
            weight = 0.0 if self.activation.sparse else 1.0
        self._scheduled = (
            {"l1_coefficient": Scheduled(weight, config.l1_schedule.build())} if weight else {}
        )

    @property
    def coefficient(self) -> str | None:
        """The weight of the penalty, or that of the activation."""
        return "l1_coefficient" if self._scheduled else super().coefficient

    @property
    def file_architecture(self) -> str:
        """An activation other than ReLU is part of the name, as in `jumprelu_transcoder`."""
        name = self.cfg.method.activation.name
        return self.architecture if name == "relu" else f"{name}_{self.architecture}"

    def training_step(self, batch: Batch, context: StepContext) -> StepOutput:
        """The reconstruction loss, the activation's losses and the sparsity penalty."""
        output = super().training_step(batch, context)
        if self._scheduled:
            output.losses["l1_loss"] = self.penalty_loss(output.codes, context)
        return output

    def penalty_loss(self, codes: Codes, context: StepContext) -> Tensor:
        """The sparsity penalty, its coefficient applied."""
        penalty = self.penalty(codes, self.cfg.lp_norm).mean()
        return context.scheduled["l1_coefficient"] * penalty

    def penalty(self, codes: Codes, p: float) -> Tensor:
        """‖f · n‖_p of each token `[N]`: a true p-norm, zero (with gradient zero) at f = 0."""
        if p == 1:
            return codes.l1(self.decoder_norms())
        weighted = codes.values * codes.per_latent(self.decoder_norms())
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

    def to_inference(self) -> SAE:
        """With the activation's published form."""
        result = super().to_inference()
        published = self.activation.published if self.activation is not None else None
        if published is not None:
            chosen = structure_choice("activation", published, current_host())
            method = attrs.evolve(self.cfg.method, activation=chosen)
            result.cfg = attrs.evolve(result.cfg, method=method)
        return result
