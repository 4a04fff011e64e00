"""Directions of latents, compared in parts so that no [d_sae, d_sae] is held."""

from __future__ import annotations

import torch
from torch import Tensor

CELLS = 2**24
"""Cosines computed in one go."""


def unit(rows: Tensor) -> Tensor:
    """Rows `[n, d]` with norm 1, in float32; zero rows stay zero."""
    rows = rows.detach().float()
    found: Tensor = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return found


def nearest(rows: Tensor, others: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The largest cosine of each row with any other row, and which that is.

    Args:
        rows: `[n, d]`.
        others: rows to compare with `[m, d]`; default: the same, but not each with itself.

    Returns:
        Cosines `[n]`, NaN where there is no other, and indices `[n]`.
    """
    mine = unit(rows)
    theirs = mine if others is None else unit(others)
    best = mine.new_full((len(mine),), float("nan"))
    which = torch.zeros(len(mine), dtype=torch.int64, device=mine.device)
    if len(theirs) - (others is None) < 1:
        return best, which
    size = max(1, CELLS // len(theirs))
    for start in range(0, len(mine), size):
        cosines = mine[start : start + size] @ theirs.t()
        if others is None:
            own = torch.arange(len(cosines), device=cosines.device)
            cosines[own, start + own] = -torch.inf
        found = cosines.max(1)
        best[start : start + size], which[start : start + size] = found.values, found.indices
    return best, which
