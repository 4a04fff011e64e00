"""Where activations come from: one stream with a position."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from saecore.step import Batch


class ActivationSource(Protocol):
    """A fixed, endless-or-finite stream of rows, cut into batches as they are asked for.

    The rows do not depend on how they are cut; a source set to a position goes on exactly as
    one that has been read up to there.
    """

    @property
    def position(self) -> int:
        """Rows given out so far."""
        ...

    def seek(self, position: int) -> None:
        """Go on from this position."""
        ...

    def next(self, size: int) -> Batch:
        """The next `size` rows.

        Raises:
            DataError: there are fewer.
        """
        ...


class OwnActivations(ActivationSource, Protocol):
    """What a dataset component builds that `gives` activations: a stream, and one held out."""

    d_in: int
    """Size of the inputs."""
    d_out: int
    """Size of the targets."""
    device: torch.device
    """Where the rows are, and the SAE is trained."""
    fingerprint: str
    """A hash of everything that decides the rows."""
    metadata: Mapping[str, Any]
    """What is recorded with an SAE trained on it."""

    def held_out(self) -> OwnActivations:
        """Rows of the same kind that are never trained on, from position 0."""
        ...


class TrueFeatures(OwnActivations, Protocol):
    """Activations of which the true features are known: `x = features @ directions`."""

    directions: Tensor
    """Unit rows `[n, d_in]`."""

    def next_features(self, size: int) -> Tensor:
        """The features `[size, n]` of the next rows; the position moves as in `next`."""
        ...
