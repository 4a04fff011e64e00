"""Writing files so that a reader sees the old content or the new, never half of it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saecore.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor


@contextlib.contextmanager
def explained(path: Path, doing: str = "written", setting: str = "output") -> Iterator[None]:
    """Turn an OSError into a CheckpointError that says what to do.

    Args:
        path: what is being worked on.
        doing: what cannot be done to it.
        setting: what decides where it is.
    """
    try:
        yield
    except OSError as error:
        allowed = f"set {setting} to a directory that you may write to"
        remedy = {
            errno.ENOSPC: f"free some space or set {setting} to another disk",
            errno.EDQUOT: f"free some of your quota or set {setting} to another disk",
            errno.EACCES: allowed,
            errno.EPERM: allowed,
            errno.EROFS: f"set {setting} to a disk that is not read-only",
        }.get(error.errno or 0, f"set {setting} to another directory")
        raise CheckpointError(f"{path}: cannot be {doing}: {error.strerror}; {remedy}") from error


def write_bytes(path: Path, data: bytes, setting: str = "output") -> None:
    """Write a file through a temporary one beside it, synced before it takes the name.

    Args:
        path: the file.
        data: what it is to hold.
        setting: what decides where it is, for the error message.

    Raises:
        CheckpointError: the disk is full, read-only, or the directory not writable.
    """
    with explained(path, setting=setting):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(name, 0o666 & ~umask)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise


def write_json(path: Path, value: Any, indent: int | None = 1) -> None:
    """Write JSON; numbers must be finite.

    Raises:
        CheckpointError: as `write_bytes`.
    """
    text = json.dumps(value, indent=indent, allow_nan=False)
    write_bytes(path, (text + ("\n" if indent else "")).encode())


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file without metadata.

    Raises:
        CheckpointError: as `write_bytes`.
    """
    from safetensors.torch import save

    ready = {name: one.detach().cpu().contiguous() for name, one in tensors.items()}
    write_bytes(path, save(ready))
