"""The manifest of a cache of activations, `cache.json`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

import attrs

from saecore.core.model import vector_size
from saecore.errors import DataError

FORMAT = 1
MANIFEST = "cache.json"

Precision = Literal["float32", "bfloat16", "int8"]
"""How activations are stored; int8 has a scale for every row of a hook."""

BYTES: Mapping[str, int] = {"float32": 4, "bfloat16": 2, "int8": 1}
"""Bytes of one number."""


@attrs.frozen(kw_only=True)
class CacheManifest:
    """Everything that decides the rows of a cache."""

    hooks: Mapping[str, tuple[int, ...]]
    """Hooks and the shape of one activation, `(d,)` or `(heads, d_head)`."""
    dtype: Precision
    """Precision on disk."""
    rows: int
    """Rows for training."""
    held_out_rows: int
    """Rows that are never trained on, in the order of their contexts."""
    rows_per_shard: int
    """Rows of every shard but the last of its side."""
    model: Mapping[str, Any]
    """The language model's identity: name, revision, precision."""
    tokenizer: str
    """Hash of the tokenizer."""
    dataset: Mapping[str, Any]
    """The text's name and revision."""
    stream: Mapping[str, Any]
    """What decides the rows and their order: corpus, packing, mixing, seed."""
    metadata: Mapping[str, Any]
    """Model and text, for the metadata of an SAE trained on the cache."""
    format: int = FORMAT
    """Version of this format."""

    @property
    def fingerprint(self) -> str:
        """A hash of all fields."""
        text = json.dumps(attrs.asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def row_bytes(self) -> int:
        """Bytes of a row on disk, including its token and position."""
        scale = 4 if self.dtype == "int8" else 0
        vectors = sum(
            vector_size(shape) * BYTES[self.dtype] + scale for shape in self.hooks.values()
        )
        return vectors + 8

    def shards(self, side: str) -> int:
        """Number of shards of a side, "train" or "held_out"."""
        return -(-self.side_rows(side) // self.rows_per_shard)

    def side_rows(self, side: str) -> int:
        """Rows of a side."""
        return self.rows if side == "train" else self.held_out_rows

    def shard_rows(self, side: str, number: int) -> int:
        """Rows of one shard."""
        return min(self.rows_per_shard, self.side_rows(side) - number * self.rows_per_shard)


def read_manifest(text: str, label: str) -> CacheManifest:
    """Parse cache.json.

    Args:
        text: its contents.
        label: names the file in errors.

    Raises:
        DataError: it is damaged, or of a later version.
    """
    try:
        table = json.loads(text)
        if table["format"] != FORMAT:
            raise ValueError(f"format {table['format']!r}, this version reads {FORMAT}")
        table["hooks"] = {hook: tuple(map(int, shape)) for hook, shape in table["hooks"].items()}
        manifest = CacheManifest(**table)
        counts = (manifest.rows, manifest.held_out_rows, manifest.rows_per_shard)
        if manifest.dtype not in BYTES or min(counts) < 0 or not manifest.rows_per_shard:
            raise ValueError(f"dtype {manifest.dtype!r}, rows {counts}")
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise DataError(f"{label}: not the manifest of a cache: {error}") from None
    return manifest
