"""Contenders in processes of their own that take turns, one step each, round after round.

This process imports no torch: a child begins with its parent's size in `ru_maxrss`.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench.peers import interpreter

CONTENDERS = Path(__file__).parent / "contenders"


class Contender(NamedTuple):
    """One that takes part."""

    name: str
    """What it is called in tables."""
    script: str
    """File in contenders/, without its ending."""
    job: dict[str, Any]
    """What it is told."""
    peer: str | None = None
    """The environment it needs; None is this one."""


class Process:
    """A contender's process."""

    def __init__(self, contender: Contender, python: Path | str) -> None:
        self.name = contender.name
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the process)
        self._process = subprocess.Popen(
            [python, CONTENDERS / f"{contender.script}.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.about: dict[str, Any] = {}
        self.seconds: list[float] = []
        self.last: dict[str, Any] = {}
        self._write(json.dumps(contender.job))

    def wait(self) -> None:
        """Until it has imported and built everything."""
        self.about = self._read()

    def step(self, counts: bool) -> None:
        """One step; the first ones of a process do not count."""
        self._write("1")
        self.last = self._read()
        if counts:
            self.seconds += self.last.pop("seconds")

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # reading its answer says why
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):  # some libraries print when they are imported
                return dict(json.loads(line))
        raise FailedError(self._why())

    def _why(self) -> str:
        """The last line of what it printed."""
        self._process.wait()
        self._log.seek(0)
        lines = [line.strip() for line in self._log if line.strip()]
        return lines[-1] if lines else f"ended with {self._process.returncode}"


class FailedError(Exception):
    """A contender's process has ended; with its last words."""


def measure(
    contenders: list[Contender], peers: Path, rounds: int, seconds: float
) -> dict[str, dict[str, Any]]:
    """Let them take turns; the figures of each, by name.

    The one in front changes from round to round. What cannot run says why (`failed`).

    Args:
        contenders: who takes part.
        peers: the directory that peers.sh filled.
        rounds: counted steps of each, after two that are not.
        seconds: no new round begins after so long, if three have been counted.
    """
    found: dict[str, dict[str, Any]] = {}
    running: list[Process] = []
    try:
        for one in contenders:
            python = sys.executable if one.peer is None else interpreter(peers, one.peer)
            if python is None:
                found[one.name] = {"failed": f"no environment {one.peer}; tests/bench/peers.sh"}
                continue
            running.append(Process(one, python))
        for process in list(running):
            attempt(found, running, process.name, process.wait)
        began = time.monotonic()
        for i in range(-2, rounds):
            if i >= 3 and time.monotonic() - began > seconds:
                break
            turn = i % max(1, len(running))
            for process in running[turn:] + running[:turn]:
                attempt(found, running, process.name, lambda: process.step(i >= 0))  # noqa: B023
        for process in running:
            found[process.name] = {
                "median_ms": 1e3 * statistics.median(process.seconds),
                "min_ms": 1e3 * min(process.seconds),
                "ms": [round(1e3 * one, 3) for one in process.seconds],
                **process.last,
                **process.about,
            }
    finally:
        for process in running:
            process.close()
    return {one.name: found[one.name] for one in contenders}


def attempt(found: dict[str, Any], running: list[Process], name: str, action: Any) -> None:
    """Do it; a contender that fails is left out from then on."""
    try:
        action()
    except FailedError as error:
        found[name] = {"failed": str(error)}
        running[:] = [one for one in running if one.name != name]


def ratio(found: dict[str, dict[str, Any]], of: str, to: str) -> float | None:
    """How many times as long `of` takes as `to`: the median over the rounds."""
    one, other = found.get(of, {}).get("ms"), found.get(to, {}).get("ms")
    if not one or not other:
        return None
    return statistics.median(a / b for a, b in zip(one, other, strict=False))
