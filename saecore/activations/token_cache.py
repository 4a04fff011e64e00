"""Text tokenized and packed once, kept in the cache directory.

Documents that can be counted are tokenized completely before training; those of a stream as
training needs them (`token_shards`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from saecore.activations.contexts import Contexts
from saecore.activations.documents import FEW, SIDES, held_out, identity, parts
from saecore.activations.packing import Packing, Tokens, pack
from saecore.activations.token_shards import ShardedContexts
from saecore.activations.tokenize import iter_tokens
from saecore.core.dataset import Document, Documents, DocumentStream
from saecore.errors import DataError
from saecore.models.tokenizer import tokenizer_hash
from saecore.storage.cache_directory import cache_directory
from saecore.storage.files import storage_errors, write_json

FORMAT = 1
SHARD_TOKENS = {"train": 2**20, "held_out": 2**14}
"""Tokens per shard of a stream; training contexts are shuffled within a shard."""


@attrs.frozen(kw_only=True)
class TokenRows:
    """Contexts of tokens to train on, and held-out ones."""

    train: NDArray[Any] | Contexts
    """`[n, context_size]`, memory-mapped; of a stream, shards that grow as it is read."""
    held_out: NDArray[Any]
    """`[m, context_size]`, memory-mapped; of a stream, only those that will be evaluated."""
    key: str
    """Hash of text, tokenizer and packing."""
    corpus: str
    """Hash of the text."""
    identity: dict[str, Any] = attrs.field(factory=dict)
    """Identity of the dataset: name, revision, …"""


def token_rows(
    documents: Documents | DocumentStream,
    tokenizer: Any,
    vocab_size: int,
    packing: Packing,
    share: float,
    evaluated: int = 0,
) -> TokenRows:
    """Tokenize and pack documents, or open the cached result.

    Args:
        documents: the text.
        tokenizer: a Hugging Face tokenizer.
        vocab_size: token ids must be below this.
        packing: how documents become rows.
        share: share of the documents to hold out.
        evaluated: held-out rows needed; a stream is read until it has given that many.

    Raises:
        DataError: there are no documents, no full row, or a token is outside the vocabulary.
        StorageError: the cache directory cannot be written.
    """
    streamed = isinstance(documents, DocumentStream)
    settings = {
        "format": FORMAT,
        "corpus": documents.fingerprint,
        "tokenizer": tokenizer_hash(tokenizer),
        "vocab_size": vocab_size,
        "held_out": share,
        **attrs.asdict(packing),
        **({"shard_tokens": SHARD_TOKENS} if streamed else {}),
    }
    text = json.dumps(settings, sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:32]
    directory = cache_directory() / "tokens" / key
    train: NDArray[Any] | Contexts
    if isinstance(documents, DocumentStream):
        train, held_out_rows = _streamed(
            directory, documents, tokenizer, vocab_size, packing, share, evaluated
        )
    else:
        if not (directory / "meta.json").exists():
            _write(directory, documents, tokenizer, vocab_size, packing, share, settings)
        train, held_out_rows = (_open(directory, side, packing.context_size) for side in SIDES)
    return TokenRows(
        train=train,
        held_out=held_out_rows,
        key=key,
        corpus=documents.fingerprint,
        identity=identity(documents),
    )


def _streamed(
    directory: Path,
    stream: DocumentStream,
    tokenizer: Any,
    vocab_size: int,
    packing: Packing,
    share: float,
    evaluated: int,
) -> tuple[Contexts, NDArray[Any]]:
    """Both sides of a stream, read separately; checks that there is a first training row."""

    def contexts(side: str) -> ShardedContexts:
        def numbered(number: int) -> Iterator[tuple[int, Document]]:
            for index, document in enumerate(stream.read_from(number), number):
                if SIDES[held_out(document.name, share)] == side:
                    yield index, document

        def tokens_from(number: int) -> Iterator[tuple[int, Tokens]]:
            return iter_tokens(numbered(number), tokenizer, vocab_size)

        size = max(1, SHARD_TOKENS[side] // packing.context_size)
        return ShardedContexts(tokens_from, directory / side, size, packing, _dtype(vocab_size))

    train = contexts("train")
    if not train.count(1):
        raise DataError(
            f"dataset: no context of {packing.context_size} tokens in the whole stream"
            + _too_short(packing)
        )
    return train, contexts("held_out").first(evaluated if share else 0)


def _dtype(vocab_size: int) -> type[np.generic]:
    return np.uint16 if vocab_size <= 2**16 else np.int32


def _too_short(packing: Packing) -> str:
    return "; give more text or lower dataset.context_size" + (
        "" if packing.concat else ", or set dataset.concat = true"
    )


def _write(
    directory: Path,
    documents: Documents,
    tokenizer: Any,
    vocab_size: int,
    packing: Packing,
    share: float,
    settings: dict[str, Any],
) -> None:
    if not len(documents):
        raise DataError("dataset: no documents; check the paths or patterns")
    few = len(documents) < FEW
    dtype = _dtype(vocab_size)
    counts = {}
    with storage_errors(directory, setting="the variable SAECORE_CACHE"):
        directory.mkdir(parents=True, exist_ok=True)
        for side in SIDES:
            temporary = directory / f".{side}-{os.getpid()}.bin"
            texts = (parts(document, share, few)[SIDES.index(side)] for document in documents)
            tokens = iter_tokens(enumerate(texts), tokenizer, vocab_size)
            counts[side] = 0
            try:
                with temporary.open("wb") as file:
                    for row in pack((ids for _, ids in tokens), packing):
                        file.write(row.astype(dtype).tobytes())
                        counts[side] += 1
                os.replace(temporary, directory / f"{side}.bin")
            finally:
                temporary.unlink(missing_ok=True)
    if not counts["train"]:
        raise DataError(
            f"dataset: {len(documents)} documents give no context of {packing.context_size} "
            "tokens" + _too_short(packing)
        )
    write_json(directory / "meta.json", {**settings, "rows": counts, "dtype": dtype.__name__})


def _open(directory: Path, side: str, context_size: int) -> NDArray[Any]:
    meta = json.loads((directory / "meta.json").read_text())
    shape = (meta["rows"][side], context_size)
    if not shape[0]:
        return np.zeros(shape, dtype=meta["dtype"])
    file = directory / f"{side}.bin"
    try:
        return np.memmap(file, dtype=meta["dtype"], mode="r", shape=shape)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{file}: damaged token file ({error}); delete {directory} and run again"
        ) from error
