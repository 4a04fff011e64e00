"""Sparse features: the data type of every sparse architecture."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor


class Pattern:
    """Which latents are active in which row; shared by all `Codes` with the same entries.

    Args:
        indices: latent of each entry, row after row `[nnz]`, int64.
        offsets: where each row begins, and the end `[N + 1]`, int64.
        d_sae: number of latents.
    """

    def __init__(self, indices: Tensor, offsets: Tensor, d_sae: int) -> None:
        self.indices = indices
        self.offsets = offsets
        self.d_sae = d_sae

    @property
    def n_rows(self) -> int:
        """Number of rows N."""
        return len(self.offsets) - 1

    @property
    def density(self) -> float:
        """Entries per cell of the dense matrix."""
        return len(self.indices) / max(1, self.n_rows * self.d_sae)

    @cached_property
    def rows(self) -> Tensor:
        """Row of each entry `[nnz]`, int64."""
        counts = self.offsets[1:] - self.offsets[:-1]
        numbers = torch.arange(self.n_rows, device=counts.device)
        return torch.repeat_interleave(numbers, counts, output_size=len(self.indices))

    @cached_property
    def by_latent(self) -> tuple[Tensor, Tensor]:
        """The entries latent after latent: their order `[nnz]` and where each latent begins
        `[d_sae + 1]`. Within a latent they stay in the order of rows, so sums are the same
        on every run.
        """
        from saecore.ops.dispatch import function  # ops are made of codes

        group = function("group_by_latent", self.indices)
        order, starts = group(self.indices, self.d_sae)
        return order, starts


class Codes:
    """A batch of sparse feature vectors in rows (CSR).

    Explicit zeros are legal: they carry gradients. So what fires is `values != 0`, and L0
    counts that, never the number of entries. In training, `ops.select_above` gives `DenseCodes`
    while a large share of the latents fires: arrays `[N, d_sae]` instead of `[nnz]`.

    Args:
        values: value of each entry `[nnz]`; differentiable.
        pattern: where the entries stand.
    """

    def __init__(self, values: Tensor, pattern: Pattern) -> None:
        self.values = values
        self.pattern = pattern

    @classmethod
    def from_entries(cls, values: Tensor, indices: Tensor, offsets: Tensor, d_sae: int) -> Codes:
        """Make codes from raw arrays: `values [nnz]`, `indices [nnz]`, `offsets [N + 1]`."""
        return cls(values, Pattern(indices, offsets, d_sae))

    @classmethod
    def from_top(cls, values: Tensor, indices: Tensor, d_sae: int) -> Codes:
        """Make codes with k entries in every row: `values [N, k]`, `indices [N, k]`."""
        n_rows, k = indices.shape
        offsets = (
            torch.arange(0, n_rows * k + 1, k, device=indices.device)
            if k
            else (torch.zeros(n_rows + 1, dtype=torch.int64, device=indices.device))
        )
        return cls.from_entries(values.reshape(-1), indices.reshape(-1), offsets, d_sae)

    @classmethod
    def from_dense(cls, dense: Tensor) -> Codes:
        """Make codes of the non-zero entries of `[N, d_sae]`; differentiable."""
        mask = dense != 0
        rows, indices = mask.nonzero(as_tuple=True)
        return cls(dense[rows, indices], Pattern(indices, _offsets(mask.sum(1)), dense.shape[1]))

    @classmethod
    def join(cls, parts: Sequence[Codes]) -> Codes:
        """Several dictionaries over the same rows side by side: `[N, Σ d_sae]`, the latents of
        each part after those of the parts before it.

        The entries of a row stand in the order of the parts. Differentiable in the values.
        """
        from saecore.dense_codes import DenseCodes  # which is built on this class

        held = [one for one in parts if isinstance(one, DenseCodes)]
        if len(held) == len(parts):
            return DenseCodes.side_by_side(held)
        parts = [one.entries() for one in parts]
        counts = torch.stack([one.offsets[1:] - one.offsets[:-1] for one in parts])  # [parts, N]
        offsets = _offsets(counts.sum(0))
        # Where the entries of each part and row go: after those of earlier rows and parts.
        starts = offsets[:-1] + counts.cumsum(0) - counts
        places, indices, before = [], [], 0
        for one, start in zip(parts, starts, strict=True):
            within = torch.arange(len(one.indices), device=offsets.device)
            places.append(within + (start - one.offsets[:-1])[one.rows])
            indices.append(one.indices + before)
            before += one.d_sae
        place, values = torch.cat(places), torch.cat([one.values for one in parts])
        joined = torch.empty_like(place).index_put((place,), torch.cat(indices))
        values = torch.empty_like(values).index_put((place,), values)
        return cls.from_entries(values, joined, offsets, before)

    def split(self, parts: int) -> list[Codes]:
        """The inverse of `join`: equal runs of latents, each numbered from 0.

        Differentiable in the values.

        Args:
            parts: how many; a divisor of d_sae.
        """
        width = self.d_sae // parts
        part = self.indices // width
        order = torch.sort(part, stable=True).indices
        cells = torch.bincount(part * self.n_rows + self.rows, minlength=parts * self.n_rows)
        counts = cells.view(parts, self.n_rows)
        sizes = counts.sum(1).tolist()
        values, indices = self.values[order].split(sizes), (self.indices % width)[order]
        return [
            Codes.from_entries(one, latents, _offsets(count), width)
            for one, latents, count in zip(values, indices.split(sizes), counts, strict=True)
        ]

    @property
    def indices(self) -> Tensor:
        """Latent of each entry `[nnz]`."""
        return self.pattern.indices

    @property
    def offsets(self) -> Tensor:
        """Where each row begins, and the end `[N + 1]`."""
        return self.pattern.offsets

    @property
    def rows(self) -> Tensor:
        """Row of each entry `[nnz]`."""
        return self.pattern.rows

    @property
    def d_sae(self) -> int:
        """Number of latents."""
        return self.pattern.d_sae

    @property
    def n_rows(self) -> int:
        """Number of rows N."""
        return self.pattern.n_rows

    def entries(self) -> Codes:
        """These codes; of `DenseCodes`, the same codes in rows."""
        return self

    def with_values(self, values: Tensor) -> Codes:
        """The same entries with other values `[nnz]`."""
        return Codes(values, self.pattern)

    def per_latent(self, vector: Tensor) -> Tensor:
        """`vector [d_sae]` at the latent of each entry `[nnz]`; differentiable in `vector`."""
        return vector[self.indices]

    def where(self, mask: Tensor) -> Codes:
        """Only the entries where `mask [nnz]` is true; differentiable in the values."""
        kept = mask.nonzero(as_tuple=True)[0]
        counts = torch.zeros(self.n_rows, dtype=torch.int64, device=mask.device)
        counts.index_add_(0, self.rows[kept], torch.ones_like(kept))
        pattern = Pattern(self.indices[kept], _offsets(counts), self.d_sae)
        return Codes(self.values[kept], pattern)

    def take(self, kept: Tensor) -> Codes:
        """Only the rows where `kept [N]` is true; differentiable in the values."""
        entries = kept[self.rows].nonzero(as_tuple=True)[0]
        counts = (self.offsets[1:] - self.offsets[:-1])[kept]
        pattern = Pattern(self.indices[entries], _offsets(counts), self.d_sae)
        return Codes(self.values[entries], pattern)

    def sum_per_row(self, values: Tensor | None = None) -> Tensor:
        """Sum of `values [nnz]` (default: the codes' own) in each row `[N]`; differentiable."""
        summed = self.values if values is None else values
        return summed.new_zeros(self.n_rows).index_add(0, self.rows, summed)

    def l1(self, weights: Tensor) -> Tensor:
        """Σ |value| · weight of its latent in each row `[N]`; differentiable.

        Args:
            weights: of the latents, not negative `[d_sae]`.
        """
        return self.sum_per_row((self.values * self.per_latent(weights)).abs())

    def firing(self) -> Tensor:
        """Which entries fire `[nnz]`, bool: those whose value is not zero."""
        return self.values.detach() != 0

    def firing_counts(self) -> Tensor:
        """How many rows each latent fires in `[d_sae]`, int64."""
        counts = torch.zeros(self.d_sae, dtype=torch.int64, device=self.indices.device)
        return counts.index_add_(0, self.indices, self.firing().to(torch.int64))

    def dense(self, latents: Tensor | None = None) -> Tensor:
        """All features `[N, d_sae]`, or those of the `latents [n]` asked for `[N, n]`.

        Differentiable in the values.
        """
        if latents is None:
            full = self.values.new_zeros(self.n_rows, self.d_sae)
            return full.index_put((self.rows, self.indices), self.values)
        column = torch.full((self.d_sae,), -1, dtype=torch.int64, device=latents.device)
        column[latents] = torch.arange(len(latents), device=latents.device)
        kept = (column[self.indices] >= 0).nonzero(as_tuple=True)[0]
        part = self.values.new_zeros(self.n_rows, len(latents))
        picked = part.index_put((self.rows[kept], column[self.indices[kept]]), self.values[kept])
        # A latent asked for twice has one column in `column`: copy it to its other places.
        return picked[:, column[latents]]


def _offsets(counts: Tensor) -> Tensor:
    """Row lengths `[N]` to row offsets `[N + 1]`."""
    offsets = torch.zeros(len(counts) + 1, dtype=torch.int64, device=counts.device)
    torch.cumsum(counts, 0, out=offsets[1:])
    return offsets
