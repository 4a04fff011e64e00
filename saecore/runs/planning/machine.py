"""Memory of this machine and of this process, in RAM and on a GPU."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

CGROUPS = Path("/sys/fs/cgroup")
PROC = Path("/proc")


def memory_limit(device: torch.device) -> int:
    """Return the bytes that this process may hold: what it holds now plus what is still free.

    On cuda that is the GPU's memory, otherwise RAM: what the kernel calls available, or what the
    process's control groups leave if that is less.
    """
    if device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    return resident() + min([_available(), *_cgroup_room()])


def held(device: torch.device) -> int:
    """Return the bytes that this process holds on the device now."""
    if device.type == "cuda":
        import torch

        return torch.cuda.memory_allocated(device)
    return resident()


def resident() -> int:
    """Return the bytes of RAM that this process holds, or its peak if the system does not say."""
    return _status("VmRSS") or _highest()


def begin_peak(device: torch.device) -> bool:
    """Make `peak` measure from now on; returns whether the system can."""
    if device.type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        (PROC / "self/clear_refs").write_text("5")
    except OSError:
        return False
    return _status("VmHWM") > 0


def peak(device: torch.device) -> int:
    """Return the most bytes held on the device since `begin_peak`."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    return _status("VmHWM")


def _status(key: str) -> int:
    return _kibibytes(PROC / "self/status", key)


def _kibibytes(file: Path, key: str) -> int:
    """Read a line such as `VmRSS:  1234 kB` in bytes; 0 if it is missing."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return 0
    values = [line.split()[1] for line in lines if line.startswith(f"{key}:")]
    return int(values[0]) * 1024 if values else 0


def _highest() -> int:
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _available() -> int:
    available = _kibibytes(PROC / "meminfo", "MemAvailable")
    return available or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _cgroup_room() -> Iterator[int]:
    """Yield what each control group of this process and its parents leave, in either version."""
    try:
        lines = (PROC / "self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = CGROUPS, ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            root, names = CGROUPS / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        innermost = root / path.lstrip("/")
        for group in (innermost, *innermost.parents):
            if group.is_relative_to(root):
                yield from _room(group, *names)


def _room(group: Path, limit: str, usage: str) -> Iterator[int]:
    """Yield limit minus usage; file cache that the kernel can drop does not count as used."""
    try:
        most, used = (group / limit).read_text().strip(), int((group / usage).read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return
    if most.isdecimal():
        cache = int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))
        yield max(0, int(most) - used + cache)
