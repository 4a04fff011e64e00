"""A lock on a directory: one process at a time."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from saecore.errors import StorageError, warn
from saecore.storage.files import storage_errors

LOCK = ".lock"


@contextlib.contextmanager
def locked(directory: Path, alternative: str) -> Iterator[None]:
    """Hold `<directory>/.lock`, which records the process and host that hold it.

    The lock is released when the process ends, however that happens. On a file system without
    locks a warning is printed and nothing is held.

    Args:
        directory: the directory.
        alternative: what to do instead of waiting for the other process, for the error message.

    Raises:
        StorageError: another process holds it.
    """
    from filelock import FileLock, Timeout

    file = directory / LOCK
    lock = FileLock(file)
    with storage_errors(file):
        try:
            lock.acquire(blocking=False)
            file.write_text(f"process {os.getpid()} on {socket.gethostname()}")
        except Timeout:
            raise StorageError(
                f"{directory}: in use by {file.read_text() or 'another process'}; wait until it "
                f"has ended, or {alternative}"
            ) from None
        except NotImplementedError:
            warn(
                f"{file}: this file system has no locks; make sure that only one process uses "
                "the directory"
            )
    try:
        yield
    finally:
        lock.release()
