"""Every architecture on the synthetic features, as a Markdown table.

python -m tests.bench.synthetic_table [ARCHITECTURE ...] [--seeds 0 1] [--set KEY=VALUE ...]

Trains every file of experiments/synthetic with every seed (of the SAE and of the features) and
prints the means over seeds. Seconds are those of training. Needs no model and no network.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path

import torch

from saecore.config.load import load_experiment
from saecore.errors import SaecoreError
from saecore.plugins.host import current_host
from saecore.runs.run import run

FILES = Path(__file__).parents[2] / "experiments" / "synthetic"
COLUMNS = {"mcc": "MCC", "f1": "F1", "l0": "L0", "explained_variance": "EV"}


def main() -> None:
    """Train, print."""
    parser = argparse.ArgumentParser(description="all architectures on synthetic features")
    parser.add_argument("architectures", nargs="*", help="names; default: all that have a file")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    files = {file.stem: file for file in sorted(FILES.glob("*.toml"))}
    unknown = set(options.architectures) - set(files)
    if unknown:
        parser.error(f"no such file in {FILES}: {', '.join(sorted(unknown))}")
    print(f"torch {torch.__version__}, threads {torch.get_num_threads()}, seeds {options.seeds}\n")
    columns = ["architecture", *COLUMNS.values(), "MCC of each seed", "seconds"]
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns), flush=True)
    for name in options.architectures or files:
        try:
            print(row(files[name], options.seeds, options.settings), flush=True)
        except SaecoreError as error:
            print(f"{name}: {error}", file=sys.stderr)
    missing = sorted(set(current_host().names("architecture")) - set(files))
    if missing:
        print(f"\nwithout a file in {FILES.relative_to(FILES.parents[1])}: {', '.join(missing)}")


def row(file: Path, seeds: list[int], settings: list[str]) -> str:
    """Train one file with every seed; the row of the table."""
    found, seconds = [], 0.0
    for seed in seeds:
        with tempfile.TemporaryDirectory(prefix="synthetic-table-") as output:
            own = [f"seed={seed}", f"dataset.seed={seed}", f"output={output}", "logger=[]"]
            experiment, _ = load_experiment(file, [*own, *settings])
            with contextlib.redirect_stdout(sys.stderr):
                result = run(experiment)
        found.append({key: one["value"] for key, one in result.evaluation["ground_truth"].items()})
        seconds += result.seconds
    means = {key: sum(one[key] for one in found) / len(found) for key in COLUMNS}
    cells = [f"{means[key]:.2f}" if key == "l0" else f"{means[key]:.3f}" for key in COLUMNS]
    each = " ".join(f"{one['mcc']:.3f}" for one in found)
    return f"| {file.stem} | {' | '.join(cells)} | {each} | {seconds / len(seeds):.0f} |"


if __name__ == "__main__":
    main()
