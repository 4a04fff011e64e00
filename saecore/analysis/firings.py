"""The nonzero activations of batches of contexts, as sparse entries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from saecore.evaluation.batches import HookReader

if TYPE_CHECKING:
    from saecore.activations.contexts import Contexts
    from saecore.core.model import ModelBackend
    from saecore.core.sae import SAE


@attrs.frozen(eq=False, kw_only=True)
class Firings:
    """Nonzero activations of a batch: one entry per latent and token, in the order of tokens."""

    first: int
    """Index of the first context."""
    tokens: NDArray[np.int64]
    """The contexts `[B, T]`."""
    read: int
    """Number of tokens that the SAE reads; positions and special tokens may be excluded."""
    cells: NDArray[np.int64]
    """Token of each entry, as an index into the flattened batch `[nnz]`."""
    latents: NDArray[np.int64]
    """Latent of each entry `[nnz]`."""
    values: NDArray[np.float32]
    """Activation of each entry, never 0 `[nnz]`."""

    def only(self, column: NDArray[np.int64]) -> Firings:
        """Select latents and renumber them.

        Args:
            column: new number of each latent, negative to drop it `[d_sae]`.
        """
        columns = column[self.latents]
        selected = columns >= 0
        return attrs.evolve(
            self,
            cells=self.cells[selected],
            latents=columns[selected],
            values=self.values[selected],
        )


def iter_firings(
    sae: SAE, backend: ModelBackend, contexts: Contexts, number: int, seed: int, batch_size: int
) -> Iterator[Firings]:
    """Yield the firings of the first `number` contexts, batch by batch.

    The SAE gets whole contexts, which some architectures need; firings at tokens that its metadata
    excludes are dropped afterwards.
    """
    reader = HookReader.of(sae, backend)
    for first in range(0, number, batch_size):
        rows = contexts.read(0, first, min(first + batch_size, number), seed)
        tokens = torch.from_numpy(np.ascontiguousarray(rows).astype(np.int64))
        used = reader.used(tokens).flatten()
        with torch.no_grad():
            x = reader.activations(backend, tokens)[0]
            codes = sae.encode_sparse(x.to(sae.W_dec.device))
            entries = (codes.firing() & used.to(codes.rows.device)[codes.rows]).nonzero()[:, 0]
            cells, latents = codes.rows[entries].cpu().numpy(), codes.indices[entries].cpu().numpy()
            values = codes.values[entries].float().cpu().numpy()
        yield Firings(
            first=first,
            tokens=tokens.numpy(),
            read=int(used.sum()),
            cells=cells,
            latents=latents,
            values=values,
        )
