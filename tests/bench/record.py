"""What a measurement leaves: one JSON file a command, one entry a case, each with its surroundings.

A case that has an entry is left out the next time, so that an interrupted command goes on where it
was. No host name and no path is written.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


class Results:
    """The results of one command.

    Args:
        file: where they are kept.
        again: measure what is there again; the others stay.
        only: words that the name of a case must have; () takes all.
    """

    def __init__(self, file: Path, again: bool = False, only: tuple[str, ...] = ()) -> None:
        self.file, self.only, self.again = file, only, again
        self.cases: dict[str, Any] = {}
        if file.exists():
            self.cases = json.loads(file.read_text(encoding="utf-8"))["cases"]

    def missing(self, names: list[str]) -> Iterator[str]:
        """The cases that are still to be measured; says which are there."""
        for name in names:
            if not all(word in name for word in self.only):
                continue
            if name in self.cases and not self.again:
                print(f"{name}: measured {self.cases[name]['date']}; --again repeats it")
            else:
                yield name

    def add(self, name: str, result: dict[str, Any], before: tuple[float, ...]) -> None:
        """Keep a case's result, on disk, at once.

        Args:
            name: of the case.
            result: its figures.
            before: the load of the machine when it began.
        """
        self.cases[name] = {**surroundings(), "load_before": list(before), **result}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        part = self.file.with_suffix(".part")
        part.write_text(json.dumps({"cases": self.cases}, indent=1) + "\n", encoding="utf-8")
        part.replace(self.file)


def surroundings() -> dict[str, Any]:
    """Date, command, commit, machine and load."""
    git = ["git", "-C", str(RESULTS.parent), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    options = ["DIR" if os.sep in one else one for one in sys.argv[1:]]
    return {
        "date": time.strftime("%Y-%m-%d"),
        "command": " ".join(["python -m tests.bench", *options]),
        "commit": commit,
        "machine": machine(),
        "load_after": list(load()),
    }


def machine() -> dict[str, Any]:
    """The processor and how many cores of it there are; never a name."""
    model, flags = platform.machine(), ""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            model = value.strip() if key.strip() == "model name" else model
            flags = value if key.strip() == "flags" else flags
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile")
    return {
        "cpu": model,
        "cores": cores,
        "instructions": [one for one in wanted if one in flags.split()],
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
    }


def load() -> tuple[float, ...]:
    """Programs that wanted to run, over 1, 5 and 15 minutes."""
    return tuple(round(one, 2) for one in os.getloadavg())
