"""The activations of a batch of contexts, as entries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from saecore.evaluation import Reading

if TYPE_CHECKING:
    from saecore.backend import ModelBackend
    from saecore.data.contexts import Contexts
    from saecore.sae import SAE


@attrs.frozen(eq=False)
class Entries:
    """What fires in a batch of contexts: one entry a latent and token, in the order of tokens."""

    first: int
    """Number of the first context."""
    tokens: NDArray[np.int64]
    """The contexts `[B, T]`."""
    read: int
    """Tokens that the SAE reads; it may leave out some positions or special tokens."""
    cells: NDArray[np.int64]
    """Token of each entry, numbered through the batch `[nnz]`."""
    latents: NDArray[np.int64]
    """Latent of each entry `[nnz]`."""
    values: NDArray[np.float32]
    """Its value, never 0 `[nnz]`."""

    def only(self, column: NDArray[np.int64]) -> Entries:
        """The entries of the latents whose `column [d_sae]` is not negative, latents renamed so."""
        columns = column[self.latents]
        kept = columns >= 0
        return attrs.evolve(
            self, cells=self.cells[kept], latents=columns[kept], values=self.values[kept]
        )


def entries(
    sae: SAE, backend: ModelBackend, contexts: Contexts, number: int, seed: int, batch_size: int
) -> Iterator[Entries]:
    """The entries of the first `number` contexts, batch by batch.

    Contexts go through the SAE whole, for architectures that read them so; tokens that the SAE's
    metadata leave out are dropped after.
    """
    reading = Reading.of(sae, backend)
    for first in range(0, number, batch_size):
        rows = contexts.read(0, first, min(first + batch_size, number), seed)
        tokens = torch.from_numpy(np.ascontiguousarray(rows).astype(np.int64))
        used = reading.used(tokens).flatten()
        with torch.no_grad():
            x = reading.activations(backend, tokens)[0]
            codes = sae.encode_sparse(x.to(sae.W_dec.device))
            kept = (codes.firing() & used.to(codes.rows.device)[codes.rows]).nonzero()[:, 0]
            cells, latents = codes.rows[kept].cpu().numpy(), codes.indices[kept].cpu().numpy()
            values = codes.values[kept].float().cpu().numpy()
        yield Entries(first, tokens.numpy(), int(used.sum()), cells, latents, values)
