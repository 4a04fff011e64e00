"""Compile kernels and run them on several threads."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import torch

SUMS = {"reassoc", "contract"}
"""Floating-point freedom that vectorized sums need; NaN and inf are preserved."""


def kernel(*, sums: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a kernel on its first call; it runs without the interpreter lock.

    The machine code is cached next to the source, in the user's cache directory if that is not
    writable, or else not at all.

    Args:
        sums: allow vectorized sums, which add in a different order.
    """

    def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
        fast = SUMS if sums else {"contract"}
        options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": fast}
        try:
            result: Callable[..., Any] = numba.njit(cache=True, **options)(function)
        except RuntimeError:  # no cache directory is writable
            result = numba.njit(**options)(function)
        return result

    return compiled


@functools.cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """The thread pool of this process; a forked process needs another."""
    return ThreadPoolExecutor(threads, thread_name_prefix="saecore-ops")


def spread(function: Callable[..., Any], size: int, *arguments: Any) -> None:
    """Call `function(start, stop, *arguments)` on parts of `range(size)`, one per thread.

    Uses as many threads as torch. The results of kernels do not depend on the partition.
    """
    threads = min(torch.get_num_threads(), size)
    if threads <= 1:
        function(0, size, *arguments)
        return
    cuts = [size * part // threads for part in range(threads + 1)]
    pool = _pool(os.getpid(), threads - 1)
    others = [pool.submit(function, *cut, *arguments) for cut in itertools.pairwise(cuts[1:])]
    function(0, cuts[1], *arguments)
    for future in others:
        future.result()
