"""One `saecore run`; the parent measures the process, the run its training."""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import time
from pathlib import Path

began = time.monotonic()

from saecore.config.load import load_experiment  # noqa: E402
from saecore.ops.dispatch import forced  # noqa: E402
from saecore.runs.run import run  # noqa: E402


def main() -> None:
    """Do the job named on the command line; the answer goes beside it."""
    file = Path(sys.argv[1])
    job = json.loads(file.read_text())
    experiment, _ = load_experiment(job["experiment"], job["settings"])
    with forced(job["backend"]) if "backend" in job else contextlib.nullcontext():
        result = run(experiment)
    answer = {
        "training_seconds": result.seconds,
        "tokens": experiment.training.steps * experiment.training.batch_size,
        "seconds": time.monotonic() - began,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    file.with_suffix(".answer").write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
