"""The short form of the fault campaign, as `python -m tests.faults` runs it."""

import os
import subprocess
import sys
from pathlib import Path


def test_the_short_form_holds():
    """Every fault of the table is made, and what is promised holds."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 14
    assert all(" held" in line for line in rows), done.stdout
