"""Whether a shard is what was written: its hash is computed once, then remembered."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from saecore.cache.manifest import Shard
from saecore.data.tokens import cache_directory
from saecore.errors import DataError

REMEDY = "write the cache again, or delete this shard and its .json and give the command again"


def check(file: Path, shard: Shard) -> None:
    """Compare a shard's file with its record, unless that was done since the file was changed.

    Raises:
        DataError: the file is missing, cut or changed.
    """
    try:
        seen = file.stat()
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error
    if seen.st_size != shard.bytes:
        raise DataError(f"{file}: {seen.st_size:_} bytes, {shard.bytes:_} were written; {REMEDY}")
    what = f"{file.resolve()}|{seen.st_ino}|{seen.st_mtime_ns}|{shard.sha256}"
    stamp = cache_directory() / "verified" / hashlib.sha256(what.encode()).hexdigest()
    if stamp.exists():
        return
    check_hash(file, shard)
    with contextlib.suppress(OSError):  # remembering is a convenience
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.touch()


def check_hash(file: Path, shard: Shard) -> None:
    """Compare a shard's file with its record, whatever is remembered.

    Raises:
        DataError: the file cannot be read or was changed.
    """
    try:
        with file.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error
    if found != shard.sha256:
        raise DataError(f"{file}: changed since it was written (sha256 {found[:12]}…); {REMEDY}")
