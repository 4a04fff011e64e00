"""Writing files so that a reader sees the old content or the new, never half of it."""

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

from saecore.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

STAGING = ".tmp-"
"""What is being written begins with this; left behind only by a process that was killed."""

SAFETENSORS = {
    "torch.float64": "F64", "torch.float32": "F32", "torch.float16": "F16",
    "torch.bfloat16": "BF16", "torch.int64": "I64", "torch.int32": "I32", "torch.int16": "I16",
    "torch.int8": "I8", "torch.uint8": "U8", "torch.bool": "BOOL",
}  # fmt: skip
"""Names of types in safetensors files."""


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


@contextlib.contextmanager
def written(path: Path, setting: str = "output") -> Iterator[BinaryIO]:
    """Open a file that takes its name when it is whole and synced; until then the old one stays.

    Args:
        path: the file.
        setting: what decides where it is, for the error message.

    Raises:
        CheckpointError: the disk is full, read-only, or the directory not writable.
    """
    with explained(path, setting=setting):
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
    """Make the names in a directory survive a power cut."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, data: bytes, setting: str = "output") -> None:
    """Write a file; arguments as for `written`.

    Raises:
        CheckpointError: as `written`.
    """
    with written(path, setting) as file:
        file.write(data)


def write_json(path: Path, value: Any, indent: int | None = 1) -> None:
    """Write JSON; numbers must be finite.

    Raises:
        CheckpointError: as `write_bytes`.
    """
    text = json.dumps(value, indent=indent, allow_nan=False)
    write_bytes(path, (text + ("\n" if indent else "")).encode())


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file without metadata, one tensor in memory at a time.

    Raises:
        CheckpointError: as `written`.
    """
    import torch

    # The format wants the data in the order of the header; wide types first keep it aligned.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header, at = {}, 0
    for name in names:
        one = tensors[name]
        end = at + one.numel() * one.element_size()
        header[name] = {
            "dtype": SAFETENSORS[str(one.dtype)],
            "shape": list(one.shape),
            "data_offsets": [at, end],
        }
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with written(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            flat = tensors[name].detach().cpu().contiguous().reshape(-1)
            file.write(flat.view(torch.uint8).numpy().data)


def contained(name: str) -> bool:
    """Whether a name from elsewhere names an entry of one directory, and nothing outside it.

    Letters, digits, dots, dashes and underscores, at most 96, beginning with a letter or digit:
    no separators, no parents, no drives, no control characters, no hidden files.
    """
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}", name, re.ASCII) is not None
