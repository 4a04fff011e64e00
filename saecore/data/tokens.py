"""Text tokenised once: rows of tokens, kept in a cache directory.

Documents that can be counted are tokenised as a whole before anything else; those of a stream
as training needs them (`shards`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from saecore.data.contexts import Contexts
from saecore.data.documents import (
    FEW,
    Document,
    Documents,
    DocumentStream,
    held_out,
    identity,
    parts,
)
from saecore.data.encoding import tokenised, tokenizer_hash
from saecore.data.packing import Packing, Tokens, pack
from saecore.data.shards import ShardedContexts
from saecore.errors import DataError
from saecore.files import explained, write_json

FORMAT = 1
SIDES = ("train", "held_out")
SHARD_TOKENS = {"train": 2**20, "held_out": 2**14}
"""Tokens of a stream's shard; within a shard of the training side contexts are shuffled."""


@attrs.frozen
class TokenRows:
    """Contexts of tokens, those to train on and those held out."""

    train: NDArray[Any] | Contexts
    """`[n, context_size]`, memory-mapped; or what grows as a stream is read."""
    held_out: NDArray[Any]
    """`[m, context_size]`, memory-mapped; of a stream, as many as will be evaluated."""
    key: str
    """Hash of text, tokenizer and packing."""
    corpus: str
    """Hash of the text."""
    identity: dict[str, Any] = attrs.field(factory=dict)
    """What the dataset says of itself: name, revision, …"""


class KeptTokens(Protocol):
    """What a dataset component may build in place of documents: contexts made before."""

    def rows(
        self, packing: Packing, tokenizer: Any, vocab_size: int, share: float, evaluated: int
    ) -> TokenRows:
        """The contexts, if they were made as these settings say.

        Raises:
            DataError: they were not.
        """
        ...


def cache_directory() -> Path:
    """Where token files are kept: $SAECORE_CACHE, or `saecore` in the user's cache directory."""
    own = os.environ.get("SAECORE_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(own) if own else Path(base) / "saecore"


def token_rows(
    documents: Documents | DocumentStream,
    tokenizer: Any,
    vocab_size: int,
    packing: Packing,
    share: float,
    evaluated: int = 0,
) -> TokenRows:
    """Tokenise and pack documents, or open what was made before from the same ones.

    Args:
        documents: the text.
        tokenizer: a Hugging Face tokenizer.
        vocab_size: token ids must be below this.
        packing: how documents become rows.
        share: share of the documents to hold out.
        evaluated: held-out rows that are needed; a stream is read until there are as many.

    Raises:
        DataError: no documents, no row of tokens, or a token the model does not know.
        CheckpointError: the cache directory cannot be written.
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
        train, held = _streamed(
            directory, documents, tokenizer, vocab_size, packing, share, evaluated
        )
    else:
        if not (directory / "meta.json").exists():
            _write(directory, documents, tokenizer, vocab_size, packing, share, settings)
        train, held = (_open(directory, side, packing.context_size) for side in SIDES)
    return TokenRows(train, held, key, documents.fingerprint, identity(documents))


def _streamed(
    directory: Path,
    stream: DocumentStream,
    tokenizer: Any,
    vocab_size: int,
    packing: Packing,
    share: float,
    evaluated: int,
) -> tuple[Contexts, NDArray[Any]]:
    """Both sides of a stream, each read on its own; the first rows are there already."""

    def contexts(side: str) -> ShardedContexts:
        def numbered(number: int) -> Iterator[tuple[int, Document]]:
            for i, document in enumerate(stream.read_from(number), number):
                if SIDES[held_out(document.name, share)] == side:
                    yield i, document

        def tokens_from(number: int) -> Iterator[tuple[int, Tokens]]:
            return tokenised(numbered(number), tokenizer, vocab_size)

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
    with explained(directory, setting="the variable SAECORE_CACHE"):
        directory.mkdir(parents=True, exist_ok=True)
        for side in SIDES:
            temporary = directory / f".{side}-{os.getpid()}.bin"
            texts = (parts(one, share, few)[SIDES.index(side)] for one in documents)
            tokens = tokenised(enumerate(texts), tokenizer, vocab_size)
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


def special_tokens(tokenizer: Any) -> dict[str, int]:
    """Ids of the tokenizer's bos, eos, pad and sep tokens, those it has; CLS stands in for BOS."""
    found = {}
    for name in ("bos", "eos", "pad", "sep"):
        token = getattr(tokenizer, f"{name}_token_id", None)
        if token is not None:
            found[name] = int(token)
    if "bos" not in found and getattr(tokenizer, "cls_token_id", None) is not None:
        found["bos"] = int(tokenizer.cls_token_id)
    return found
