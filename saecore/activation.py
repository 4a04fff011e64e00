"""Activation functions: which latents are active, and what their features are."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import attrs
from torch import Tensor, nn
from torch.nn import functional

from saecore import ops
from saecore.codes import Codes
from saecore.step import Scheduled, StepContext


@attrs.frozen(eq=False)
class Encoding:
    """An encoder applied to rows, not computed yet; an activation asks for what it needs.

    All methods return pre-activations as `Codes` or dense; see `saecore.ops`.
    """

    x: Tensor
    """Inputs `[N, d_in]`."""
    W_enc: Tensor
    """`[d_in, d_sae]`."""
    b_enc: Tensor
    """`[d_sae]`."""
    centre: Tensor | None
    """Subtracted from the inputs `[d_in]`."""
    scale: Tensor | None
    """Factor of the pre-activations by which latents are ranked `[d_sae]`."""
    decoder_norms: Callable[[], Tensor]
    """Norms of the decoder rows `[d_sae]`, for penalties."""

    def topk(self, k: int, by: Literal["value", "abs"] = "value") -> Codes:
        """The k largest of each row."""
        return ops.select_topk(
            self.x, self.W_enc, self.b_enc, k, centre=self.centre, scale=self.scale, by=by
        )

    def batch_topk(self, n: int) -> Codes:
        """The n largest of the whole batch."""
        return ops.select_batch_topk(
            self.x, self.W_enc, self.b_enc, n, centre=self.centre, scale=self.scale
        )

    def group_max(self, groups: int) -> Codes:
        """The largest of each of `groups` equal runs of latents in each row."""
        return ops.select_group_max(self.x, self.W_enc, self.b_enc, groups, centre=self.centre)

    def above(self, threshold: float | Tensor) -> Codes:
        """Every pre-activation above a threshold, a number or `[d_sae]`."""
        return ops.select_above(self.x, self.W_enc, self.b_enc, threshold, centre=self.centre)

    def preactivations(self, latents: Tensor) -> Tensor:
        """Pre-activations of some latents `[n]`: `[N, n]`."""
        return ops.preactivations(self.x, self.W_enc, self.b_enc, latents, centre=self.centre)

    def dense(self) -> Tensor:
        """All pre-activations `[N, d_sae]`."""
        centred = self.x if self.centre is None else self.x - self.centre
        return functional.linear(centred, self.W_enc.t(), self.b_enc)


class Activation(nn.Module, abc.ABC):
    """What an activation component builds: `build(config, shape) -> Activation`.

    Parameters and buffers belong to the SAE's saved tensors, under their own names.
    """

    sparse: ClassVar[bool] = True
    """Whether it limits L0 by itself; else architectures add a penalty."""
    published: ClassVar[str | None] = None
    """Name of the activation that reads the published form, where that is another one."""
    latent_vectors: ClassVar[tuple[str, ...]] = ()
    """Parameters `[d_sae]` in the unit of pre-activations; they scale with them."""
    competitive: ClassVar[bool] = False
    """Whether the scale of a latent decides about others, too."""
    rank_by_abs: ClassVar[bool] = False
    """Whether latents compete by absolute value."""
    coefficient: ClassVar[str | None] = None
    """Name of the scheduled value that a target-L0 controller may move."""

    @abc.abstractmethod
    def select(self, encoding: Encoding) -> Codes:
        """Features of the active latents, before `encoding.scale`."""

    def train_select(
        self, encoding: Encoding, context: StepContext
    ) -> tuple[Codes, dict[str, Tensor]]:
        """The same within a training step, and losses by name, coefficients applied."""
        return self.select(encoding), {}

    def scheduled(self) -> Mapping[str, Scheduled]:
        """Values that follow a schedule, by name."""
        return {}

    def scale_features(self, factor: float) -> None:
        """All features will be `factor` times what they were; adapt what is in their unit."""

    def to_inference(self, d_sae: int) -> Activation:
        """The form that is published: no batch-wide selection."""
        return self
