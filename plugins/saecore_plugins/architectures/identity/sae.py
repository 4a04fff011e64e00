"""The identity."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from saecore.codes import Codes
from saecore.errors import ConfigError
from saecore.sae import SAE
from saecore.sae_config import Shape


class Identity(SAE):
    """f = x, x̂ = x: a latent for every coordinate, with either sign. Nothing is learned.

    Raises:
        ConfigError: d_sae is not d_in.
    """

    architecture = "identity"
    saved_fields: ClassVar = ()

    def __init__(self, config: Any, shape: Shape) -> None:
        super().__init__(config, shape)
        if shape.d_sae != shape.d_in:
            raise ConfigError(
                "experiment",
                [f"sae.d_sae: the identity has d_sae = d_in = {shape.d_in}, got {shape.d_sae}; "
                 "set sae.expansion_factor = 1"],
            )  # fmt: skip
        self.encoder.requires_grad_(False)
        self.b_enc.requires_grad_(False)
        self.W_dec.requires_grad_(False)  # b_dec has a gradient, so that bad numbers are noticed
        self.after_step()

    def initialize(
        self, generator: torch.Generator, decoder_norm: float, tied: bool = True
    ) -> None:
        """One direction for every coordinate, whatever the arguments."""
        self.after_step()

    def select(self, x: Tensor) -> Codes:
        """Every latent."""
        return self.encoding(x).topk(self.cfg.d_sae)

    @torch.no_grad()
    def after_step(self) -> None:
        """Stay the identity."""
        for matrix in (self.encoder, self.W_dec):
            torch.nn.init.eye_(matrix)
        for bias in (self.b_enc, self.b_dec):
            bias.zero_()

    def scale_input(self, factor: float | Tensor, out: float | Tensor | None = None) -> None:
        """The identity of scaled activations is the identity."""
