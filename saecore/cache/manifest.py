"""What a cache says of itself: `cache.json`, and one JSON file a shard."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from saecore.errors import DataError

FORMAT = 1
MANIFEST = "cache.json"

Precision = Literal["float32", "bfloat16", "int8"]
"""How activations are stored; int8 has one scale for every row of a hook."""

BYTES: Mapping[str, int] = {"float32": 4, "bfloat16": 2, "int8": 1}


@attrs.frozen
class Manifest:
    """Everything that decides the rows of a cache."""

    hooks: Mapping[str, tuple[int, ...]]
    """Hooks and the sizes of one activation, `(d,)` or `(heads, d_head)`."""
    dtype: Precision
    """Precision on disk."""
    rows: int
    """Rows for training."""
    held_out_rows: int
    """Rows that are never trained on; in the order of their contexts."""
    rows_per_shard: int
    """Rows of every shard but the last of its side."""
    model: Mapping[str, Any]
    """The language model's identity: name, revision, precision."""
    tokenizer: str
    """Hash of the tokenizer."""
    dataset: Mapping[str, Any]
    """The text's name and revision."""
    stream: Mapping[str, Any]
    """What decides which rows there are and their order: corpus, packing, window, seed."""
    metadata: Mapping[str, Any]
    """What the metadata of an SAE trained on it says of model and text."""
    format: int = FORMAT
    """Version of this format."""

    @property
    def fingerprint(self) -> str:
        """A hash of everything above."""
        text = json.dumps(attrs.asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def row_bytes(self) -> int:
        """Bytes of a row on disk, its token and position included."""
        scale = 4 if self.dtype == "int8" else 0
        sizes = (width(one) * BYTES[self.dtype] + scale for one in self.hooks.values())
        return sum(sizes) + 8

    def shards(self, side: str) -> int:
        """Number of shards of a side, "train" or "held_out"."""
        return -(-self.side_rows(side) // self.rows_per_shard)

    def side_rows(self, side: str) -> int:
        """Rows of a side."""
        return self.rows if side == "train" else self.held_out_rows

    def shard_rows(self, side: str, number: int) -> int:
        """Rows of one shard."""
        return min(self.rows_per_shard, self.side_rows(side) - number * self.rows_per_shard)


@attrs.frozen
class Shard:
    """What is known of a shard that is whole."""

    sha256: str
    """Hash of the file."""
    bytes: int
    """Size of the file."""


def width(sizes: tuple[int, ...]) -> int:
    """Numbers in one activation."""
    product = 1
    for one in sizes:
        product *= one
    return product


def shard_name(side: str, number: int, ending: str = "safetensors") -> str:
    """A shard's file, relative to the cache."""
    return f"{side}/{number:06d}.{ending}"


def read_manifest(text: str, label: str) -> Manifest:
    """Parse cache.json.

    Raises:
        DataError: it is damaged, or of a later version.
    """
    try:
        table = json.loads(text)
        if table["format"] != FORMAT:
            raise ValueError(f"format {table['format']!r}, this version reads {FORMAT}")
        table["hooks"] = {hook: tuple(map(int, one)) for hook, one in table["hooks"].items()}
        manifest = Manifest(**table)
        counts = (manifest.rows, manifest.held_out_rows, manifest.rows_per_shard)
        if manifest.dtype not in BYTES or min(counts) < 0 or not manifest.rows_per_shard:
            raise ValueError(f"dtype {manifest.dtype!r}, rows {counts}")
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise DataError(f"{label}: not the manifest of a cache: {error}") from None
    return manifest


def read_shard(file: Path) -> Shard:
    """Parse the JSON file of a shard.

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
