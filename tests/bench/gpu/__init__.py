"""`gpu`: the first measurements on a CUDA device, in under nine minutes, without a network.

    python -m tests.bench gpu            # in a checkout, on a machine with a CUDA device
    python -m tests.bench gpu --dry      # every line, tiny, on the CPU under Triton's interpreter

It needs torch 2.10 or later and the triton that comes with it; nothing else, and saecore need not
be installed. The line "trainer" needs attrs, cattrs and pluggy as well, "forward" needs
transformers, and "peers" the environments of tests/bench/peers.sh (`--peers DIR`); where they are
missing these lines say so and the others are measured. Each line is written to results/gpu.json
when it is done; one that fails says why and takes no other with it. A line that is there is left
out unless --again is given.

F1 is the floor of speed.md with the device's own rates, measured in the lines "product" and
"rates": encoder product + 3 gathers of B·k bfloat16 rows + 26 bytes a parameter.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.record import Results, load

ROOT = Path(__file__).parents[3]


def options_of(parser: argparse.ArgumentParser) -> None:
    """What `gpu` can be told."""
    parser.add_argument("--dry", action="store_true", help="tiny, on the CPU, interpreted")
    parser.add_argument("--rounds", type=int, default=20, help="most repetitions of one thing")
    parser.add_argument("--minutes", type=float, default=8.5, help="no new line begins after")


def main(options: argparse.Namespace) -> None:
    """Measure line after line."""
    began = time.monotonic()
    sys.path[:0] = [str(ROOT), str(ROOT / "plugins")]
    if options.dry:  # Triton looks at it when it is imported
        os.environ["TRITON_INTERPRET"] = "1"
    import torch

    if not options.dry and not torch.cuda.is_available():
        raise SystemExit("torch sees no CUDA device here; --dry runs everything on the CPU")
    from tests.bench.gpu import kernels, others, steps
    from tests.bench.gpu.timing import Bench

    bench = Bench(options.dry, options.rounds, options.peers)
    lines: dict[str, Callable[[Bench], dict[str, Any]]] = {
        "rates": kernels.rates,
        "product": kernels.product,
        "topk": kernels.topk,
        "gather": kernels.gather,
        "sort": kernels.sort,
        "backward": kernels.backward,
        "step": steps.step,
        "trainer": steps.trainer,
        "peers": others.peers,
        "forward": others.forward,
        "streams": steps.streams,
        "parity": steps.parity,
    }
    results = Results(options.results / "gpu.json", options.again, options.only)
    for name in results.missing(list(lines)):
        if time.monotonic() - began > 60 * options.minutes:
            print(f"{name}: not run: {options.minutes:g} minutes are over; once more goes on")
            continue
        before, start = load(), time.monotonic()
        print(f"{name} ...", flush=True)
        found: dict[str, Any] = {"device": bench.about()}
        bench.known = results.cases
        try:
            found |= lines[name](bench)
        except Exception as error:  # whatever it is, the other lines are to be measured
            found["failed"] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            traceback.print_exc()
        found["seconds"] = round(time.monotonic() - start, 1)
        results.add(name, found, before)
        with contextlib.suppress(RuntimeError):
            bench.free()
        show(name, found)
    print(f"{time.monotonic() - began:.0f} s; {options.results / 'gpu.json'}")


def show(name: str, found: dict[str, Any]) -> None:
    """Print a line's figures."""
    print(f"{name}: {found['seconds']} s" + (f", failed: {found['failed']}" if "failed" in found
                                             else ""))  # fmt: skip
    for row in found.get("rows", []):
        print("  " + ", ".join(f"{key} {shown(value)}" for key, value in row.items()))


def shown(value: Any) -> str:
    """A number in four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
