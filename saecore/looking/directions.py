"""What the decoder says of latents: the logits they raise, and latents that point their way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from saecore.backend import ModelBackend
    from saecore.sae import SAE

Ranked = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Indices `[n, m]`, the best first, and their numbers `[n, m]`."""


def logits(sae: SAE, backend: ModelBackend, latents: NDArray[np.int64], m: int) -> (
    tuple[Ranked, Ranked] | None
):  # fmt: skip
    """The tokens whose logits a unit of each latent raises and lowers most.

    The direct path: decoder row times unembedding, the last normalization left out.

    Returns:
        The highest and the lowest, or None where the decoder does not write vectors of the size
        that the unembedding takes.
    """
    unembed = backend.unembed
    if unembed is None or sae.W_dec.shape[1] != unembed.shape[0]:
        return None
    highest, lowest = [], []
    with torch.no_grad():
        matrix = unembed.float()
        for part in torch.from_numpy(latents).split(64):  # 64 rows of logits at a time
            rows = sae.W_dec[part.to(sae.W_dec.device)].to(matrix.device).float() @ matrix
            highest.append(rows.topk(m))
            lowest.append(rows.topk(m, largest=False))
    return _joined(highest), _joined(lowest)


def alike(sae: SAE, latents: NDArray[np.int64], m: int) -> Ranked:
    """The other latents whose decoder rows have the highest cosine with each, at most m."""
    m = min(m, sae.cfg.d_sae - 1)
    found = []
    with torch.no_grad():
        rows = sae.W_dec.flatten(1).float()
        unit = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)
        for part in torch.from_numpy(latents).to(unit.device).split(256):
            cosines = unit[part] @ unit.t()
            cosines[torch.arange(len(part)), part] = -2.0  # itself comes last
            found.append(cosines.topk(m))
    return _joined(found)


def norms(sae: SAE, latents: NDArray[np.int64]) -> NDArray[np.float32]:
    """Norms of the decoder rows `[n]`."""
    with torch.no_grad():
        rows = sae.W_dec[torch.from_numpy(latents).to(sae.W_dec.device)]
        return np.asarray(rows.flatten(1).float().norm(dim=1).cpu().numpy())


def largest(numbers: NDArray[np.float64], m: int) -> Ranked:
    """The m largest of each row of `[n, d]`; of equal ones the first."""
    order = np.argsort(-numbers, axis=1, kind="stable")[:, :m]
    return order, np.take_along_axis(numbers, order, 1).astype(np.float32)


def _joined(parts: list[torch.return_types.topk]) -> Ranked:
    indices = torch.cat([one.indices for one in parts]).cpu().numpy()
    return indices, torch.cat([one.values for one in parts]).cpu().numpy()
