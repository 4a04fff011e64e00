"""`Codes`: sparse features, the data type of every sparse architecture."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from saecore.ops.dispatch import function


class Pattern:
    """Which latents are active in which row; shared by all `Codes` with the same entries.

    Args:
        indices: latent of each entry, row by row `[nnz]`, int64.
        offsets: start of each row, and the end `[N + 1]`, int64.
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
        """Sort the entries by latent: their order `[nnz]` and each latent's start `[d_sae + 1]`.

        The sort is stable, so sums have the same bits on every run.
        """
        group = function("group_by_latent", self.indices)
        order, starts = group(self.indices, self.d_sae)
        return order, starts


class Codes:
    """A batch of sparse feature vectors in rows (CSR).

    Explicit zeros are allowed, because they carry gradients. A latent fires if its value is not 0;
    L0 counts those, not the entries. In training, `ops.select_above` gives `DenseCodes`
    while a large share of the latents fires: arrays `[N, d_sae]` instead of `[nnz]`.

    Args:
        values: value of each entry `[nnz]`; differentiable.
        pattern: positions of the entries.
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
        """Concatenate dictionaries over the same rows: `[N, Σ d_sae]`.

        The entries of a row are in the order of the parts. Differentiable in the values.
        """
        kinds = {type(part) for part in parts}
        if len(kinds) == 1:
            return kinds.pop()._side_by_side(parts)
        return Codes._side_by_side([part.entries() for part in parts])

    @classmethod
    def _side_by_side(cls, parts: Sequence[Codes]) -> Codes:
        """`join` for parts that are all of this class."""
        counts = torch.stack([part.offsets[1:] - part.offsets[:-1] for part in parts])  # [parts, N]
        offsets = _offsets(counts.sum(0))
        # The entries of each part and row go after those of earlier rows and parts.
        starts = offsets[:-1] + counts.cumsum(0) - counts
        targets, indices, before = [], [], 0
        for part, start in zip(parts, starts, strict=True):
            within = torch.arange(len(part.indices), device=offsets.device)
            targets.append(within + (start - part.offsets[:-1])[part.rows])
            indices.append(part.indices + before)
            before += part.d_sae
        target, values = torch.cat(targets), torch.cat([part.values for part in parts])
        joined = torch.empty_like(target).index_put((target,), torch.cat(indices))
        values = torch.empty_like(values).index_put((target,), values)
        return cls.from_entries(values, joined, offsets, before)

    def split(self, parts: int) -> list[Codes]:
        """The inverse of `join`: equal blocks of latents, each numbered from 0.

        Differentiable in the values.

        Args:
            parts: number of blocks; a divisor of d_sae.
        """
        width = self.d_sae // parts
        part = self.indices // width
        order = torch.sort(part, stable=True).indices
        cells = torch.bincount(part * self.n_rows + self.rows, minlength=parts * self.n_rows)
        counts = cells.view(parts, self.n_rows)
        sizes = counts.sum(1).tolist()
        values, indices = self.values[order].split(sizes), (self.indices % width)[order]
        return [
            Codes.from_entries(value, latents, _offsets(count), width)
            for value, latents, count in zip(values, indices.split(sizes), counts, strict=True)
        ]

    @property
    def indices(self) -> Tensor:
        """Latent of each entry `[nnz]`."""
        return self.pattern.indices

    @property
    def offsets(self) -> Tensor:
        """Start of each row, and the end `[N + 1]`."""
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
        """These codes with explicit entries; converts `DenseCodes`."""
        return self

    def with_values(self, values: Tensor) -> Codes:
        """The same entries with other values `[nnz]`."""
        return Codes(values, self.pattern)

    def per_latent(self, vector: Tensor) -> Tensor:
        """`vector [d_sae]` at the latent of each entry `[nnz]`; differentiable in `vector`."""
        return vector[self.indices]

    def where(self, mask: Tensor) -> Codes:
        """Keep the entries where `mask [nnz]` is true; differentiable in the values."""
        entries = mask.nonzero(as_tuple=True)[0]
        counts = torch.zeros(self.n_rows, dtype=torch.int64, device=mask.device)
        counts.index_add_(0, self.rows[entries], torch.ones_like(entries))
        pattern = Pattern(self.indices[entries], _offsets(counts), self.d_sae)
        return Codes(self.values[entries], pattern)

    def take(self, mask: Tensor) -> Codes:
        """Keep the rows where `mask [N]` is true; differentiable in the values."""
        entries = mask[self.rows].nonzero(as_tuple=True)[0]
        counts = (self.offsets[1:] - self.offsets[:-1])[mask]
        pattern = Pattern(self.indices[entries], _offsets(counts), self.d_sae)
        return Codes(self.values[entries], pattern)

    def sum_per_row(self, values: Tensor | None = None) -> Tensor:
        """Sum of `values [nnz]` (default: those of the codes) in each row `[N]`; differentiable."""
        summed = self.values if values is None else values
        return summed.new_zeros(self.n_rows).index_add(0, self.rows, summed)

    def l1(self, weights: Tensor) -> Tensor:
        """Σ |value| · weight of its latent in each row `[N]`; differentiable.

        Args:
            weights: nonnegative weights of the latents `[d_sae]`.
        """
        return self.sum_per_row((self.values * self.per_latent(weights)).abs())

    def firing(self) -> Tensor:
        """Which entries fire, i.e. have a nonzero value `[nnz]`, bool."""
        return self.values.detach() != 0

    def firing_counts(self) -> Tensor:
        """Number of rows in which each latent fires `[d_sae]`, int64."""
        counts = torch.zeros(self.d_sae, dtype=torch.int64, device=self.indices.device)
        return counts.index_add_(0, self.indices, self.firing().to(torch.int64))

    def dense(self, latents: Tensor | None = None) -> Tensor:
        """All features `[N, d_sae]`, or those of `latents [n]`, `[N, n]`.

        Differentiable in the values.
        """
        if latents is None:
            full = self.values.new_zeros(self.n_rows, self.d_sae)
            return full.index_put((self.rows, self.indices), self.values)
        column = torch.full((self.d_sae,), -1, dtype=torch.int64, device=latents.device)
        column[latents] = torch.arange(len(latents), device=latents.device)
        entries = (column[self.indices] >= 0).nonzero(as_tuple=True)[0]
        part = self.values.new_zeros(self.n_rows, len(latents))
        picked = part.index_put(
            (self.rows[entries], column[self.indices[entries]]), self.values[entries]
        )
        # A latent that is requested twice has one column in `column`: copy it to the others.
        return picked[:, column[latents]]


def _offsets(counts: Tensor) -> Tensor:
    """Row offsets `[N + 1]` from row lengths `[N]`."""
    offsets = torch.zeros(len(counts) + 1, dtype=torch.int64, device=counts.device)
    torch.cumsum(counts, 0, out=offsets[1:])
    return offsets
