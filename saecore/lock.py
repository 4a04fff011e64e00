"""One process per run directory."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from saecore.errors import CheckpointError
from saecore.files import explained


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold `<directory>/.lock`, which says which process on which host has it.

    The lock goes with the process, however that ends. On a file system without locks a warning
    is printed and nothing is held.

    Raises:
        CheckpointError: another process holds it.
    """
    from filelock import FileLock, Timeout

    file = directory / ".lock"
    lock = FileLock(file)
    with explained(file):
        try:
            lock.acquire(blocking=False)
            file.write_text(f"process {os.getpid()} on {socket.gethostname()}")
        except Timeout:
            raise CheckpointError(
                f"{directory}: in use by {file.read_text() or 'another process'}; wait until it "
                "has ended, or "
                "start one of its own (a run without --resume, a sweep of another name)"
            ) from None
        except NotImplementedError:
            print(
                f"warning: {file}: this file system has no locks; make sure that only one "
                "process uses the run",
                file=sys.stderr,
            )
    try:
        yield
    finally:
        lock.release()
