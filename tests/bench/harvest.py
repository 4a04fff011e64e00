"""`harvest`: what reading activations costs beyond the forward pass itself, for both backends.

Ours and the bare forward (see contenders/harvest_ours.py) take turns; the ratio is the median over
pairs of neighbors.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

from tests.bench import figures
from tests.bench.figures import verdict
from tests.bench.record import Results, load
from tests.bench.rounds import Contender, FailedError, Process

TINY_LM = Path(__file__).parents[2] / "plugins" / "saecore_plugins" / "tiny_lm"


def options_of(parser: argparse.ArgumentParser) -> None:
    """What `harvest` can be told."""
    parser.add_argument("--name", default=str(TINY_LM), help="model; default: the embedded one")
    parser.add_argument("--layer", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32, help="contexts per forward")
    parser.add_argument("--context", type=int, default=128, help="tokens per context")
    parser.add_argument("--rounds", type=int, default=40, help="forwards of each")
    parser.add_argument("--dtype", default="float32")


def main(options: argparse.Namespace) -> None:
    """Measure what is missing, print."""
    model = "embedded" if options.name == str(TINY_LM) else Path(options.name).name
    sizes = f"{model}, {options.batch} x {options.context}, layer {options.layer}, {options.dtype}"
    cases = {f"{backend} ({sizes})": backend for backend in ("huggingface", "transformer_lens")}
    results = Results(options.results / "harvest.json", options.again, options.only)
    for name in results.missing(list(cases)):
        before = load()
        keys = ("name", "layer", "batch", "context", "dtype")
        job = {key: getattr(options, key) for key in keys} | {"backend": cases[name]}
        results.add(name, measure(job, options.rounds), before)
    for name in cases:
        if name in results.cases:
            show(name, results.cases[name])


def measure(job: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Milliseconds of ours and of the bare forward, and their ratio."""
    try:
        process = Process(Contender("harvest", "harvest_ours", job), sys.executable)
        try:
            process.wait()
            for i in range(-6, 2 * rounds):  # three pairs to warm up
                process.step(i >= 0)
        finally:
            process.close()
    except FailedError as error:
        return {"failed": str(error)}
    pairs = []
    for i in range(0, 2 * rounds - 1, 2):
        first, second = process.seconds[i : i + 2]
        # After six steps to warm up, places 2 and 3 of four come first: bare, ours.
        pairs.append((second, first) if i % 4 == 0 else (first, second))
    return {
        "ours_ms": [round(1e3 * ours, 3) for ours, _ in pairs],
        "bare_ms": [round(1e3 * bare, 3) for _, bare in pairs],
        "bare_over_ours": statistics.median(bare / ours for ours, bare in pairs),
        "peak_mib": process.last["peak_mib"],
        **process.about,
    }


def show(name: str, case: dict[str, Any]) -> None:
    """Print the medians and what is wanted."""
    print(f"\n{name}; {case['date']}, load {case['load_before'][0]}")
    if "failed" in case:
        print(f"  failed: {case['failed']}")
        return
    ours, bare = (statistics.median(case[key]) for key in ("ours_ms", "bare_ms"))
    value = case["bare_over_ours"]
    print(f"  ours {ours:.2f} ms, bare {bare:.2f} ms, bare / ours {value:.3f}  "
          f"{verdict(figures.HARVEST, 'plain', value)}")  # fmt: skip
