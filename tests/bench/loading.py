"""What loading an SAE costs, beside reading its file: `python -m tests.bench.loading`.

The SAE has 768 inputs and 24,576 latents (151 MB in float32). Each round reads the file with
`open().read()`, then loads the SAE (finite check included), in one process, so that the load of the
machine falls on both; the file is in the page cache. Memory is measured in a process of its own, as
the peak of what belongs to it alone while it loads.

Targets: at most 1.5 times the reading, and 1.2 times the file's size.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

D_IN, D_SAE = 768, 24576


def write(directory: Path, d_in: int = D_IN, d_sae: int = D_SAE) -> Path:
    """Save an SAE; its file of weights."""
    import torch

    from saecore.core.sae_config import Shape
    from saecore.plugins.structure import structure_choice

    choice = structure_choice("architecture", {"architecture": "standard"})
    sae = choice.build(Shape(d_in, d_in, d_sae))
    sae.initialize(torch.Generator().manual_seed(0), 1.0)
    sae.to_inference().save_model(directory)
    return directory / "sae_weights.safetensors"


def seconds(directory: Path, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of every reading and every loading, interleaved."""
    from saecore import SAE

    file = directory / "sae_weights.safetensors"
    SAE.load_from_disk(directory)
    reading, loading = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        with file.open("rb") as opened:
            data = opened.read()
        reading.append(time.perf_counter() - start)
        del data
        start = time.perf_counter()
        sae = SAE.load_from_disk(directory)
        loading.append(time.perf_counter() - start)
        del sae
    return reading, loading


def private() -> int:
    """Bytes of this process that no other shares (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise SystemExit("/proc/self/status has no RssAnon; this needs Linux")


def peak(directory: Path) -> int:
    """Most bytes that loading took at any time, sampled every half millisecond."""
    import torch

    from saecore import SAE

    SAE.load_from_disk(directory / "small")
    torch.ones(4096, 4096).t().contiguous()  # whatever is set up once
    before, most, done = private(), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.0005):
            most = max(most, private())

    thread = threading.Thread(target=watch)
    thread.start()
    sae = SAE.load_from_disk(directory)
    done.set()
    thread.join()
    assert sae.cfg.d_sae > 0
    return max(most, private()) - before


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory_of is not None:
        print(peak(given.memory_of))
        return
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        size = write(directory).stat().st_size
        write(directory / "small", 8, 16)
        reading, loading = seconds(directory, given.rounds)
        command = [sys.executable, "-m", "tests.bench.loading", "--memory-of", name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    for what, times in (("open().read()", reading), ("SAE.load_from_disk", loading)):
        spread = f"{min(times) * 1e3:.0f} to {max(times) * 1e3:.0f}"
        print(f"{what:<20}{statistics.median(times) * 1e3:6.0f} ms  ({spread}, n = {len(times)})")
    ratios = [load / read for load, read in zip(loading, reading, strict=True)]
    print(f"{'ratio':<20}{statistics.median(ratios):6.2f}     (target 1.5)")
    print(f"{'peak memory':<20}{int(done.stdout) / size:6.2f} x the file  (target 1.2)")


if __name__ == "__main__":
    main()
