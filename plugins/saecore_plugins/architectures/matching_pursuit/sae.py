"""The matching-pursuit SAE."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor

from saecore.activation import Encoding
from saecore.codes import Codes
from saecore.errors import ConfigError
from saecore.sae import SAE
from saecore.sae_config import Shape


class MatchingPursuit(SAE):
    """r = x_c; repeat: i = argmax r W_decᵀ, v = relu(r · d_i), f_i += v, r −= v d_i.

    A token is finished when its residual is small, or (by choice) when i was active already. The
    encoder is the decoder's transpose. Source: Costa et al. 2025; SAELens 6 for when to stop.
    """

    architecture = "matching_pursuit"
    competitive = True
    saved_fields: ClassVar = ("residual_threshold", "max_iterations", "stop_on_duplicate_support")
    training_fields = frozenset({"decoder_init_norm"})
    latent_vectors = ()

    def __init__(self, config: Any, shape: Shape) -> None:
        super().__init__(config, shape)
        self.iterations = config.max_iterations or shape.d_in

    def parameter_sizes(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        """The decoder alone."""
        sizes = super().parameter_sizes(shape)
        return {name: sizes[name] for name in ("W_dec", "b_dec")}

    @property
    def W_enc(self) -> Tensor:
        """The decoder's transpose `[d_in, d_sae]`."""
        return self.W_dec.t()

    def initialize(
        self, generator: torch.Generator, decoder_norm: float, tied: bool = True
    ) -> None:
        """Unit rows, whatever `decoder_norm`: a pursuit projects on them."""
        super().initialize(generator, 1.0, tied)

    def encoding(self, x: Tensor) -> Encoding:
        """First projections, for strategies that ask for pre-activations."""
        zero = self.W_dec.new_zeros(self.cfg.d_sae)
        return Encoding(x, self.W_enc, zero, self.centre, None, self.decoder_norms)

    def select(self, x: Tensor) -> Codes:
        """The pursuit; each step is differentiable but for the choice."""
        residual = x if self.centre is None else x - self.centre
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
                if not going.any().cpu().numpy():  # on the CPU no transfer
                    break
        return Codes.from_dense(features)

    def scale_input(self, factor: float | Tensor, out: float | Tensor | None = None) -> None:
        """Features take the unit of raw activations; so does the residual's limit."""
        with torch.no_grad():
            self.b_dec.div_(factor)
        limit = self.cfg.method.residual_threshold / float(factor)
        self.cfg = attrs.evolve(
            self.cfg, method=attrs.evolve(self.cfg.method, residual_threshold=limit)
        )

    def scale_latents(self, factor: Tensor) -> None:
        """Refused: encoder and decoder are one.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            "matching_pursuit",
            ["decoder norms cannot be folded: encoder and decoder are one matrix"],
        )
