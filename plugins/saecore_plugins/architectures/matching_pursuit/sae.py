"""The matching-pursuit SAE."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import Tensor

from saecore.core.activation import PreActivations
from saecore.core.file_form import FileForm
from saecore.core.sae import SAE
from saecore.core.sae_config import Shape
from saecore.errors import ConfigError
from saecore.ops.codes import Codes


class MatchingPursuit(SAE):
    """r = x_c; repeat: i = argmax r W_decᵀ, v = relu(r · d_i), f_i += v, r −= v d_i.

    A token stops when its residual is small or (optionally) when i was already active. The encoder
    is the decoder's transpose. Source: Costa et al. 2025; SAELens 6 for the stopping rule.
    """

    architecture = "matching_pursuit"
    competitive = True
    file_form = FileForm(
        saved_fields=("residual_threshold", "max_iterations", "stop_on_duplicate_support")
    )
    latent_vectors = ()

    def __init__(self, config: Any, shape: Shape) -> None:
        super().__init__(config, shape)
        self.iterations = config.max_iterations or shape.d_in

    def parameter_sizes(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        """Only the decoder."""
        sizes = super().parameter_sizes(shape)
        return {name: sizes[name] for name in ("W_dec", "b_dec")}

    @property
    def W_enc(self) -> Tensor:
        """The decoder's transpose `[d_in, d_sae]`."""
        return self.W_dec.t()

    def initialize(
        self, generator: torch.Generator, decoder_norm: float, tied: bool = True
    ) -> None:
        """Unit rows, regardless of `decoder_norm`: the pursuit projects on them."""
        super().initialize(generator, 1.0, tied)

    def encoding(self, x: Tensor) -> PreActivations:
        """The first projections, for strategies that need pre-activations."""
        zero = self.W_dec.new_zeros(self.cfg.d_sae)
        return PreActivations(
            x=x,
            W_enc=self.W_enc,
            b_enc=zero,
            center=self.center,
            scale=None,
            decoder_norms=self.decoder_norms,
        )

    def select(self, x: Tensor) -> Codes:
        """Run the pursuit; each step is differentiable except for the choice."""
        residual = x if self.center is None else x - self.center
        features = residual.new_zeros(len(x), self.cfg.d_sae)
        going = torch.ones(len(x), dtype=torch.bool, device=x.device)
        for _ in range(self.iterations):
            with torch.no_grad():
                best = (residual @ self.W_dec.t()).relu().argmax(dim=1)  # [N]
            rows = self.W_dec[best]
            value = (residual * rows).sum(-1).relu() * going
            active = features.detach() != 0
            features = features.scatter_add(1, best[:, None], value[:, None])
            residual = residual - value[:, None] * rows
            with torch.no_grad():
                going = going & (residual.norm(dim=-1) >= self.cfg.residual_threshold)
                if self.cfg.stop_on_duplicate_support:
                    going = going & ((features != 0) != active).any(-1)
                if not going.any().cpu().numpy():  # no transfer on the CPU
                    break
        return Codes.from_dense(features)

    def scale_input(self, factor: float | Tensor, out: float | Tensor | None = None) -> None:
        """Convert features and the residual threshold to the units of raw activations."""
        with torch.no_grad():
            self.b_dec.div_(factor)
        limit = self.cfg.architecture_config.residual_threshold / float(factor)
        self.cfg = attrs.evolve(
            self.cfg,
            architecture_config=attrs.evolve(
                self.cfg.architecture_config, residual_threshold=limit
            ),
        )

    def scale_latents(self, factor: Tensor) -> None:
        """Refuse: encoder and decoder are one matrix.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            ["decoder norms cannot be folded: encoder and decoder are one matrix"],
            label="matching_pursuit",
        )
