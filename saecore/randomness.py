"""Counter-based randomness: every random draw is a function of (seed, stream, index).

No draw consumes a global stream, so a resumed run draws the same numbers as an uninterrupted one.
"""

from __future__ import annotations

import hashlib

import torch


def generator(
    seed: int, stream: str, index: int = 0, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A generator whose numbers depend only on `seed`, `stream` and `index`.

    Args:
        seed: the seed of the experiment or dataset.
        stream: what the numbers are for, such as "init" or "serve".
        index: index of the draw within the stream, e.g. the fill number.
        device: device of the generator.
    """
    digest = hashlib.blake2b(f"{seed}/{stream}/{index}".encode(), digest_size=8).digest()
    return torch.Generator(device=device).manual_seed(int.from_bytes(digest) >> 1)
