"""Compiling kernels, and running them on several threads."""

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
"""Freedom that a sum needs to be a vector's; NaN and inf stay what they are."""


def kernel(*, sums: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a kernel at its first call; it runs without the interpreter lock.

    The machine code is kept next to the source, or in the user's cache directory where that
    cannot be written, or nowhere.

    Args:
        sums: let sums over a loop be taken in the order of the vector units.
    """

    def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
        fast = SUMS if sums else {"contract"}
        options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": fast}
        try:
            result: Callable[..., Any] = numba.njit(cache=True, **options)(function)
        except RuntimeError:  # no directory can be written
            result = numba.njit(**options)(function)
        return result

    return compiled


@functools.cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Threads of this process; a forked one needs its own."""
    return ThreadPoolExecutor(threads, thread_name_prefix="saecore-ops")


def spread(function: Callable[..., Any], size: int, *arguments: Any) -> None:
    """Call `function(start, stop, *arguments)` over parts of `range(size)`, one a thread.

    As many threads as torch uses. No kernel's result depends on where the parts are cut.
    """
    threads = min(torch.get_num_threads(), size)
    if threads <= 1:
        function(0, size, *arguments)
        return
    cuts = [size * part // threads for part in range(threads + 1)]
    pool = _pool(os.getpid(), threads - 1)
    others = [pool.submit(function, *cut, *arguments) for cut in itertools.pairwise(cuts[1:])]
    function(0, cuts[1], *arguments)
    for one in others:
        one.result()
