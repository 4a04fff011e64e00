"""Activation functions: choose the active latents and their features."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import attrs
from torch import Tensor, nn
from torch.nn import functional

from saecore import ops
from saecore.core.schedule import Scheduled
from saecore.core.step import StepContext
from saecore.ops.codes import Codes


@attrs.frozen(eq=False, kw_only=True)
class PreActivations:
    """The pre-activations of rows, computed lazily: an activation requests those it needs.

    Methods return them as `Codes` or dense; see `saecore.ops`.
    """

    x: Tensor
    """Inputs `[N, d_in]`."""
    W_enc: Tensor
    """`[d_in, d_sae]`."""
    b_enc: Tensor
    """`[d_sae]`."""
    center: Tensor | None
    """Subtracted from the inputs `[d_in]`."""
    scale: Tensor | None
    """Factor of the pre-activations for ranking latents `[d_sae]`."""
    decoder_norms: Callable[[], Tensor]
    """Norms of the decoder rows `[d_sae]`, for penalties."""

    def topk(self, k: int, by: Literal["value", "abs"] = "value") -> Codes:
        """The k largest of each row."""
        return ops.select_topk(
            self.x, self.W_enc, self.b_enc, k, center=self.center, scale=self.scale, by=by
        )

    def batch_topk(self, n: int) -> Codes:
        """The n largest of the whole batch."""
        return ops.select_batch_topk(
            self.x, self.W_enc, self.b_enc, n, center=self.center, scale=self.scale
        )

    def group_max(self, groups: int) -> Codes:
        """The largest of each of `groups` equal blocks of latents in each row."""
        return ops.select_group_max(self.x, self.W_enc, self.b_enc, groups, center=self.center)

    def above(self, threshold: float | Tensor) -> Codes:
        """Every pre-activation above a threshold, a number or `[d_sae]`."""
        return ops.select_above(self.x, self.W_enc, self.b_enc, threshold, center=self.center)

    def preactivations(self, latents: Tensor) -> Tensor:
        """Pre-activations of some latents `[n]`: `[N, n]`."""
        return ops.preactivations(self.x, self.W_enc, self.b_enc, latents, center=self.center)

    def dense(self) -> Tensor:
        """All pre-activations `[N, d_sae]`."""
        centered = self.x if self.center is None else self.x - self.center
        return functional.linear(centered, self.W_enc.t(), self.b_enc)


class Activation(nn.Module, abc.ABC):
    """Base class of activation functions.

    Their parameters and buffers are saved with the SAE, under the same names.
    """

    sparse: ClassVar[bool] = True
    """Whether it limits L0 by itself; otherwise architectures add a penalty."""
    published: ClassVar[str | None] = None
    """Name of the activation that reads the published form, if it is a different one."""
    latent_vectors: ClassVar[tuple[str, ...]] = ()
    """Parameters `[d_sae]` in units of pre-activations, which scale with them."""
    competitive: ClassVar[bool] = False
    """Whether scaling one latent may change which others are active."""
    rank_by_abs: ClassVar[bool] = False
    """Whether latents compete by absolute value."""
    coefficient: ClassVar[str | None] = None
    """Name of the scheduled value that a target-L0 controller may change."""

    @abc.abstractmethod
    def select(self, encoding: PreActivations) -> Codes:
        """Features of the active latents, before `encoding.scale`."""

    def train_select(
        self, encoding: PreActivations, context: StepContext
    ) -> tuple[Codes, dict[str, Tensor]]:
        """Select within a training step; also return losses by name, coefficients applied."""
        return self.select(encoding), {}

    def scheduled(self) -> Mapping[str, Scheduled]:
        """Values that follow a schedule, by name."""
        return {}

    def scale_features(self, factor: float) -> None:
        """Adapt parameters in units of features, which will all be multiplied by `factor`."""

    def to_inference(self, d_sae: int) -> Activation:
        """The published form, without selection across the batch."""
        return self
