"""Text tokenised once: memory-mapped rows of tokens, kept in a cache directory."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from saecore.data.documents import FEW, Document, Documents, parts
from saecore.data.packing import Packing, pack
from saecore.errors import DataError
from saecore.files import explained, write_json

FORMAT = 1
SIDES = ("train", "held_out")


@attrs.frozen
class TokenRows:
    """Contexts of tokens, those to train on and those held out."""

    train: NDArray[Any]
    """`[n, context_size]`, memory-mapped."""
    held_out: NDArray[Any]
    """`[m, context_size]`, memory-mapped."""
    key: str
    """Hash of text, tokenizer and packing."""
    corpus: str
    """Hash of the text."""


def cache_directory() -> Path:
    """Where token files are kept: $SAECORE_CACHE, or `saecore` in the user's cache directory."""
    own = os.environ.get("SAECORE_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(own) if own else Path(base) / "saecore"


def token_rows(
    documents: Documents, tokenizer: Any, vocab_size: int, packing: Packing, share: float
) -> TokenRows:
    """Tokenise and pack documents, or open what was made before from the same ones.

    Args:
        documents: the text.
        tokenizer: a Hugging Face tokenizer.
        vocab_size: token ids must be below this.
        packing: how documents become rows.
        share: share of the documents to hold out.

    Raises:
        DataError: no documents, no row of tokens, or a token the model does not know.
        CheckpointError: the cache directory cannot be written.
    """
    settings = {
        "format": FORMAT,
        "corpus": documents.fingerprint,
        "tokenizer": tokenizer_hash(tokenizer),
        "vocab_size": vocab_size,
        "held_out": share,
        **attrs.asdict(packing),
    }
    text = json.dumps(settings, sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:32]
    directory = cache_directory() / "tokens" / key
    if not (directory / "meta.json").exists():
        _write(directory, documents, tokenizer, vocab_size, packing, share, settings)
    rows = {side: _open(directory, side, packing.context_size) for side in SIDES}
    return TokenRows(rows["train"], rows["held_out"], key, documents.fingerprint)


def tokenizer_hash(tokenizer: Any) -> str:
    """A hash of everything the tokenizer does."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    state = fast.to_str() if fast is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    return hashlib.sha256(state.encode()).hexdigest()


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
    dtype = np.uint16 if vocab_size <= 2**16 else np.int32
    counts = {}
    with explained(directory, setting="the variable SAECORE_CACHE"):
        directory.mkdir(parents=True, exist_ok=True)
        for side in SIDES:
            temporary = directory / f".{side}-{os.getpid()}.bin"
            texts = (
                Document(one.name, parts(one, share, few)[SIDES.index(side)]) for one in documents
            )
            tokens = _tokenised(texts, tokenizer, vocab_size)
            counts[side] = 0
            try:
                with temporary.open("wb") as file:
                    for row in pack(tokens, packing):
                        file.write(row.astype(dtype).tobytes())
                        counts[side] += 1
                os.replace(temporary, directory / f"{side}.bin")
            finally:
                temporary.unlink(missing_ok=True)
    if not counts["train"]:
        raise DataError(
            f"dataset: {len(documents)} documents give no context of {packing.context_size} "
            "tokens; give more text or lower dataset.context_size"
            + ("" if packing.concat else ", or set dataset.concat = true")
        )
    write_json(directory / "meta.json", {**settings, "rows": counts, "dtype": dtype.__name__})


def _tokenised(
    documents: Iterable[Document], tokenizer: Any, vocab_size: int
) -> Iterator[NDArray[np.int64]]:
    pending: list[Document] = []

    def flush() -> Iterator[NDArray[np.int64]]:
        texts = [one.text for one in pending]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "sequence longer than the model's maximum"
            encoded = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        for document, ids in zip(pending, encoded, strict=True):
            tokens = np.asarray(ids, dtype=np.int64)
            if len(tokens) and not 0 <= tokens.min() <= tokens.max() < vocab_size:
                wrong = tokens[(tokens < 0) | (tokens >= vocab_size)][0]
                raise DataError(
                    f"dataset: {document.name} has token {wrong}, outside the model's vocabulary "
                    f"of {vocab_size}; use the model's own tokenizer"
                )
            yield tokens

    for document in documents:
        if document.text:
            pending.append(document)
        if len(pending) == 64:
            yield from flush()
            pending.clear()
    if pending:
        yield from flush()


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
