"""Token ids of documents, checked against the model's vocabulary."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from saecore.activations.packing import Tokens
from saecore.core.dataset import Document
from saecore.errors import DataError

BATCH = 64
"""Documents passed to the tokenizer at once."""


def iter_tokens(
    documents: Iterable[tuple[int, Document]], tokenizer: Any, vocab_size: int
) -> Iterator[tuple[int, Tokens]]:
    """Tokenize numbered documents; empty ones are left out.

    Args:
        documents: documents with their numbers.
        tokenizer: a Hugging Face tokenizer.
        vocab_size: token ids must be below this.

    Yields:
        The number of a document and its token ids `[n]`.

    Raises:
        DataError: a token id is not in the vocabulary.
    """
    pending: list[tuple[int, Document]] = []
    for number, document in documents:
        if not document.empty:
            pending.append((number, document))
        if len(pending) == BATCH:
            yield from _tokens_of(pending, tokenizer, vocab_size)
            pending.clear()
    yield from _tokens_of(pending, tokenizer, vocab_size)


def _tokens_of(
    documents: list[tuple[int, Document]], tokenizer: Any, vocab_size: int
) -> Iterator[tuple[int, Tokens]]:
    texts = [document.text for _, document in documents if document.tokens is None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "sequence longer than the model's maximum"
        encoded = (
            iter(tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"])
            if texts
            else iter(())
        )
    for number, document in documents:
        ids = next(encoded) if document.tokens is None else document.tokens
        tokens = np.asarray(ids, dtype=np.int64)
        if len(tokens) and not 0 <= tokens.min() <= tokens.max() < vocab_size:
            wrong = tokens[(tokens < 0) | (tokens >= vocab_size)][0]
            remedy = (
                "use the model's own tokenizer"
                if document.tokens is None
                else "it was tokenized for another model: give its text instead"
            )
            raise DataError(
                f"dataset: {document.name} has token {wrong}, outside the model's vocabulary "
                f"of {vocab_size}; {remedy}"
            )
        yield number, tokens
