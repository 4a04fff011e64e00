"""PCA as an SAE."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor

from saecore.codes import Codes
from saecore.errors import ConfigError
from saecore.sae import SAE
from saecore.sae_config import Shape, check_width
from saecore.step import Batch, StepContext, StepOutput
from saecore_plugins.architectures.abstopk import AbsTopKConfig
from saecore_plugins.architectures.abstopk.sae import AbsTopK


class PCA(SAE):
    """f = (x − μ) Vᵀ, of which the k largest in absolute value stay; x̂ = f V + μ.

    V are the leading d_sae eigenvectors of the covariance of all activations so far, μ their mean.
    Nothing follows a gradient: each step adds its batch to mean and covariance, and V is computed
    anew after 1, 2, 4, 8, … steps and when the SAE is published.

    Raises:
        ConfigError: d_sae is larger than d_in, or k than d_sae.
    """

    architecture = "pca"
    saved_fields: ClassVar = ("k",)

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
                "experiment",
                [f"sae.d_sae: PCA has at most d_in = {shape.d_in} components, got {shape.d_sae}"],
            )
        self.k = config.k or shape.d_sae
        check_width(self.k, shape.d_sae)
        self.encoder.requires_grad_(False)
        self.b_enc.requires_grad_(False)
        self.W_dec.requires_grad_(False)  # b_dec has a gradient, so that bad numbers are noticed
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
        if context.step != self._step:  # a step that was skipped leaves nothing
            self._step, self._batch = context.step, []
        self._batch.append(batch.inputs.detach())
        return super().training_step(batch, context)

    @torch.no_grad()
    def after_step(self) -> None:
        """Add the batch to mean and covariance."""
        x = torch.cat(self._batch).to(self.mean.dtype)
        self._batch = []
        mean = x.mean(0)
        centred, shift = x - mean, mean - self.mean
        total = self.seen + len(x)
        self.scatter += centred.T @ centred
        self.scatter += torch.outer(shift, shift) * (self.seen * len(x) / total)
        self.mean += shift * (len(x) / total)
        self.seen.copy_(total)
        self.b_dec.copy_(self.mean)
        steps = self._step + 1
        if steps & (steps - 1) == 0:
            self.compute_components()

    @torch.no_grad()
    def compute_components(self) -> None:
        """Encoder and decoder become the leading eigenvectors, the largest entry of each > 0."""
        vectors = torch.linalg.eigh(self.scatter).eigenvectors  # in columns, eigenvalues rising
        leading = vectors.T.flip(0)[: self.cfg.d_sae]
        largest = leading.gather(1, leading.abs().argmax(1, keepdim=True))
        self.W_dec.copy_(leading * largest.sign())
        self.encoder.copy_(self.W_dec)
        self.b_dec.copy_(self.mean)

    @torch.no_grad()
    def scale_input(self, factor: float | Tensor, out: float | Tensor | None = None) -> None:
        """Components have length 1 in any unit; features take that of raw activations."""
        factors = torch.as_tensor(factor, device=self.mean.device).expand_as(self.mean)
        self.b_dec.div_(factors)
        self.mean.div_(factors)
        self.scatter.div_(torch.outer(factors, factors))

    def to_inference(self) -> SAE:
        """An AbsTopK SAE, which is the same function."""
        if self.seen > 0:
            self.compute_components()
        cfg = self.cfg
        method = AbsTopKConfig(k=self.k, rescale_acts_by_decoder_norm=False)
        shape = Shape(cfg.d_in, cfg.d_out, cfg.d_sae, self.W_dec.dtype, self.W_dec.device)
        result = AbsTopK(method, shape)
        result.load_state_dict({name: getattr(self, name) for name in result.state_dict()})
        result.cfg = attrs.evolve(cfg, architecture="abstopk", method=method, inference=True)
        return result
