"""The Matryoshka BatchTopK SAE."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import Tensor

from saecore import ops
from saecore.core.sae_config import Shape
from saecore.core.step import Batch, Level, StepContext, StepOutput
from saecore.errors import ConfigError
from saecore_plugins.architectures.batchtopk.sae import BatchTopK


class MatryoshkaBatchTopK(BatchTopK):
    """BatchTopK whose first w latents also reconstruct on their own, for each width w.

    loss = Σ_w mean ‖f[:w] W_dec[:w] + b_dec − x‖². Source: Bussmann et al. 2025; SAELens 6 for the
    plain sum over widths.
    """

    architecture = "matryoshka_batchtopk"
    file_form = attrs.evolve(
        BatchTopK.file_form,
        saved_fields=(
            *(BatchTopK.file_form.saved_fields or ()),
            "matryoshka_widths",
            "random_widths",
        ),
        training_fields=BatchTopK.file_form.training_fields | {"use_matryoshka_aux_loss"},
        details=lambda sae: {"matryoshka_widths": list(sae.widths)},
    )

    def __init__(self, config: Any, shape: Shape) -> None:
        super().__init__(config, shape)
        widths = config.matryoshka_widths
        if widths and widths[-1] > shape.d_sae:
            raise ConfigError(
                [f"sae.matryoshka_widths: expected up to d_sae = {shape.d_sae}, got {widths[-1]}"],
            )
        self.widths = widths if widths and widths[-1] == shape.d_sae else (*widths, shape.d_sae)

    def training_step(self, batch: Batch, context: StepContext) -> StepOutput:
        """The losses of all widths; that of the full dictionary is `mse_loss`."""
        output = super().training_step(batch, context)
        widths = self._drawn(context) if self.cfg.random_widths else self.widths
        inner = ops.decode_prefixes(output.codes, self.W_dec, self.b_dec, widths[:-1])
        starts = (0, *widths[:-1])
        parts: list[Tensor] = [*inner, output.reconstruction]
        output.levels = tuple(
            Level(start, stop, part)
            for start, stop, part in zip(starts, widths, parts, strict=True)
        )
        for i, (width, reconstruction) in enumerate(zip(widths[:-1], inner, strict=True)):
            name = f"inner_mse_loss_{i if self.cfg.random_widths else width}"
            output.losses[name] = context.reconstruction_loss(reconstruction)
        return output

    def _drawn(self, context: StepContext) -> tuple[int, ...]:
        """Draw the widths of this step: d_sae to the power of uniform numbers, so mostly small."""
        count, d_sae = self.cfg.random_widths, self.cfg.d_sae
        source = context.generator("widths")
        uniform = torch.rand(count, generator=source, device=source.device).tolist()
        drawn = sorted({min(d_sae - 1, int(d_sae**u)) for u in uniform} - {0})
        return (*drawn, d_sae)
