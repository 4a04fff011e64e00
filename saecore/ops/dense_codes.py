"""`DenseCodes`: codes that store every cell, for batches in which many latents fire."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from saecore.ops.codes import Codes, Pattern

CHUNK_BYTES = 16 * 2**20
"""Size of the part of a batch that is processed at a time."""


def row_chunks(values: Tensor) -> Iterator[slice]:
    """Blocks of rows of `[N, d_sae]` of about CHUNK_BYTES."""
    step = max(1, CHUNK_BYTES // (values.shape[1] * values.element_size()))
    for start in range(0, len(values), step):
        yield slice(start, min(start + step, len(values)))


class DenseCodes(Codes):
    """Codes that store every cell: `values`, `rows` and `indices` are `[N, d_sae]`.

    Cells that are not entries stay 0 under elementwise operations: `with_values` and `sum_per_row`
    restore the zeros and block gradients. So code written for entries works unchanged. `entries`
    converts to the sparse form.

    Args:
        values: value of each cell `[N, d_sae]`; 0 outside the entries.
        mask: which cells are entries `[N, d_sae]`, bool; None if these are the values above 0.
    """

    def __init__(self, values: Tensor, mask: Tensor | None) -> None:
        self.values = values
        self._mask = mask
        self._positive = mask is None

    @property
    def mask(self) -> Tensor:
        """Which cells are entries `[N, d_sae]`, bool."""
        if self._mask is None:
            self._mask = self.values.detach() > 0
        return self._mask

    def entries(self) -> Codes:
        """The sparse form of these codes; differentiable."""
        rows, indices = self.mask.nonzero(as_tuple=True)
        starts = torch.arange(self.n_rows + 1, device=rows.device)
        pattern = Pattern(indices, torch.searchsorted(rows, starts), self.d_sae)
        return Codes(self.values[rows, indices], pattern)

    @property
    def pattern(self) -> Pattern:  # type: ignore[override]
        """The pattern of the sparse form."""
        return self.entries().pattern

    @property
    def indices(self) -> Tensor:
        """Latent of each cell `[N, d_sae]`."""
        return torch.arange(self.d_sae, device=self.values.device).expand_as(self.values)

    @property
    def rows(self) -> Tensor:
        """Row of each cell `[N, d_sae]`."""
        numbers = torch.arange(self.n_rows, device=self.values.device)
        return numbers[:, None].expand_as(self.values)

    @property
    def offsets(self) -> Tensor:
        """Start of each row of cells, and the end `[N + 1]`."""
        return torch.arange(self.n_rows + 1, device=self.values.device) * self.d_sae

    @property
    def d_sae(self) -> int:
        """Number of latents."""
        return self.values.shape[1]

    @property
    def n_rows(self) -> int:
        """Number of rows N."""
        return len(self.values)

    def with_values(self, values: Tensor) -> Codes:
        """The same entries with other values `[N, d_sae]`."""
        return DenseCodes(torch.where(self.mask, values, 0.0), self.mask)

    def per_latent(self, vector: Tensor) -> Tensor:
        """`vector [d_sae]` at the latent of each cell `[N, d_sae]`; differentiable."""
        spread: Tensor = PerLatent.apply(vector, self.mask)  # type: ignore[no-untyped-call]
        return spread

    def where(self, mask: Tensor) -> Codes:
        """Keep the entries where `mask [N, d_sae]` is true; differentiable in the values."""
        entries = self.mask & mask
        return DenseCodes(torch.where(entries, self.values, 0.0), entries)

    def sum_per_row(self, values: Tensor | None = None) -> Tensor:
        """Sum of `values [N, d_sae]` (default: those of the codes) over the entries of each row."""
        summed = self.values if values is None else torch.where(self.mask, values, 0.0)
        return summed.sum(1)

    def l1(self, weights: Tensor) -> Tensor:
        """Σ |value| · weight of each row `[N]`; see `Codes.l1`."""
        total: Tensor = WeightedSum.apply(self.values, weights, self._positive)  # type: ignore[no-untyped-call]
        return total

    def firing_counts(self) -> Tensor:
        """Number of rows in which each latent fires `[d_sae]`, int64."""
        counts = torch.zeros(self.d_sae, device=self.values.device)
        for chunk in row_chunks(self.values):
            # Summing booleans would convert to int64; this sum is exact below 2^24 rows.
            counts += (self.values.detach()[chunk] != 0).float().sum(0)
        return counts.long()

    def dense(self, latents: Tensor | None = None) -> Tensor:
        """All features `[N, d_sae]`, or those of `latents [n]` `[N, n]`; differentiable."""
        return self.values if latents is None else self.values.index_select(1, latents)

    def split(self, parts: int) -> list[Codes]:
        """Equal blocks of latents; see `Codes.split`."""
        chunks = zip(self.values.chunk(parts, 1), self.mask.chunk(parts, 1), strict=True)
        return [DenseCodes(values, mask) for values, mask in chunks]

    @classmethod
    def _side_by_side(cls, parts: Sequence[Codes]) -> Codes:
        """`Codes.join` for parts that all store every cell."""
        held = [part for part in parts if isinstance(part, DenseCodes)]
        values = torch.cat([part.values for part in held], dim=1)
        return cls(values, torch.cat([part.mask for part in held], dim=1))


class PerLatent(torch.autograd.Function):
    """Broadcast a vector `[d_sae]` to every row of a mask `[N, d_sae]`.

    The gradient sums over entries by selection, not by multiplication with the mask: what an
    architecture computes may have no derivative at 0, and 0 times infinity is not 0.
    """

    @staticmethod
    def forward(ctx: Any, vector: Tensor, mask: Tensor) -> Tensor:
        """Return an expanded view."""
        ctx.save_for_backward(mask)
        return vector.expand_as(mask)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Sum the gradient over rows."""
        (mask,) = ctx.saved_tensors
        total = grads[0].new_zeros(mask.shape[1])
        for chunk in row_chunks(grads[0]):
            total += torch.where(mask[chunk], grads[0][chunk], 0.0).sum(0)
        return total, None


class WeightedSum(torch.autograd.Function):
    """Σ |value| · weight of each row `[N]`, of `values [N, d_sae]` and `weights [d_sae]`.

    If `positive`, the entries are the values above 0; cells that are 0 get no gradient and need no
    sign.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, weights: Tensor, positive: bool) -> Tensor:
        """One matrix-vector product per chunk."""
        ctx.save_for_backward(values, weights)
        ctx.positive = positive
        if positive:
            return torch.mv(values, weights)
        sums = values.new_empty(len(values))
        for chunk in row_chunks(values):
            torch.mv(values[chunk].abs(), weights, out=sums[chunk])
        return sums

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """sign(value) · weight · g for the values, Σ |value| · g for the weights."""
        (grad,) = grads
        values, weights = ctx.saved_tensors
        for_values, for_weights, _ = ctx.needs_input_grad
        if ctx.positive:
            return (
                torch.outer(grad, weights) if for_values else None,
                torch.mv(values.t(), grad) if for_weights else None,
                None,
            )
        d_values = torch.empty_like(values) if for_values else None
        d_weights = torch.zeros_like(weights) if for_weights else None
        for chunk in row_chunks(values):
            if d_values is not None:
                torch.sign(values[chunk], out=d_values[chunk])
                d_values[chunk].mul_(weights).mul_(grad[chunk, None])
            if d_weights is not None:
                d_weights.addmv_(values[chunk].abs().t(), grad[chunk])
        return d_values, d_weights, None
