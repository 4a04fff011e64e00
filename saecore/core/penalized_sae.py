"""Base of SAEs with a configurable activation and an L1 or Lp penalty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import torch
from torch import Tensor

from saecore.core.file_form import FileForm
from saecore.core.sae import SAE
from saecore.core.sae_config import Shape
from saecore.core.schedule import Scheduled
from saecore.core.step import Batch, StepContext, StepOutput
from saecore.ops.codes import Codes
from saecore.plugins.structure import structure_choice


class PenalizedSAE(SAE):
    """Any activation, plus λ · mean ‖f · n‖_p with n the unconstrained norms of the decoder rows.

    Source of the penalty: Bricken et al. 2023 with the decoder norms inside (Anthropic, April
    2024), as in SAELens 6.
    """

    file_form = FileForm(
        saved_fields=("activation",),
        training_fields=frozenset(
            {"decoder_init_norm", "l1_coefficient", "lp_norm", "l1_warm_up_steps"}
        ),
        warm_up=("l1_warm_up_steps", "l1_schedule"),
        activation_in_name=True,
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
        """The weight of the penalty if there is one, else the activation's."""
        return "l1_coefficient" if self._scheduled else super().coefficient

    def training_step(self, batch: Batch, context: StepContext) -> StepOutput:
        """The reconstruction loss, the activation's losses and the sparsity penalty."""
        output = super().training_step(batch, context)
        if self._scheduled:
            output.losses["l1_loss"] = self.penalty_loss(output.codes, context)
        return output

    def penalty_loss(self, codes: Codes, context: StepContext) -> Tensor:
        """The sparsity penalty times its coefficient."""
        penalty = self.penalty(codes, self.cfg.lp_norm).mean()
        return context.scheduled["l1_coefficient"] * penalty

    def penalty(self, codes: Codes, p: float) -> Tensor:
        """‖f · n‖_p of each token `[N]`: a true p-norm, zero (with gradient zero) at f = 0."""
        if p == 1:
            return codes.l1(self.decoder_norms())
        weighted = codes.values * codes.per_latent(self.decoder_norms())
        powers = codes.sum_per_row(weighted.abs() ** p)
        # The p-th root has no derivative at 0, so rows without features bypass it.
        empty = powers == 0
        return torch.where(empty, 0.0, torch.where(empty, 1.0, powers) ** (1 / p))

    def scheduled(self) -> Mapping[str, Scheduled]:
        """The weight of the penalty and the activation's values."""
        return {**super().scheduled(), **self._scheduled}

    def to_inference(self, *, in_place: bool = False) -> SAE:
        """Also convert the activation to its published form."""
        published = self.activation.published if self.activation is not None else None
        result = super().to_inference(in_place=in_place)
        if published is not None:
            chosen = structure_choice("activation", published)
            config = attrs.evolve(self.cfg.architecture_config, activation=chosen)
            result.cfg = attrs.evolve(result.cfg, architecture_config=config)
        return result
