"""Write files atomically: a reader sees the old content or the new, never half of it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from saecore.errors import CheckpointError, StorageError

if TYPE_CHECKING:
    from torch import Tensor

STAGING = ".tmp-"
"""Prefix of files being written; only a killed process leaves them behind."""

SAFETENSORS = {
    "torch.float64": "F64", "torch.float32": "F32", "torch.float16": "F16",
    "torch.bfloat16": "BF16", "torch.int64": "I64", "torch.int32": "I32", "torch.int16": "I16",
    "torch.int8": "I8", "torch.uint8": "U8", "torch.bool": "BOOL",
}  # fmt: skip
"""Names of dtypes in safetensors files."""


@contextlib.contextmanager
def storage_errors(path: Path, doing: str = "written", setting: str = "output") -> Iterator[None]:
    """Turn an OSError into a StorageError that says what to do.

    Args:
        path: the file or directory being worked on.
        doing: what cannot be done to it.
        setting: the setting that decides where it is.

    Raises:
        StorageError: an OSError occurred.
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
        raise StorageError(f"{path}: cannot be {doing}: {error.strerror}; {remedy}") from error


@contextlib.contextmanager
def checkpoint_errors() -> Iterator[None]:
    """Raise a StorageError as a CheckpointError, around work on a run's files.

    Raises:
        CheckpointError: a StorageError occurred.
    """
    try:
        yield
    except CheckpointError:
        raise
    except StorageError as error:
        raise CheckpointError(*error.args) from error.__cause__


@contextlib.contextmanager
def written(path: Path, setting: str = "output") -> Iterator[BinaryIO]:
    """Open a file that replaces `path` once it is complete and synced.

    Args:
        path: the file.
        setting: the setting that decides where it is, for the error message.

    Raises:
        StorageError: the disk is full or read-only, or the directory is not writable.
    """
    with storage_errors(path, setting=setting):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f"{STAGING}{path.name}-{os.getpid()}-{secrets.token_hex(4)}"
        try:
            with temporary.open("xb") as file:  # the umask decides who may read it
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def sync(directory: Path) -> None:
    """Sync a directory, so that new names in it survive a power cut."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, data: bytes, setting: str = "output") -> None:
    """Write a file atomically; arguments as for `written`.

    Raises:
        StorageError: as `written`.
    """
    with written(path, setting) as file:
        file.write(data)


def write_json(path: Path, value: Any, indent: int | None = 1) -> None:
    """Write JSON atomically; numbers must be finite.

    Raises:
        StorageError: as `written`.
    """
    text = json.dumps(value, indent=indent, allow_nan=False)
    write_bytes(path, (text + ("\n" if indent else "")).encode())


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file without metadata, one tensor in memory at a time.

    Raises:
        StorageError: as `written`.
    """
    import torch

    # The format wants the data in the order of the header; wide types first keep it aligned.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header, begin = {}, 0
    for name in names:
        tensor = tensors[name]
        end = begin + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": SAFETENSORS[str(tensor.dtype)],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
        begin = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with written(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            flat = tensors[name].detach().cpu().contiguous().reshape(-1)
            file.write(flat.view(torch.uint8).numpy().data)


def contained(name: str) -> bool:
    """Whether a name from outside is safe as the name of an entry in a directory.

    Allowed are at most 96 letters, digits, dots, dashes and underscores, starting with a letter or
    digit: no separators, parents, drives, control characters or hidden files.
    """
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}", name, re.ASCII) is not None
