"""A save in which one system call fails, or after which there is no process any more."""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from saecore.config import structure_experiment
from saecore.errors import CheckpointError
from saecore.runs.run import run
from saecore.storage import checkpoint
from tests.faults.kills import forked
from tests.faults.report import Row
from tests.faults.small import differences, interrupted, only_run, tables, whole

CALLS = ("mkdir", "open", "write", "fsync", "rename", "replace", "rmdir", "unlink")
ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS)


class File(io.FileIO):
    """A file whose writes can be counted and made to fail."""

    def __init__(self, count: Callable[[str], None], path: str, mode: str) -> None:
        super().__init__(path, mode)
        self._count = count

    def write(self, data):
        """Count, then write."""
        self._count("write")
        return super().write(data)


@contextlib.contextmanager
def counted(fail: Callable[[str, int], None]) -> Iterator[list[str]]:
    """Call `fail(name, number of the call)` before every call that a save makes."""
    made: list[str] = []

    def count(name: str) -> None:
        made.append(name)
        fail(name, len(made))

    real = {name: getattr(os, name) for name in CALLS if name not in ("open", "write")}
    opened = io.open

    def opening(file, mode="r", *args, **options):
        count("open")
        if "b" in mode and "r" not in mode:
            return io.BufferedWriter(File(count, file, mode))
        return opened(file, mode, *args, **options)

    def wrapped(name):
        def call(*args, **options):
            count(name)
            return real[name](*args, **options)

        return call

    for name in real:
        setattr(os, name, wrapped(name))
    io.open = builtins.open = opening
    try:
        yield made
    finally:
        io.open = builtins.open = opened
        for name, function in real.items():
            setattr(os, name, function)


def state(step: int) -> dict:
    """A small state that depends on the step."""
    tensor = torch.full((40, 8), float(step))
    return {"sae": {"w": tensor}, "optimizer": {"m": tensor + 1}, "completed": step}


def prepared(directory: Path) -> int:
    """Two checkpoints, of which the next save deletes one; returns how many calls it makes."""
    for step in (1, 2):
        checkpoint.save(directory, step, state(step), keep=2)
    copy = directory.parent / "counted"
    shutil.copytree(directory, copy)
    with counted(lambda name, number: None) as made:
        checkpoint.save(copy, 3, state(3), keep=2)
    shutil.rmtree(copy)
    return len(made)


def look(directory: Path, row: Row, where: str) -> None:
    """Every checkpoint there is must be whole, and the last or the new one must be there."""
    found = checkpoint.checkpoints(directory)
    if not {checkpoint.step_of(one) for one in found} & {2, 3}:
        row.failures.append(f"{where}: no checkpoint is left")
    for path in found:
        try:
            if checkpoint.load(path)["completed"] != checkpoint.step_of(path):
                row.failures.append(f"{where}: {path.name} holds another step")
        except CheckpointError as error:
            row.failures.append(f"{where}: torn: {error}")


def every_call_fails(text: Path, directory: Path, n: int, seed: int) -> Row:
    """Each system call of a save raises ENOSPC, EIO or EROFS in turn."""
    row = Row(
        fault=f"each system call of a save fails ({', '.join(CALLS)})",
        must_hold="typed error, or none where the checkpoint is whole anyway; the one before valid",
    )
    calls, typed = prepared(directory / "first"), 0
    for number in range(1, calls + 1):
        for code in ERRORS[:n]:
            place = directory / f"{number}-{code}"
            shutil.copytree(directory / "first", place)

            def fail(name: str, at: int, number=number, code=code) -> None:
                if at == number:
                    raise OSError(code, os.strerror(code))

            row.n += 1
            where = f"call {number} of {calls}, {errno.errorcode[code]}"
            try:
                with counted(fail):
                    checkpoint.save(place, 3, state(3), keep=2)
            except CheckpointError:
                typed += 1
            except BaseException as error:
                row.failures.append(f"{where}: {type(error).__name__}: {error}")
            look(place, row, where)
            checkpoint.save(place, 4, state(4), keep=2)  # nothing that is left is in the way
            shutil.rmtree(place)
    row.notes = f"{calls} calls, {typed} typed errors"
    return row


def process_ends_at_every_call(text: Path, directory: Path, n: int, seed: int) -> Row:
    """The process is gone before each system call of a save in turn."""
    row = Row(
        fault="the process ends before each system call of a save",
        must_hold="the checkpoint before valid",
    )
    calls = prepared(directory / "first")
    for number in range(1, calls + 1):
        place = directory / str(number)
        shutil.copytree(directory / "first", place)

        def end(name: str, at: int, number=number) -> None:
            if at == number:
                os.kill(os.getpid(), signal.SIGKILL)

        def work(place=place, end=end) -> int:
            with counted(end):
                checkpoint.save(place, 3, state(3), keep=2)
            return 0

        child = forked(work)
        row.n += 1
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != -signal.SIGKILL:
            row.failures.append(f"call {number}: the process did not end there")
        look(place, row, f"call {number} of {calls}")
        checkpoint.clean(place.parent)
        if left := [one.name for one in place.iterdir() if one.name.startswith(".")]:
            row.failures.append(f"call {number}: {left} left after cleaning")
        checkpoint.save(place, 4, state(4), keep=2)
        shutil.rmtree(place)
    return row


def disk_full(text: Path, directory: Path, n: int, seed: int) -> Row:
    """A limit on the size of files, as of a disk that fills up, in the middle of a run."""
    row = Row(
        fault="no space for a checkpoint in the middle of a run",
        must_hold="typed error; earlier checkpoints valid; resumed with space to the same bits",
    )
    uninterrupted = whole(tables(text, directory / "whole"))
    largest = max(
        one.stat().st_size for one in uninterrupted.glob("checkpoints/*/*") if one.is_file()
    )
    for i in range(n):
        base = tables(text, directory / str(i))

        def work(base=base, i=i) -> int:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            real = checkpoint.save

            def full(place, step, *args):
                if step == 8:
                    limit = largest * (i + 1) // (n + 1)
                    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
                return real(place, step, *args)

            from saecore.runs import loop

            loop.save = full
            try:
                run(structure_experiment(base))
            except CheckpointError as error:
                return 0 if "00000008" in str(error) else 3
            return 4

        code = os.waitstatus_to_exitcode(os.waitpid(forked(work), 0)[1])
        row.n += 1
        if code:
            row.failures.append(f"{i}: exit code {code}")
        saved = checkpoint.checkpoints(only_run(base) / "checkpoints")
        if [checkpoint.step_of(one) for one in saved] != [4]:
            row.failures.append(f"{i}: {[one.name for one in saved]}")
        row.failures += [f"{i}: {d} differs" for d in differences(interrupted(base), uninterrupted)]
    return row
