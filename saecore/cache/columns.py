"""Activations in the precision of a cache."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from saecore.cache.manifest import Precision

SCALE = "scale:"
"""Begins the name of the tensor of a hook's row scales."""


def packed(name: str, rows: Tensor, dtype: Precision) -> dict[str, Tensor]:
    """A hook's rows `[N, d]` as tensors of a shard.

    int8: q = round(x / s) with s = max |x| / 127 of the row, so that no entry is off by more than
    s / 2.
    """
    rows = rows.cpu()
    if dtype == "float32":
        return {name: rows.float()}
    if dtype == "bfloat16":
        return {name: rows.bfloat16()}
    scale = rows.abs().amax(dim=1) / 127  # [N]
    safe = torch.where(scale > 0, scale, 1.0)
    return {name: (rows / safe[:, None]).round().to(torch.int8), SCALE + name: scale}


def unpacked(name: str, tensors: Mapping[str, Tensor], part: slice) -> Tensor:
    """Rows of a hook as float32, in memory of their own."""
    rows = tensors[name][part]
    if rows.dtype == torch.int8:
        return rows * tensors[SCALE + name][part, None]
    return rows.clone() if rows.dtype == torch.float32 else rows.float()
