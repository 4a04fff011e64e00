"""Processes that end at a random instant: kill -9, SIGINT, SIGTERM.

Children are forked after torch is imported, so that a run lasts fractions of a second.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

from saecore.config import structure_experiment
from saecore.errors import CheckpointError
from saecore.runs.run import run
from saecore.runs.signals import Interrupted
from saecore.storage import checkpoint
from tests.faults.report import Row
from tests.faults.small import BATCH, differences, only_run, tables, whole

STEPS, INTERVAL = 60, 3

# Threads and pools do not survive a fork.
torch.set_num_threads(1)
os.environ["HF_DEACTIVATE_ASYNC_LOAD"] = "1"


def experiment(text: Path, output: Path) -> dict:
    """A run that saves often."""
    schedule = {"type": "constant", "warm_up_steps": 5, "decay_steps": 20}
    training = {
        "tokens": STEPS * BATCH,
        "lr_schedule": schedule,
        "checkpoint": {"every_steps": INTERVAL},
    }
    return tables(text, output, training=training, dataset={"epochs": 2})


def forked(work: Callable[[], int]) -> int:
    """Do `work` in a child that says nothing; returns its process id."""
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        for number in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
        code = work()
    except BaseException:
        with Path(os.environ["SAECORE_FAULTS_LOG"]).open("a") as log:
            traceback.print_exc(file=log)
    finally:
        os._exit(code)


def attempt(base: dict) -> int:
    """Run or resume; the exit code that the command line would give."""
    try:
        run(structure_experiment(base), resume=True)
    except Interrupted as stop:
        return 128 + stop.number
    return 0


def wait_for_steps(base: dict, child: int, before: float) -> None:
    """Until the child logs steps (or has ended)."""
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        files = Path(base["output"], base["name"]).glob("*/metrics.jsonl")
        if any(one.stat().st_mtime > before and one.stat().st_size for one in files):
            return
        time.sleep(0.002)


def looked_at(base: dict, row: Row, signaled: bool) -> int:
    """After a kill: are all checkpoints whole, and how many steps were lost?"""
    records = Path(base["output"], base["name"]).glob("*/experiment.json")
    runs = [one.parent for one in records]
    saved = checkpoint.checkpoints(runs[0] / "checkpoints") if runs else []
    for path in saved:
        try:
            checkpoint.load(path)
        except CheckpointError as error:
            row.failures.append(f"torn: {error}")
    if not runs or not (runs[0] / "metrics.jsonl").exists():
        return 0
    whole = (runs[0] / "metrics.jsonl").read_bytes().split(b"\n")[:-1]
    last = max([json.loads(line)["step"] for line in whole], default=0)
    lost = last - (checkpoint.step_of(saved[-1]) if saved else 0)
    if lost > (1 if signaled else INTERVAL):
        row.failures.append(f"{lost} steps lost of {last}")
    return bool(list(runs[0].glob("checkpoints/.*")))


def at_random(
    text: Path, directory: Path, n: int, seed: int, numbers: tuple[signal.Signals, ...]
) -> Row:
    """Kill runs at random instants until `n` kills have been made; every run is finished.

    `numbers` are the signals of one kill, a moment between them.
    """
    names = " + ".join("kill -9" if one == signal.SIGKILL else one.name for one in numbers)
    hard = numbers[0] == signal.SIGKILL
    row = Row(
        fault=f"{names} at a random instant",
        must_hold="no torn checkpoint, "
        + (f"at most {INTERVAL} steps (one interval) lost, " if hard else "saved within a step, ")
        + "weights and every logged figure bit-identical to an uninterrupted run",
    )
    rng = random.Random(seed)
    base = experiment(text, directory / "reference")
    uninterrupted = whole(base)  # in this process: children find everything imported
    base["output"] = str(directory / "timed")
    begin = time.monotonic()
    whole(base)
    duration = time.monotonic() - begin
    runs = in_save = 0
    while row.n < n:
        runs += 1
        base = experiment(text, directory / f"{names}-{runs}")
        for _ in range(1000):
            before = time.time()
            child = forked(lambda base=base: attempt(base))
            if rng.random() < 0.75:  # else it may still be starting
                wait_for_steps(base, child, before)
            time.sleep(rng.uniform(0, duration / 4))
            for number in numbers:
                os.kill(child, number)
                time.sleep(rng.uniform(0, 0.01))
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if code == 0:
                break
            row.n += 1
            expected = (
                (-signal.SIGKILL,)
                if hard
                else {-one for one in numbers} | {128 + one for one in numbers}
            )
            if code not in expected:
                row.failures.append(f"exit code {code}")
            in_save += looked_at(base, row, not hard and len(numbers) == 1)
        row.failures += [
            f"run {runs}: {one} differs" for one in differences(only_run(base), uninterrupted)
        ]
        sys.stdout.flush()
    row.notes = f"{runs} runs of {STEPS} steps" + (f", {in_save} kills in a save" if hard else "")
    return row


def while_caching(text: Path, directory: Path, n: int, seed: int) -> Row:
    """Kill the writing of a cache at random instants until `n` kills have been made."""
    from saecore.activations.cache import writer

    row = Row(
        fault="kill -9 while activations are written",
        must_hold="whole shards stay, and the cache is bit-identical to an uninterrupted one",
    )
    rng = random.Random(seed)
    writer.SHARD_BYTES = 0  # shards of 1024 rows
    base = tables(text, directory, training={"tokens": 9 * 1024})

    def write(target: Path) -> int:
        writer.prepare(structure_experiment(base), target).write()
        return 0

    begin = time.monotonic()
    write(directory / "whole")
    duration = time.monotonic() - begin
    uninterrupted = _content(directory / "whole")
    caches = 0
    while row.n < n:
        caches += 1
        target = directory / f"cache-{caches}"
        for _ in range(1000):
            child = forked(lambda target=target: write(target))
            time.sleep(rng.uniform(0, duration / 2))
            os.kill(child, signal.SIGKILL)
            if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
                break
            row.n += 1
        if _content(target) != uninterrupted:
            row.failures.append(f"cache {caches} differs")
    row.notes = f"{caches} caches"
    return row


def _content(directory: Path) -> dict[str, bytes]:
    files = [one for one in directory.rglob("*") if one.is_file() and one.name != ".lock"]
    return {str(one.relative_to(directory)): one.read_bytes() for one in files}
