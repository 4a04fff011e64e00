"""Every measurement of speed and memory, as one command.

python -m tests.bench step|harvest|run|growth|startup|gpu [--quick] [--again] [--only WORD ...]
python -m tests.bench tables

Ours and the peers (tests/bench/peers.sh makes their environments) take turns in one run, each in
a process of its own. Results are kept case by case in tests/bench/results/WHAT.json; a case that
is there is left out, so an interrupted command goes on where it was. A figure that is missed is
printed as a MISS, against tests/bench/figures.py.

Not here, because they are about quality: python -m tests.bench.architectures, .synthetic_table,
.compare_saelens, .saelens_roundtrip.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from tests.bench.peers import DIRECTORY
from tests.bench.record import RESULTS

COMMANDS = {
    "step": ("step", "the whole training step, architecture by architecture"),
    "growth": ("step", "the topk step over d_sae"),
    "run": ("whole_run", "`saecore run` and SAELens' runner from beginning to end"),
    "harvest": ("harvest", "reading activations, beside the model's own forward"),
    "startup": ("startup", "imports and --help"),
    "gpu": ("gpu", "the first measurements on a CUDA device"),
    "tables": ("tables", "write the tables of docs/explanation/performance.md"),
}
"""Name: module and what it measures."""


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="what", required=True)
    for name, (module, summary) in COMMANDS.items():
        one = commands.add_parser(name, help=summary, description=summary)
        one.add_argument("--quick", action="store_true", help="three rounds")
        one.add_argument("--again", action="store_true", help="measure again what is there")
        one.add_argument("--only", nargs="+", default=[], metavar="WORD",
                         help="cases whose name has all of these")  # fmt: skip
        one.add_argument("--peers", type=Path, default=DIRECTORY, help="where peers.sh put them")
        one.add_argument("--results", type=Path, default=RESULTS, help="directory of the results")
        importlib.import_module(f"tests.bench.{module}").options_of(one)
    options = parser.parse_args()
    options.only = tuple(options.only)
    if options.quick:
        options.rounds = 3
    importlib.import_module(f"tests.bench.{COMMANDS[options.what][0]}").main(options)


if __name__ == "__main__":
    main()
