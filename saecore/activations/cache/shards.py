"""Hashed shards on disk: names, records, writing, resuming and verification; row precision.

A directory has a manifest that decides the contents, and shards `SIDE/NUMBER.safetensors`. Beside
each shard lies its record, a JSON file written once the shard is complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from saecore.activations.cache.manifest import Precision
from saecore.activations.documents import SIDES
from saecore.errors import DataError
from saecore.storage import safe_load
from saecore.storage.cache_directory import cache_directory
from saecore.storage.files import STAGING, write_json, write_tensors
from saecore.storage.repository import Repository

REMEDY = "delete this shard and its .json, then rerun the command that writes them"

SCALE = "scale:"
"""Prefix of the name of the tensor with a hook's row scales."""


@attrs.frozen
class Shard:
    """The record of a complete shard."""

    sha256: str
    """Hash of the file."""
    bytes: int
    """Size of the file."""


def shard_name(side: str, number: int, suffix: str = "safetensors") -> str:
    """A shard's file, relative to the directory of the manifest."""
    return f"{side}/{number:06d}.{suffix}"


def read_shard(file: Path) -> Shard:
    """Parse the record of a shard.

    Raises:
        DataError: it is damaged.
    """
    try:
        shard = Shard(**json.loads(file.read_text(encoding="utf-8")))
        if not isinstance(shard.sha256, str) or not isinstance(shard.bytes, int):
            raise ValueError("sha256 and bytes expected")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{file}: not the record of a shard: {error}") from None
    return shard


# -- writing -------------------------------------------------------------------------------


def begin_or_resume(
    directory: Path,
    name: str,
    manifest: Mapping[str, Any],
    read: Callable[[str, str], Mapping[str, Any]],
    kind: str,
    first: Sequence[str],
) -> None:
    """Write the manifest of an empty directory, or check that the present one is the same.

    Args:
        directory: where the shards will be; hold its lock.
        name: file name of the manifest.
        manifest: its contents.
        read: parses a manifest from its text and a label for errors.
        kind: "a cache" or "tokens", for errors.
        first: keys to compare first, because they explain a difference best.

    Raises:
        DataError: the directory holds something else; the message names the first key.
    """
    file = directory / name
    if file.exists():
        existing = read(file.read_text(encoding="utf-8"), str(file))
        _check_same(directory, existing, manifest, kind, [*first, *manifest])
    elif any(path.name != ".lock" for path in directory.iterdir()):
        raise DataError(f"{directory}: not empty, but has no {name}; choose another --to")
    else:
        write_json(file, manifest)
    for side in SIDES:
        for partial in (directory / side).glob(f"{STAGING}*"):  # left by a killed process
            partial.unlink()


def is_written(directory: Path, side: str, number: int) -> bool:
    """Whether a shard is complete."""
    return (directory / shard_name(side, number, "json")).exists()


def write_shard(directory: Path, side: str, number: int, tensors: Mapping[str, Tensor]) -> None:
    """Write a shard, then the record that marks it complete."""
    file = directory / shard_name(side, number)
    write_tensors(file, tensors)
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    record = Shard(digest, file.stat().st_size)
    write_json(directory / shard_name(side, number, "json"), attrs.asdict(record))


def _check_same(
    directory: Path,
    existing: Mapping[str, Any],
    manifest: Mapping[str, Any],
    kind: str,
    keys: Sequence[str],
) -> None:
    for key in keys:
        old, new = (json.loads(json.dumps(table[key])) for table in (existing, manifest))
        if old != new:
            if isinstance(old, dict) and isinstance(new, dict):
                inner = next(k for k in {**old, **new} if old.get(k) != new.get(k))
                key, old, new = f"{key}.{inner}", old.get(inner), new.get(inner)
            raise DataError(
                f"{directory}: holds {kind} with {key} = {old!r}, expected {new!r}; choose "
                "another --to, or delete the directory"
            )


# -- reading -------------------------------------------------------------------------------


def open_shard(files: Repository, side: str, number: int) -> tuple[Path, Mapping[str, Tensor]]:
    """Fetch a shard if necessary, verify it and map its tensors into memory.

    Returns:
        The shard's file on this machine, for errors, and its tensors.

    Raises:
        DataError: the file is missing, truncated or changed.
    """
    file = files.path(shard_name(side, number))
    check_once(file, read_shard(files.path(shard_name(side, number, "json"))))
    return file, safe_load.safetensors(file, str(file))


def check_once(file: Path, shard: Shard) -> None:
    """Compare a shard's file with its record, unless that was done since the file last changed.

    Raises:
        DataError: the file is missing, truncated or changed.
    """
    try:
        status = file.stat()
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error
    if status.st_size != shard.bytes:
        raise DataError(f"{file}: {status.st_size:_} bytes, expected {shard.bytes:_}; {REMEDY}")
    state = f"{file.resolve()}|{status.st_ino}|{status.st_mtime_ns}|{shard.sha256}"
    stamp = cache_directory() / "verified" / hashlib.sha256(state.encode()).hexdigest()
    if stamp.exists():
        return
    check_hash(file, shard)
    with contextlib.suppress(OSError):  # the stamp only saves time
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.touch()


def check_hash(file: Path, shard: Shard) -> None:
    """Compare a shard's file with its record, even if that was done before.

    Raises:
        DataError: the file cannot be read or was changed.
    """
    try:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error
    if digest != shard.sha256:
        raise DataError(f"{file}: changed since it was written (sha256 {digest[:12]}…); {REMEDY}")


# -- precision -----------------------------------------------------------------------------


def pack_rows(hook: str, rows: Tensor, dtype: Precision) -> dict[str, Tensor]:
    """A hook's rows `[N, d]` as tensors of a shard.

    int8: q = round(x / s) with s = max |x| / 127 of the row, so no entry is off by more than
    s / 2.
    """
    rows = rows.cpu()
    if dtype == "float32":
        return {hook: rows.float()}
    if dtype == "bfloat16":
        return {hook: rows.bfloat16()}
    scale = rows.abs().amax(dim=1) / 127  # [N]
    safe = torch.where(scale > 0, scale, 1.0)
    return {hook: (rows / safe[:, None]).round().to(torch.int8), SCALE + hook: scale}


def unpack_rows(hook: str, tensors: Mapping[str, Tensor], part: slice) -> Tensor:
    """A hook's rows `[n, d]` as float32, copied out of the mapped file."""
    rows = tensors[hook][part]
    if rows.dtype == torch.int8:
        return rows * tensors[SCALE + hook][part, None]
    return rows.clone() if rows.dtype == torch.float32 else rows.float()
