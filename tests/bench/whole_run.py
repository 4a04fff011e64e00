"""`run`: `saecore run` and SAELens' runner on the same model, text and sizes, in turns.

The embedded model and the Python standard library. Tokens per second are those of training with
the model's forwards in it, as either counts them; seconds are the whole process'. Either mixes
`window` rows of activations, of which half are new: SAELens counts them in contexts
(`n_batches_in_buffer`), ours in two fills of half as many (`buffer.tokens`). Both run the model
over half a window more than there are tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.bench import figures
from tests.bench.figures import verdict
from tests.bench.peers import interpreter
from tests.bench.record import Results, load
from tests.bench.rounds import CONTENDERS

ROOT = Path(__file__).parents[2]
SIZES: dict[str, Any] = {
    "d_in": 256, "d_sae": 4096, "k": 32, "batch": 4096, "lr": 3e-4, "context": 128,
    "window": 65_536, "model_batch": 32, "hook": "blocks.2.hook_resid_post",
}  # fmt: skip


def options_of(parser: argparse.ArgumentParser) -> None:
    """What `run` can be told."""
    parser.add_argument("--rounds", type=int, default=5, help="runs of each")
    parser.add_argument("--tokens", type=int, default=262_144, help="training tokens of a run")


def main(options: argparse.Namespace) -> None:
    """Run what is missing, print."""
    name = f"topk, {options.tokens} tokens (256, 4096, 4096, 32)"
    results = Results(options.results / "run.json", options.again, options.only)
    for case in results.missing([name]):
        before = load()
        with tempfile.TemporaryDirectory(prefix="bench-run-") as directory:
            found = measure(options, Path(directory))
        results.add(case, {"sizes": SIZES, "contenders": found}, before)
    if name in results.cases:
        show(name, results.cases[name])


def measure(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """All runs; the figures of each contender."""
    tokens = options.tokens
    rows = directory / "tokens.npy"
    settings = ours(tokens, directory)
    subprocess.run([sys.executable, "-c", TOKENS, rows, json.dumps(settings)], check=True)
    job = {**SIZES, "tokens": tokens, "tokens_file": str(rows),
           "model": str(ROOT / "plugins" / "saecore_plugins" / "tiny_lm")}  # fmt: skip
    mine = {"experiment": str(ROOT / "experiments" / "topk.toml"), "settings": settings}
    contenders: dict[str, tuple[Any, str, dict[str, Any]]] = {
        "plain": (sys.executable, "run_ours", {**mine, "backend": "reference"}),
        "accelerated": (sys.executable, "run_ours", mine),  # the dispatch chooses, as for users
    }
    theirs = interpreter(options.peers, "saelens")
    if theirs is not None:
        contenders["saelens"] = (theirs, "run_saelens", job)
    answers: dict[str, list[dict[str, float]]] = {one: [] for one in contenders}
    found: dict[str, Any] = {}
    for i in range(options.rounds):
        names = [one for one in contenders if one not in found]
        for name in names[i % len(names) :] + names[: i % len(names)]:
            answer = once(*contenders[name], directory / f"{name}-{i}")
            if "failed" in answer:
                found[name] = answer
            else:
                answers[name].append(answer)
                print(f"  {name} {answer['tokens'] / answer['training_seconds']:,.0f} tokens/s",
                      flush=True)  # fmt: skip
    for name, given in answers.items():
        if name not in found:
            found[name] = {
                "tokens_per_second": [one["tokens"] / one["training_seconds"] for one in given],
                "seconds": [one["seconds"] for one in given],
                "peak_mib": max(one["peak_mib"] for one in given),
            }
    return found


def once(python: Any, script: str, job: dict[str, Any], directory: Path) -> dict[str, Any]:
    """One run in a process of its own."""
    directory.mkdir()
    file = directory / "job.json"
    file.write_text(json.dumps(job))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([python, CONTENDERS / f"{script}.py", file], cwd=directory,
                          env=environment, capture_output=True, text=True)  # fmt: skip
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["?"])[-1]}
    return dict(json.loads(file.with_suffix(".answer").read_text()))


def ours(tokens: int, directory: Path) -> list[str]:
    """What is set over experiments/topk.toml."""
    return [
        f"training.tokens={tokens}", f"training.batch_size={SIZES['batch']}",
        f"training.lr={SIZES['lr']}", 'training.lr_schedule="constant"',
        f"sae.d_sae={SIZES['d_sae']}", f"sae.k={SIZES['k']}",
        f"buffer.tokens={SIZES['window'] // 2}", f"buffer.model_batch_size={SIZES['model_batch']}",
        "evaluator=[]", "logger=[]", 'model.device="cpu"', f'output="{directory}/runs"',
    ]  # fmt: skip


TOKENS = """
import json, sys
import numpy, torch
from saecore.config import load_experiment
from saecore.activations.build import read_tokens
from saecore.core.sae_config import DTYPES
experiment, _ = load_experiment("experiments/topk.toml", json.loads(sys.argv[2]))
backend = experiment.model.backend.build(torch.device("cpu"), DTYPES["float32"])
rows = read_tokens(experiment.dataset, backend, 0)
numpy.save(sys.argv[1], rows.train[:].astype("int64"))
"""
"""Writes the contexts that ours trains on, for SAELens to train on."""


def show(name: str, case: dict[str, Any]) -> None:
    """Print the medians, and the ratios that are wanted."""
    found = case["contenders"]
    print(f"\n{name}; {case['date']}, load {case['load_before'][0]}")
    print(f"  {'':<14}{'tokens/s':>12}{'process s':>12}{'peak MiB':>10}")
    for who, one in found.items():
        if "failed" in one:
            print(f"  {who:<14}failed: {one['failed']}")
            continue
        rate, seconds = (statistics.median(one[key]) for key in ("tokens_per_second", "seconds"))
        print(f"  {who:<14}{rate:>12,.0f}{seconds:>12.1f}{one['peak_mib']:>10.0f}")
    for who in ("plain", "accelerated"):
        rates = [found.get(one, {}).get("tokens_per_second") for one in (who, "saelens")]
        value = None
        if all(rates):
            value = statistics.median(a / b for a, b in zip(*rates, strict=True))
        shown = "-" if value is None else f"{value:.2f}"
        print(f"  {who:<14}times SAELens' tokens/s {shown:>7}  "
              f"{verdict(figures.RUN, who, value)}")  # fmt: skip
