"""Activation stores: streams of activations that can be read from any position."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from saecore.core.step import Batch


class ActivationStore(Protocol):
    """A deterministic stream of rows, finite or endless, read in batches of any size.

    The rows do not depend on the batch sizes: a store that seeks to a position continues exactly
    like one that has been read up to there.
    """

    @property
    def position(self) -> int:
        """Number of rows read so far."""
        ...

    def seek(self, position: int) -> None:
        """Continue from this position."""
        ...

    def next(self, size: int) -> Batch:
        """The next `size` rows.

        Raises:
            DataError: fewer rows are left.
        """
        ...


class ActivationDataset(ActivationStore, Protocol):
    """A dataset that provides activations: a stream for training and one held out."""

    d_in: int
    """Size of the inputs."""
    d_out: int
    """Size of the targets."""
    device: torch.device
    """The device of the rows, on which the SAE is trained."""
    fingerprint: str
    """A hash of everything that determines the rows."""
    metadata: Mapping[str, Any]
    """Metadata recorded with an SAE trained on it."""

    def held_out(self) -> ActivationDataset:
        """Rows of the same kind that are never trained on, from position 0."""
        ...


class SyntheticActivations(ActivationDataset, Protocol):
    """Activations whose true features are known: `x = features @ directions`."""

    directions: Tensor
    """Unit rows `[n, d_in]`."""

    def next_features(self, size: int) -> Tensor:
        """The features `[size, n]` of the next rows; advances the position like `next`."""
        ...
