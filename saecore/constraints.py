"""Unit decoder rows: the gradient loses its part along each row, the row its length."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def remove_parallel(W_dec: Tensor) -> None:
    """Take from the gradient of `[d_sae, d]` what would only change the lengths of the rows."""
    if W_dec.grad is not None:
        along = (W_dec.grad * W_dec).sum(-1, keepdim=True) / W_dec.square().sum(-1, keepdim=True)
        W_dec.grad.sub_(along.nan_to_num() * W_dec)


@torch.no_grad()
def make_unit(W_dec: Tensor) -> None:
    """Bring every row of `[d_sae, d]` to norm 1; rows of zeros stay."""
    W_dec.div_(W_dec.norm(dim=-1, keepdim=True).clamp(min=1e-8))
