"""The fault campaign: `python -m tests.faults [--long] [--only NAME ...] [--n N]`.

Prints a table in Markdown to stdout, progress to stderr; exit code 1 if something did not hold.
Needs no network and no GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM

from tests.faults import kills, mutants, saves, soak, trackers, values
from tests.faults.report import Row, table
from tests.faults.small import write_text

FAULTS = {
    "kill": (8, 2000, partial(kills.at_random, numbers=(SIGKILL,))),
    "caching": (5, 50, kills.while_caching),
    "sigint": (3, 100, partial(kills.at_random, numbers=(SIGINT,))),
    "sigterm": (3, 100, partial(kills.at_random, numbers=(SIGTERM,))),
    "twice": (3, 100, partial(kills.at_random, numbers=(SIGTERM, SIGTERM))),
    "syscall": (1, 3, saves.every_call_fails),
    "exit": (1, 1, saves.process_ends_at_every_call),
    "disk": (1, 40, saves.disk_full),
    "checkpoint": (300, 10_000, mutants.checkpoints),
    "sae": (200, 10_000, mutants.saes),
    "experiment": (50, 2000, mutants.experiments),
    "names": (500, 10_000, values.traversal),
    "numbers": (1, 1, values.bad_numbers),
    "tracker": (1, 1, trackers.failing),
    "database": (0, 20, trackers.one_new_database),
    "soak": (0, 30, soak.soak),
}
"""name: how often in the short form, how often in the long one, the function."""


def campaign(names: list[str], long: bool, n: int | None, seed: int) -> list[Row]:
    """Make faults; one row each."""
    rows = []
    with tempfile.TemporaryDirectory() as place:
        os.environ["SAECORE_CACHE"] = f"{place}/cache"
        os.environ["SAECORE_FAULTS_LOG"] = f"{place}/log"
        text = write_text(Path(place) / "text")
        for name in names:
            short_n, long_n, function = FAULTS[name]
            times = n or (long_n if long else short_n)
            if not times:
                continue
            begin = time.monotonic()
            directory = Path(place) / name
            directory.mkdir()
            with contextlib.redirect_stdout(sys.stderr):
                row = function(text, directory, times, seed)
            rows.append(row)
            print(f"{name}: {row.n} in {time.monotonic() - begin:.0f} s, {row.result}",
                  file=sys.stderr)  # fmt: skip
        log = Path(place) / "log"
        if log.exists():
            print(log.read_text(), file=sys.stderr)
    return rows


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--long", action="store_true", help="the numbers of the promises: hours")
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--n", type=int, help="how often, in place of the form's number")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = campaign(options.only, options.long, options.n, options.seed)
    print(table(rows))
    for row in rows:
        for failure in row.failures[:20]:
            print(f"- {row.fault}: {failure}")
    return any(row.failures for row in rows)


if __name__ == "__main__":
    sys.exit(main())
