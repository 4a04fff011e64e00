"""The half of a measurement that runs in a contender's own process; imports the standard library.

The parent (tests/bench/rounds.py) writes one line of JSON, the job, and then numbers of steps; a
contender answers each number with the seconds of so many steps. Contenders give `steps` to their
own training loop in the place of batches: a step is what that loop does between two of them.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

PACKAGES = ("torch", "sae-lens", "eai-sparsify", "dictionary-learning", "triton", "numba")


class Server:
    """The job, and the way to answer. What libraries print goes to stderr."""

    def __init__(self) -> None:
        self.job: dict[str, Any] = json.loads(sys.stdin.readline())
        self._answers = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)

    def answer(self, values: dict[str, Any]) -> None:
        """Write one line to the parent."""
        self._answers.write(json.dumps(values) + "\n")

    def steps(
        self, item: Callable[[int], Any], finish: Callable[[], object] | None = None
    ) -> Iterator[Any]:
        """What `item(n)` gives for step n, whenever the parent wants one more.

        The process ends with the parent's last number: a training loop has no end of its own here.

        Args:
            item: the batch of a step; making it is not counted.
            finish: waits for work that a device has not finished, if there may be some.
        """
        self.answer({"versions": versions(), "threads": threads()})
        done = 0
        for line in sys.stdin:
            seconds = []
            for _ in range(int(line)):
                batch = item(done)
                began = time.perf_counter()
                yield batch
                if finish is not None:
                    finish()
                seconds.append(time.perf_counter() - began)
                done += 1
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux
            self.answer({"seconds": seconds, "peak_mib": peak / 1024, **device_peak()})
        os._exit(0)


def pool(job: dict[str, Any], parts: int = 4) -> list[Any]:
    """A few batches of the job's shape, the same numbers in every process."""
    import torch

    generator = torch.Generator().manual_seed(0)
    shape = (job["batch"], job["d_in"])
    device = job.get("device", "cpu")
    return [torch.randn(shape, generator=generator).to(device) for _ in range(parts)]


def finisher(job: dict[str, Any]) -> Callable[[], object] | None:
    """Waits for a CUDA device."""
    import torch

    return torch.cuda.synchronize if job.get("device", "cpu") == "cuda" else None


def threads() -> int:
    """Threads that torch computes with."""
    import torch

    return torch.get_num_threads()


def device_peak() -> dict[str, float]:
    """The most memory that torch has held on a CUDA device."""
    import torch

    if not torch.cuda.is_available():
        return {}
    return {"device_peak_mib": torch.cuda.max_memory_allocated() / 2**20}


def versions() -> dict[str, str]:
    """Versions of what matters to speed, as far as it is installed."""
    found = {"python": sys.version.split()[0]}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
