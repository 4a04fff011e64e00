"""Train every architecture's experiment at equal tokens; write the table of the docs.

python -m tests.bench.architectures [--tokens 1_000_000] [--only NAME ...]

An architecture that has a result for these tokens is left out, so that an interrupted comparison
goes on where it was; --again NAME repeats one. Results are one JSON file an architecture.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import torch

from saecore.cli.init import examples
from saecore.config.experiment import Experiment
from saecore.config.load import load_experiment
from saecore.runs.run import run
from saecore.storage.files import write_json

HERE = Path(__file__).parent
TABLE = HERE.parent.parent / "docs" / "explanation" / "architectures-table.md"


def main() -> None:
    """Train what is missing, then write the table."""
    parser = argparse.ArgumentParser(description="every architecture at equal tokens")
    parser.add_argument("--tokens", type=int, default=1_000_000, help="training tokens of each")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these architectures")
    parser.add_argument("--again", nargs="+", metavar="NAME", default=[], help="repeat these")
    parser.add_argument("--results", type=Path, default=HERE / "results" / "architectures")
    parser.add_argument("--table", type=Path, default=TABLE, help="Markdown file to write")
    parser.add_argument("--runs", default="runs", help="directory of the runs")
    options = parser.parse_args()
    for name, experiment in experiments(options.tokens, options.runs).items():
        file = options.results / f"{name}.json"
        if options.only and name not in options.only:
            continue
        if name in options.again or not is_result(file, options.tokens):
            print(f"{name}: {options.tokens:_} tokens", flush=True)
            write_json(file, result(experiment))
    rows = [json.loads(one.read_text()) for one in sorted(options.results.glob("*.json"))]
    rows = [row for row in rows if row["tokens"] == options.tokens]
    options.table.parent.mkdir(parents=True, exist_ok=True)
    options.table.write_text(table(rows, options.tokens), encoding="utf-8")
    print(f"{options.table}: {len(rows)} architectures")


def experiments(tokens: int, output: str) -> dict[str, Experiment]:
    """The experiments on the embedded model (not those in folders), by file name."""
    settings = [f"training.tokens={tokens}", f"output={output}", "logger=[]"]
    files = sorted(examples().glob("*.toml"))
    made = {file.stem: load_experiment(file, settings)[0] for file in files}
    return {name: one for name, one in made.items() if one.model is not None}


def is_result(file: Path, tokens: int) -> bool:
    """Whether the file holds a result for so many tokens."""
    return file.exists() and json.loads(file.read_text())["tokens"] == tokens


def result(experiment: Experiment) -> dict[str, Any]:
    """Run one experiment; its figures and what they depend on."""
    done = run(experiment)
    figures = {
        name: figure["value"]
        for evaluator in done.evaluation.values()
        for name, figure in evaluator.items()
    }
    git = ["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"]
    return {
        "name": experiment.name,
        "architecture": experiment.sae.architecture.name,
        "tokens": experiment.training.tokens,
        "batch_size": experiment.training.batch_size,
        "seed": experiment.seed,
        "d_sae": done.sae.cfg.d_sae,
        "seconds": round(done.seconds),
        "threads": torch.get_num_threads(),
        "device": str(done.sae.W_dec.device),
        "torch": torch.__version__,
        "commit": subprocess.run(git, capture_output=True, text=True).stdout.strip(),
        "date": time.strftime("%Y-%m-%d"),
        "figures": figures,
    }


COLUMNS = {
    "explained variance": ("explained_variance", ".3f"),
    "CE loss score": ("ce_loss_score", ".4f"),
    "L0": ("l0", ".1f"),
    "dead": ("dead_fraction", ".1%"),
}
"""Heading, figure and format; "dead" are latents that never fire on the held-out text."""


def table(rows: list[dict[str, Any]], tokens: int) -> str:
    """The page of the docs."""
    lines = [
        "# Every architecture at equal tokens",
        "",
        "<!-- Written by tests/bench/architectures.py. -->",
        "",
        f"Each of `experiments/*.toml`, trained on {tokens:,} tokens of the bundled model's "
        "activations. Metrics are on held-out text; dead latents are those that never fire on it. "
        "`python -m tests.bench.architectures` writes this table. Coefficients are tuned for an "
        "L0 near 32; compare rows only if their L0 is similar. Seconds were measured on the "
        "machines below, which may have been busy with other work.",
        "",
        f"| experiment | d_sae | {' | '.join(COLUMNS)} | seconds |",
        "| --- | ---: |" + " ---: |" * (len(COLUMNS) + 1),
    ]
    for row in sorted(rows, key=lambda row: -row["figures"]["explained_variance"]):
        cells = [format(row["figures"][figure], kind) for figure, kind in COLUMNS.values()]
        lines.append(f"| {row['name']} | {row['d_sae']} | {' | '.join(cells)} | {row['seconds']} |")
    made = sorted({(r["date"], r["commit"], r["device"], r["threads"], r["torch"]) for r in rows})
    lines += ["", "Made on:", ""]
    lines += [
        f"- {date}, commit {commit}, {device} with {threads} thread(s), torch {version}"
        for date, commit, device, threads, version in made
    ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
