"""PCA as an SAE."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import Tensor

from saecore.core.file_form import FileForm
from saecore.core.sae import SAE
from saecore.core.sae_config import Shape, check_width
from saecore.core.step import Batch, StepContext, StepOutput
from saecore.errors import ConfigError
from saecore.ops.codes import Codes
from saecore_plugins.architectures.abstopk import AbsTopKConfig
from saecore_plugins.architectures.abstopk.sae import AbsTopK


class PCA(SAE):
    """f = the k entries of (x − μ) Vᵀ largest in absolute value, x̂ = f V + μ.

    V are the leading d_sae eigenvectors of the covariance of all activations so far, μ their mean.
    There is no gradient descent: each step adds its batch to mean and covariance, and V is computed
    after 1, 2, 4, 8, … steps and when the SAE is exported.

    Raises:
        ConfigError: d_sae is larger than d_in, or k than d_sae.
    """

    architecture = "pca"
    file_form = FileForm(saved_fields=("k",))

    seen: Tensor
    """Number of activations so far."""
    mean: Tensor
    """Their mean `[d_in]`."""
    scatter: Tensor
    """Σ (x − mean)ᵀ (x − mean) `[d_in, d_in]`."""

    def __init__(self, config: Any, shape: Shape) -> None:
        super().__init__(config, shape)
        if shape.d_sae > shape.d_in:
            raise ConfigError(
                [f"sae.d_sae: PCA has at most d_in = {shape.d_in} components, got {shape.d_sae}"],
            )
        self.k = config.k or shape.d_sae
        check_width(self.k, shape.d_sae)
        self.encoder.requires_grad_(False)
        self.b_enc.requires_grad_(False)
        self.W_dec.requires_grad_(
            False
        )  # b_dec keeps a gradient, so that non-finite numbers are detected
        precision = torch.float32 if shape.device.type == "mps" else torch.float64
        zeros = torch.zeros(shape.d_in, shape.d_in, dtype=precision, device=shape.device)
        self.register_buffer("seen", zeros[0, 0].clone())
        self.register_buffer("mean", zeros[0].clone())
        self.register_buffer("scatter", zeros)
        self._step = -1
        self._batch: list[Tensor] = []

    def select(self, x: Tensor) -> Codes:
        """The k largest projections in absolute value."""
        return self.encoding(x).topk(self.k, by="abs")

    def training_step(self, batch: Batch, context: StepContext) -> StepOutput:
        """The reconstruction loss; the batch is kept for `after_step`."""
        if context.step != self._step:  # drop the batch of a skipped step
            self._step, self._batch = context.step, []
        self._batch.append(batch.inputs.detach())
        return super().training_step(batch, context)

    @torch.no_grad()
    def after_step(self) -> None:
        """Add the batch to mean and covariance."""
        x = torch.cat(self._batch).to(self.mean.dtype)
        self._batch = []
        mean = x.mean(0)
        centered, shift = x - mean, mean - self.mean
        total = self.seen + len(x)
        self.scatter += centered.T @ centered
        self.scatter += torch.outer(shift, shift) * (self.seen * len(x) / total)
        self.mean += shift * (len(x) / total)
        self.seen.copy_(total)
        self.b_dec.copy_(self.mean)
        steps = self._step + 1
        if steps & (steps - 1) == 0:
            self.compute_components()

    @torch.no_grad()
    def compute_components(self) -> None:
        """Set encoder and decoder to the leading eigenvectors, largest entries positive."""
        vectors = torch.linalg.eigh(self.scatter).eigenvectors  # columns, by ascending eigenvalue
        leading = vectors.T.flip(0)[: self.cfg.d_sae]
        largest = leading.gather(1, leading.abs().argmax(1, keepdim=True))
        self.W_dec.copy_(leading * largest.sign())
        self.encoder.copy_(self.W_dec)
        self.b_dec.copy_(self.mean)

    @torch.no_grad()
    def scale_input(self, factor: float | Tensor, out: float | Tensor | None = None) -> None:
        """Convert mean and covariance; components stay unit vectors."""
        factors = torch.as_tensor(factor, device=self.mean.device).expand_as(self.mean)
        self.b_dec.div_(factors)
        self.mean.div_(factors)
        self.scatter.div_(torch.outer(factors, factors))

    def to_inference(self, *, in_place: bool = False) -> SAE:
        """Bring the components up to date; return an AbsTopK SAE that computes the same function.

        The weights are copied, `in_place` or not.
        """
        if self.seen > 0:
            self.compute_components()
        config = AbsTopKConfig(k=self.k, rescale_acts_by_decoder_norm=False)
        result = AbsTopK(config, self.shape())
        result.load_state_dict({name: getattr(self, name) for name in result.state_dict()})
        result.cfg = attrs.evolve(
            self.cfg, architecture="abstopk", architecture_config=config, inference=True
        )
        return result
