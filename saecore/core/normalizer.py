"""Normalizers: scale activations before the SAE reads them, and fold the scale in at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import attrs
from torch import Tensor

if TYPE_CHECKING:
    from saecore.core.sae import SAE
    from saecore.core.step import Batch


class Normalizer(Protocol):
    """Scales activations for training, and makes the trained SAE read raw ones."""

    tokens: int
    """Number of tokens to estimate from; 0 if nothing is estimated."""

    def check(self, sae: SAE) -> None:
        """Refuse an SAE into which the scale cannot be folded.

        Raises:
            ConfigError: the scale cannot be folded.
        """
        ...

    def estimate(self, batches: Iterable[Batch]) -> None:
        """Estimate the scale from batches of raw activations."""
        ...

    def apply(self, batch: Batch) -> Batch:
        """Scale a batch."""
        ...

    def restorer(self, batch: Batch) -> Callable[[Tensor], Tensor] | None:
        """Return the inverse for reconstructions of a raw batch, if the loss is computed on raw
        activations; None if it is computed on scaled ones.
        """
        ...

    def fold(self, sae: SAE) -> None:
        """Change the weights in place so that the SAE reads raw activations."""
        ...

    def unfold(self, sae: SAE) -> None:
        """Change the weights in place so that an SAE of raw activations reads scaled ones.

        Raises:
            ConfigError: the scale cannot be taken out of the weights.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """The estimate."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load an estimate."""
        ...


class NormalizerStrategy:
    """A `Normalizer` that leaves activations unchanged; base of the others."""

    tokens = 0

    def __init__(self, config: Any) -> None:
        self.config = config

    def check(self, sae: SAE) -> None:
        """Accepts any SAE."""

    def estimate(self, batches: Iterable[Batch]) -> None:
        """Nothing to estimate."""

    def apply(self, batch: Batch) -> Batch:
        """The batch itself."""
        return batch

    def restorer(self, batch: Batch) -> Restore | None:
        """The loss is computed on the normalized activations."""
        return None

    def fold(self, sae: SAE) -> None:
        """Nothing to fold."""

    def unfold(self, sae: SAE) -> None:
        """Nothing to unfold."""

    def state_dict(self) -> dict[str, Any]:
        """No state."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """No state."""


class RuntimeNormalizer(NormalizerStrategy):
    """A normalization of each token, which stays part of the forward pass of the saved SAE.

    The loss is computed on raw activations, as in SAELens 6.

    Args:
        config: the component's settings.
        name: a key of `RUNTIME`.
    """

    def __init__(self, config: Any, name: str) -> None:
        super().__init__(config)
        self.name = name

    def _scale(self, x: Tensor) -> Tensor:
        return RUNTIME[self.name](x)[0]

    def apply(self, batch: Batch) -> Batch:
        """Scale every token."""
        return batch.map(self._scale)

    def restorer(self, batch: Batch) -> Restore:
        """Return the inverse, token by token."""
        return RUNTIME[self.name](batch.targets)[1]

    def fold(self, sae: SAE) -> None:
        """Make the normalization part of the SAE."""
        sae.cfg = attrs.evolve(sae.cfg, normalize_activations=self.name)


Restore = Callable[[Tensor], Tensor]
"""Maps a reconstruction of scaled activations to one of raw activations."""


def constant_norm_rescale(x: Tensor) -> tuple[Tensor, Restore]:
    """Scale every activation `[..., d]` to norm √d."""
    factor = x.shape[-1] ** 0.5 / x.norm(dim=-1, keepdim=True)
    return x * factor, lambda x_hat: x_hat / factor


def layer_norm(x: Tensor) -> tuple[Tensor, Restore]:
    """Shift and scale every activation `[..., d]` to mean 0 and unbiased standard deviation 1."""
    mean = x.mean(-1, keepdim=True)
    centered = x - mean
    deviation = centered.std(-1, keepdim=True)
    return centered / (deviation + 1e-5), lambda x_hat: x_hat * deviation + mean


RUNTIME: dict[str, Callable[[Tensor], tuple[Tensor, Restore]]] = {
    "constant_norm_rescale": constant_norm_rescale,
    "layer_norm": layer_norm,
}
"""Normalizations by name: from activations to normalized activations and the inverse."""
