"""The BatchTopK activation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from saecore.core.activation import Activation, PreActivations
from saecore.core.sae_config import Shape, check_width
from saecore.core.schedule import Scheduled
from saecore.core.step import StepContext
from saecore.ops.codes import Codes
from saecore_plugins.activations.jumprelu.activation import Threshold


class BatchTopK(Activation):
    """Batch-wide selection in training mode; above the learned threshold in evaluation mode.

    The threshold is the running average of the smallest positive feature of each training batch
    (features after `encoding.scale`). Source: Bussmann et al. 2024.
    """

    competitive = True
    published = "jumprelu"
    topk_threshold: Tensor
    topk_updates: Tensor

    def __init__(self, config: Any, shape: Shape) -> None:
        super().__init__()
        check_width(config.k, shape.d_sae)
        self.k, self.rate = config.k, config.topk_threshold_lr
        self._scheduled = {"k": Scheduled(config.k, config.k_schedule.build())}
        double = torch.float32 if shape.device.type == "mps" else torch.float64
        zero = torch.zeros((), dtype=double, device=shape.device)
        self.register_buffer("topk_threshold", zero)
        self.corrected = config.threshold_bias_correction
        if self.corrected:
            self.register_buffer("topk_updates", zero.clone())

    def select(self, encoding: PreActivations) -> Codes:
        """The features of this batch, or in evaluation mode those above the threshold."""
        if self.training:
            return self._chosen(encoding, self.k)
        threshold = self.threshold().to(encoding.x.dtype)
        limit = threshold if encoding.scale is None else threshold / encoding.scale
        return encoding.above(limit.clamp(min=0).expand(encoding.W_enc.shape[1]))

    def _chosen(self, encoding: PreActivations, k: float) -> Codes:
        codes = encoding.batch_topk(int(k * len(encoding.x)))
        return codes.with_values(codes.values.relu())

    def train_select(
        self, encoding: PreActivations, context: StepContext
    ) -> tuple[Codes, dict[str, Tensor]]:
        """The features of this batch; also updates the threshold."""
        codes = self._chosen(encoding, float(context.scheduled["k"]))
        with torch.no_grad():
            features = codes.values.detach()
            if encoding.scale is not None:
                features = features * codes.per_latent(encoding.scale)
            smallest = torch.where(features > 0, features, torch.inf).amin().to(torch.float64)
            some = torch.isfinite(
                smallest
            )  # a batch without features does not change the threshold
            step = torch.where(some, self.rate * (smallest - self.topk_threshold), 0.0)
            self.topk_threshold += step
            if self.corrected:
                self.topk_updates += some
        return codes, {}

    def threshold(self) -> Tensor:
        """The average smallest feature, a scalar."""
        if not self.corrected:
            return self.topk_threshold
        share = 1 - (1 - self.rate) ** self.topk_updates
        threshold: Tensor = self.topk_threshold / share.clamp(min=1e-12)
        return threshold

    def scheduled(self) -> Mapping[str, Scheduled]:
        """The value of k."""
        return self._scheduled

    def scale_features(self, factor: float) -> None:
        """Scale the threshold, which is in units of features."""
        self.topk_threshold *= factor

    def to_inference(self, d_sae: int) -> Activation:
        """JumpReLU with this threshold."""
        return Threshold(self.threshold().float().expand(d_sae).clone())
