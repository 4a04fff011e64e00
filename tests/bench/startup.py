"""`startup`: what importing costs, each in a fresh process: wall time and peak memory."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.bench.peers import interpreter
from tests.bench.record import Results, load

LINES = {
    "python": (None, ["-c", "pass"]),
    "saecore --help": (None, ["-c", "from saecore.cli import main; main()", "--help"]),
    "import saecore": (None, ["-c", "import saecore"]),
    "from saecore import SAE": (None, ["-c", "from saecore import SAE"]),
    "import torch": (None, ["-c", "import torch"]),
    "import sae_lens": ("saelens", ["-c", "import sae_lens"]),
    "import sparsify": ("sparsify", ["-c", "import sparsify"]),
    "import dictionary_learning": ("dictionary_learning", ["-c", "import dictionary_learning"]),
}
"""What is run, in which environment."""

HELP_SECONDS = 0.3
"""`saecore --help` is to take less."""


def options_of(parser: argparse.ArgumentParser) -> None:
    """What `startup` can be told."""
    parser.add_argument("--rounds", type=int, default=7, help="processes of each")


def main(options: argparse.Namespace) -> None:
    """Measure what is missing, print."""
    results = Results(options.results / "startup.json", options.again, options.only)
    for case in results.missing(["startup"]):
        before = load()
        results.add(case, {"contenders": measure(options.peers, options.rounds)}, before)
    if "startup" not in results.cases:
        return
    case = results.cases["startup"]
    print(f"startup; {case['date']}, load {case['load_before'][0]}")
    print(f"  {'':<28}{'median s':>10}{'min s':>8}{'peak MiB':>10}")
    for name, one in case["contenders"].items():
        if "failed" in one:
            print(f"  {name:<28}failed: {one['failed']}")
            continue
        seconds = one["seconds"]
        said = ""
        if name == "saecore --help":
            good = min(seconds) < HELP_SECONDS
            said = "  met" if good else f"  MISS (under {HELP_SECONDS} s wanted)"
        print(f"  {name:<28}{statistics.median(seconds):>10.2f}{min(seconds):>8.2f}"
              f"{one['peak_mib']:>10.0f}{said}")  # fmt: skip


def measure(peers: Path, rounds: int) -> dict[str, Any]:
    """All processes, in turns; one round before, for the file cache."""
    found: dict[str, Any] = {}
    for i in range(-1, rounds):
        for name, (peer, arguments) in LINES.items():
            python = sys.executable if peer is None else interpreter(peers, peer)
            if python is None:
                found[name] = {"failed": f"no environment {peer}; tests/bench/peers.sh"}
                continue
            seconds, peak, code = process([str(python), *arguments])
            if code:
                found[name] = {"failed": f"ended with {code}"}
            elif i >= 0:
                one = found.setdefault(name, {"seconds": [], "peak_mib": 0.0})
                one["seconds"].append(round(seconds, 4))
                one["peak_mib"] = max(one["peak_mib"], peak)
    return found


def process(command: list[str]) -> tuple[float, float, int]:
    """Seconds, peak MiB and exit status of a process."""
    began = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    return seconds, usage.ru_maxrss / 1024, child.returncode
