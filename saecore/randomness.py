"""Counter-based randomness: every random draw is a function of (seed, stream, index).

Nothing consumes a global stream, so a resumed run draws what an uninterrupted one would.
"""

from __future__ import annotations

import hashlib

import torch


def generator(
    seed: int, stream: str, index: int = 0, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A generator whose numbers depend on `seed`, `stream` and `index` alone.

    Args:
        seed: the experiment's (or the dataset's) seed.
        stream: what the numbers are for, such as "init" or "serve".
        index: the how-manieth draw of that stream, such as the number of a fill.
        device: where the generator lives.
    """
    digest = hashlib.blake2b(f"{seed}/{stream}/{index}".encode(), digest_size=8).digest()
    return torch.Generator(device=device).manual_seed(int.from_bytes(digest) >> 1)
