"""Half an hour of a run that is killed at random, beside the same run left alone."""

from __future__ import annotations

import json
import os
import random
import signal
import statistics
import time
from pathlib import Path

import attrs

from tests.faults.kills import attempt, forked
from tests.faults.report import Row
from tests.faults.small import BATCH, lines, only_run, tables, whole

BETWEEN_KILLS = 40.0
"""Mean seconds of a life."""
SETTLED = 15.0
"""Seconds after its start from which a process's memory counts."""
ALLOWED = 10 * 2**20
"""Bytes by which resident memory may grow."""


def experiment(text: Path, output: Path) -> dict:
    """A run without end that saves and logs every 50 steps."""
    training = {
        "tokens": 10**6 * BATCH,
        "lr_schedule": {"type": "constant", "warm_up_steps": 5},
        "log_every_steps": 50,
        "checkpoint": {"every_steps": 50},
    }
    evaluation = {"tokens": 64, "every_tokens": 1000 * BATCH}
    return tables(text, output, training=training, evaluation=evaluation, dataset={"epochs": 10**4})


@attrs.define
class Use:
    """What a process used at a moment."""

    seconds: float
    """Since the beginning of the soak."""
    age: float
    """Seconds since the process began."""
    memory: int
    """Resident bytes."""
    descriptors: int


@attrs.define
class Watched:
    """A run, the process that trains it, what that used, and the checkpoints seen."""

    base: dict
    child: int = 0
    born: float = 0.0
    used: list[Use] = attrs.field(factory=list)
    saved: dict[str, dict] = attrs.field(factory=dict)
    """Files with their sha256, by name of the checkpoint."""

    def start(self) -> None:
        """Begin or resume."""
        self.child, self.born = forked(lambda: attempt(self.base)), time.monotonic()

    def stop(self, number: signal.Signals) -> int:
        """Send a signal; the exit code."""
        os.kill(self.child, number)
        return os.waitstatus_to_exitcode(os.waitpid(self.child, 0)[1])

    def look(self, begin: float) -> None:
        """Note memory, descriptors and checkpoints; `begin` is that of the soak."""
        now, process = time.monotonic(), Path(f"/proc/{self.child}")
        memory = int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        descriptors = len(os.listdir(process / "fd"))
        self.used.append(Use(now - begin, now - self.born, memory, descriptors))
        runs = Path(self.base["output"], self.base["name"])
        for path in runs.glob("*/checkpoints/step-*/manifest.json"):
            try:
                self.saved[path.parent.name] = json.loads(path.read_bytes())["files"]
            except FileNotFoundError:  # an older one, deleted meanwhile
                continue

    def between(self, begin: float, end: float) -> tuple[float, float]:
        """Medians of memory and descriptors of settled processes between two moments."""
        some = [one for one in self.used if begin <= one.seconds <= end and one.age >= SETTLED]
        if not some:
            return 0.0, 0.0
        return (
            statistics.median(one.memory for one in some),
            statistics.median(one.descriptors for one in some),
        )


def soak(text: Path, directory: Path, n: int, seed: int) -> Row:
    """Run `n` minutes; memory and descriptors of the sixth of the time's end against its last."""
    row = Row(
        fault="soak: minutes of one run with kill -9 at random, beside the same left alone",
        must_hold="every checkpoint and logged figure bit-identical in both; memory of either at "
        "the end within 10 MiB of a sixth of the time; no more descriptors",
    )
    rng = random.Random(seed)
    whole(tables(text, directory / "imports"))  # children find everything imported
    runs = [Watched(experiment(text, directory / name)) for name in ("alone", "killed")]
    alone, killed = runs
    for one in runs:
        one.start()
    begin, kills = time.monotonic(), 0
    following = begin + rng.expovariate(1 / BETWEEN_KILLS)
    while time.monotonic() < begin + 60 * n:
        time.sleep(0.5)
        for one in runs:
            one.look(begin)
        if time.monotonic() >= following:
            if killed.stop(signal.SIGKILL) != -signal.SIGKILL:
                row.failures.append("the run had ended by itself")
            killed.start()
            kills += 1
            following = time.monotonic() + rng.expovariate(1 / BETWEEN_KILLS)
    row.n = n
    row.failures += [
        f"exit code {code} after SIGTERM"
        for code in (one.stop(signal.SIGTERM) for one in runs)
        if code != 128 + signal.SIGTERM
    ]
    row.failures += _different(alone, killed)
    growth = []
    for name, one in (("alone", alone), ("killed", killed)):
        early, late = one.between(10 * n - 60, 10 * n + 60), one.between(60 * n - 120, 60 * n)
        growth.append(f"{name} {(late[0] - early[0]) / 2**20:+.1f} MiB")
        if not early[0] or not late[0] or late[0] - early[0] > ALLOWED:
            row.failures.append(f"{name}: {early[0]:.0f} bytes, then {late[0]:.0f}")
        if late[1] > early[1]:
            row.failures.append(f"{name}: {early[1]:.0f} descriptors, then {late[1]:.0f}")
    common = sorted(set(alone.saved) & set(killed.saved))
    row.notes = f"{kills} kills, {len(common)} checkpoints compared to {common[-1]}, " + ", ".join(
        growth
    )
    return row


def _different(alone: Watched, killed: Watched) -> list[str]:
    common = set(alone.saved) & set(killed.saved)
    found = [
        f"{step}: {name} differs"
        for step in sorted(common)
        for name in ("model.safetensors", "optimizer.safetensors")
        if alone.saved[step][name] != killed.saved[step][name]
    ]
    first, second = (lines(only_run(one.base)) for one in (alone, killed))
    shared = min(len(first), len(second))
    if not common or not shared:
        return [*found, "nothing to compare"]
    return found + (["metrics.jsonl differs"] if first[:shared] != second[:shared] else [])
