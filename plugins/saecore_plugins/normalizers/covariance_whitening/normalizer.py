"""Whitening of activations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import attrs
import torch
from torch import Tensor

from saecore.core.architecture_config import RescaledConfig
from saecore.core.normalizer import NormalizerStrategy
from saecore.core.sae import SAE
from saecore.core.step import Batch
from saecore.errors import ConfigError, NumericsError

if TYPE_CHECKING:
    from saecore_plugins.normalizers.covariance_whitening import CovarianceWhiteningConfig

RIDGE = 1e-3
"""Added to every variance, so that directions without activations are not amplified."""


class CovarianceWhitening(NormalizerStrategy):
    """The SAE sees (x − μ) M with M = E diag(λ + 1e-3)^−½, λ and E of the covariance of x.

    The loss is the squared error of whitened activations, which weights all directions
    equally. Mean, covariance (over N, not N − 1) and the fold are in float64. Source: SAELens 6.
    """

    def __init__(self, config: CovarianceWhiteningConfig) -> None:
        super().__init__(config)
        self.tokens = config.tokens
        self.mean = torch.zeros(())
        """μ `[d_in]`, float64, on the CPU."""
        self.matrix = torch.zeros(())
        """M `[d_in, d_in]`, float64, on the CPU."""
        self.inverse = torch.zeros(())
        """M⁻¹ `[d_in, d_in]`, float64, on the CPU."""
        self._on_device: tuple[Tensor, Tensor] | None = None

    def check(self, sae: SAE) -> None:
        """Accept only SAEs with one linear encoder and one decoder of the same activations.

        Raises:
            ConfigError: the whitening cannot be folded into this SAE.
        """
        dims = {
            name: parameter.dim()
            for name, parameter in sae.named_parameters(recurse=False)
            if name != "b_dec"
        }
        matrices = {name for name, dim in dims.items() if dim != 1}
        if sae.several_hooks or sae.separate_target or matrices != {"encoder", "W_dec"}:
            raise ConfigError(
                ["sae.normalizer: covariance_whitening cannot be folded exactly into "
                 f'{sae.architecture}; use "expected_average_only_in" or "none"'],
            )  # fmt: skip

    def estimate(self, batches: Iterable[Batch]) -> None:
        """Estimate mean and covariance of the inputs.

        Raises:
            NumericsError: they are not finite.
        """
        count, total, products = 0, torch.zeros(()), torch.zeros(())
        offset: Tensor | None = None
        for batch in batches:
            x = batch.inputs.cpu().double()
            # Sums relative to a point near the mean: a large mean must not cancel small variances.
            offset = x.mean(0) if offset is None else offset
            x = x - offset
            count, total, products = count + len(x), total + x.sum(0), products + x.t() @ x
        if offset is None or not bool(products.isfinite().all()):
            raise NumericsError(
                f"sae.normalizer: the covariance of {count} activations is not finite; check the "
                "hook and the model's dtype"
            )
        shift = total / count
        values, vectors = torch.linalg.eigh(products / count - torch.outer(shift, shift))
        deviations = (values.clamp(min=0) + RIDGE).sqrt()
        self.mean = offset + shift
        self.matrix = (vectors / deviations).contiguous()
        self.inverse = (deviations[:, None] * vectors.t()).contiguous()
        self._on_device = None

    def apply(self, batch: Batch) -> Batch:
        """Whiten inputs and targets."""
        return batch.map(self._whitened)

    def _whitened(self, x: Tensor) -> Tensor:
        if self._on_device is None:
            self._on_device = self.mean.to(x), self.matrix.to(x)
        mean, matrix = self._on_device
        return (x - mean) @ matrix

    def fold(self, sae: SAE) -> None:
        """Make the SAE read and reconstruct raw activations; features do not change."""
        sae.fold_scale()
        method = sae.cfg.architecture_config
        if isinstance(method, RescaledConfig):
            # The norms are now in the encoder; norms of unwhitened rows differ.
            method = attrs.evolve(method, rescale_acts_by_decoder_norm=False)
            sae.cfg = attrs.evolve(sae.cfg, architecture_config=method)
        encoder = sae.encoder.detach().cpu().double() @ self.matrix.t()
        W_dec = sae.W_dec.detach().cpu().double() @ self.inverse
        b_dec = sae.b_dec.detach().cpu().double() @ self.inverse + self.mean
        with torch.no_grad():
            if sae.center is None:
                sae.shift_preactivations((-encoder @ self.mean).to(sae.encoder))
            sae.encoder.copy_(encoder)
            sae.W_dec.copy_(W_dec)
            sae.b_dec.copy_(b_dec)

    def unfold(self, sae: SAE) -> None:
        """Refuse: the decoder norms by which latents are ranked would change.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            ["sae.normalizer: covariance_whitening cannot start from a saved SAE; use "
             '"expected_average_only_in" or "none", or remove sae.init_from'],
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """Mean and matrices."""
        return {"mean": self.mean, "matrix": self.matrix, "inverse": self.inverse}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load mean and matrices."""
        self.mean, self.matrix, self.inverse = state["mean"], state["matrix"], state["inverse"]
        self._on_device = None
