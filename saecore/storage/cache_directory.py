"""The directory for files that can be regenerated."""

from __future__ import annotations

import os
from pathlib import Path


def cache_directory() -> Path:
    """Directory of token files: $SAECORE_CACHE, or `saecore` in the user's cache directory."""
    override = os.environ.get("SAECORE_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(override) if override else Path(base) / "saecore"
