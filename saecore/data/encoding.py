"""Documents to token ids, checked against the model's vocabulary."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from saecore.data.documents import Document
from saecore.data.packing import Tokens
from saecore.errors import DataError

TOGETHER = 64
"""Texts given to the tokenizer at once."""


def tokenizer_hash(tokenizer: Any) -> str:
    """A hash of everything the tokenizer does."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    state = fast.to_str() if fast is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    return hashlib.sha256(state.encode()).hexdigest()


def tokenised(
    documents: Iterable[tuple[int, Document]], tokenizer: Any, vocab_size: int
) -> Iterator[tuple[int, Tokens]]:
    """Token ids of numbered documents, with their numbers; empty documents are left out.

    Raises:
        DataError: a token id is not in the vocabulary.
    """
    pending: list[tuple[int, Document]] = []
    for number, document in documents:
        if not document.empty:
            pending.append((number, document))
        if len(pending) == TOGETHER:
            yield from _encoded(pending, tokenizer, vocab_size)
            pending.clear()
    yield from _encoded(pending, tokenizer, vocab_size)


def _encoded(
    documents: list[tuple[int, Document]], tokenizer: Any, vocab_size: int
) -> Iterator[tuple[int, Tokens]]:
    texts = [one.text for _, one in documents if one.tokens is None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "sequence longer than the model's maximum"
        encoded = (
            iter(tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"])
            if texts
            else iter(())
        )
    for number, document in documents:
        given = document.tokens
        tokens = np.asarray(next(encoded) if given is None else given, dtype=np.int64)
        if len(tokens) and not 0 <= tokens.min() <= tokens.max() < vocab_size:
            wrong = tokens[(tokens < 0) | (tokens >= vocab_size)][0]
            remedy = (
                "use the model's own tokenizer"
                if given is None
                else "it was tokenised for another model: give its text instead"
            )
            raise DataError(
                f"dataset: {document.name} has token {wrong}, outside the model's vocabulary "
                f"of {vocab_size}; {remedy}"
            )
        yield number, tokens
