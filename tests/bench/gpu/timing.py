"""Time on a device, and what the floor of a step is there."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Shape(NamedTuple):
    """Sizes of a step, in speed.md's order."""

    d_in: int
    d_sae: int
    k: int
    batch: int

    def __str__(self) -> str:
        return f"{self.d_in}, {self.d_sae}, {self.k}, {self.batch}"

    @property
    def parameters(self) -> int:
        """Of both matrices."""
        return 2 * self.d_in * self.d_sae


SHAPES = (
    Shape(768, 24576, 32, 4096),
    Shape(2304, 65536, 64, 4096),
    Shape(4096, 131072, 64, 8192),
)
DRY = (Shape(24, 256, 2, 4),)
H200 = {"tflops": 790.0, "tb_per_s": 4.3}
"""What speed.md counts with."""
FLUSH = 256 * 2**20
"""Bytes written to empty the L2 cache: more than any has."""


class Bench:
    """Where and how long to measure.

    Args:
        dry: tiny shapes on the CPU.
        rounds: most repetitions.
        peers: the directory that peers.sh filled.
    """

    def __init__(self, dry: bool, rounds: int, peers: Path) -> None:
        self.dry, self.rounds, self.peers = dry, 1 if dry else rounds, peers
        self.device = torch.device("cpu" if dry else "cuda")
        self.shapes = DRY if dry else SHAPES
        self.low = torch.bfloat16
        self.known: dict[str, Any] = {}
        """Lines that have been measured."""
        self._flush: Tensor | None = None

    def about(self) -> dict[str, Any]:
        """The device and what drives it."""
        import triton

        found: dict[str, Any] = {"torch": torch.__version__, "triton": triton.__version__}
        if self.dry:
            return {"name": "dry run on the CPU", **found}
        properties = torch.cuda.get_device_properties(0)
        return {
            "name": properties.name,
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "processors": properties.multi_processor_count,
            "cuda": torch.version.cuda,
            **found,
        }

    def random(self, *shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
        """Normal numbers on the device."""
        generator = torch.Generator(self.device).manual_seed(seed)
        return torch.randn(shape, generator=generator, device=self.device, dtype=dtype)

    def time(self, action: Callable[[], object], cold: bool = False, seconds: float = 1.0) -> float:
        """Median milliseconds, after three that warm up (and compile kernels).

        Args:
            action: what is timed.
            cold: empty the L2 cache before each.
            seconds: about how long all of it may take.
        """
        for _ in range(1 if self.dry else 3):
            action()
        first = self._once(action, cold)
        count = max(1, min(self.rounds, int(1e3 * seconds / max(first, 1e-3))))
        return statistics.median([first, *(self._once(action, cold) for _ in range(count))])

    def _once(self, action: Callable[[], object], cold: bool) -> float:
        if cold and not self.dry:
            if self._flush is None:
                self._flush = torch.empty(FLUSH, dtype=torch.uint8, device=self.device)
            self._flush.zero_()
        if self.dry:
            began = time.perf_counter()
            action()
            return 1e3 * (time.perf_counter() - began)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        action()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)

    def free(self) -> None:
        """Give back memory between lines."""
        self._flush = None
        gc.collect()
        if not self.dry:
            torch.cuda.empty_cache()

    def floor(self, shape: Shape, rates: dict[str, float] | None = None) -> float:
        """F1 in ms: product, three gathers of B·k bfloat16 rows, 26 bytes a parameter.

        Args:
            shape: the sizes.
            rates: tflops and tb_per_s; default: as measured on this device.
        """
        if rates is None:
            rates = dict(H200)
            rates["tb_per_s"] = self.known.get("rates", {}).get("tb_per_s", H200["tb_per_s"])
            for row in self.known.get("product", {}).get("rows", []):
                if row["shape"] == str(shape):
                    rates["tflops"] = row["bfloat16 tflops"]
        product = 2 * shape.batch * shape.d_in * shape.d_sae / (rates["tflops"] * 1e9)
        gathers = 3 * 2 * shape.batch * shape.k * shape.d_in / (rates["tb_per_s"] * 1e9)
        return product + gathers + 26 * shape.parameters / (rates["tb_per_s"] * 1e9)
