"""Tokens on disk, to keep, share and train on: packed contexts in hashed shards."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from saecore.activations.build import packing_of, read_tokens
from saecore.activations.cache.shards import (
    begin_or_resume,
    is_written,
    open_shard,
    shard_name,
    write_shard,
)
from saecore.activations.contexts import ArrayContexts, Contexts
from saecore.activations.documents import SIDES
from saecore.activations.packing import Packing
from saecore.activations.token_cache import TokenRows
from saecore.config.experiment import Experiment
from saecore.core.sae_config import DTYPES
from saecore.errors import ConfigError, DataError
from saecore.models.device import pick_device
from saecore.models.tokenizer import tokenizer_hash
from saecore.storage.lock import locked
from saecore.storage.repository import Repository

MANIFEST = "tokens.json"
FORMAT = 1
ROWS_PER_SHARD = 2**15
"""Contexts per shard; 16 MiB for contexts of 128 tokens."""

SETTINGS = {
    "begin_context": "the token that begins a context (dataset.prepend_bos)",
    "begin_document": "the token that begins a document",
    "separator": "the token between documents (dataset.separator)",
}
"""Fields of the packing in the user's words; the others are keys of [dataset]."""


@attrs.frozen(kw_only=True)
class TokenManifest:
    """Everything that decides the contexts."""

    rows: Mapping[str, int]
    """Contexts of each side, "train" and "held_out"."""
    rows_per_shard: int
    """Contexts of every shard but the last of its side."""
    packing: Mapping[str, Any]
    """How documents became contexts."""
    held_out: float
    """Share of the documents held out."""
    tokenizer: str
    """Hash of the tokenizer."""
    vocab_size: int
    """Token ids are below this."""
    key: str
    """Hash of text, tokenizer and packing."""
    corpus: str
    """Hash of the text."""
    dataset: Mapping[str, Any]
    """The text's name and revision."""
    format: int = FORMAT
    """Version of this format."""

    def shards(self, side: str) -> int:
        """Number of shards of a side."""
        return -(-self.rows[side] // self.rows_per_shard)

    def shard_rows(self, side: str, number: int) -> int:
        """Contexts of one shard."""
        return min(self.rows_per_shard, self.rows[side] - number * self.rows_per_shard)


def read_token_manifest(text: str, label: str) -> TokenManifest:
    """Parse tokens.json.

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
        manifest = TokenManifest(**table)
        counts = [manifest.rows[side] for side in SIDES]
        if min(*counts, manifest.rows_per_shard - 1) < 0:
            raise ValueError(f"rows {counts}")
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise DataError(f"{label}: damaged: {error}") from None
    return manifest


class TokenStore:
    """Contexts written by `saecore tokenize`.

    Args:
        files: the directory or repository.

    Raises:
        DataError: there are no tokens, or a shard is missing.
    """

    def __init__(self, files: Repository) -> None:
        self.files = files
        if not files.has(MANIFEST):
            raise DataError(
                f"{files.name}: no {MANIFEST}; expected a directory written by `saecore tokenize`"
            )
        text = files.path(MANIFEST).read_text(encoding="utf-8")
        self.manifest = read_token_manifest(text, f"{files.name}/{MANIFEST}")
        for side in SIDES:
            for number in range(self.manifest.shards(side)):
                if not files.has(shard_name(side, number, "json")):
                    raise DataError(
                        f"{files.name}: {shard_name(side, number)} is missing; rerun the command "
                        "that writes the tokens, it resumes"
                    )

    def rows(
        self, packing: Packing, tokenizer: Any, vocab_size: int, share: float, evaluated: int
    ) -> TokenRows:
        """The contexts, if they are those that an experiment asks for.

        Args:
            packing: how the experiment packs documents.
            tokenizer: the model's tokenizer.
            vocab_size: the model's vocabulary.
            share: share of the documents that the experiment holds out.
            evaluated: number of held-out contexts needed.

        Raises:
            DataError: they were made with other settings; the message names the first.
        """
        manifest = self.manifest
        for setting, written, expected in [
            *(
                (SETTINGS.get(key, f"dataset.{key}"), manifest.packing.get(key), value)
                for key, value in attrs.asdict(packing).items()
            ),
            ("dataset.held_out", manifest.held_out, share),
            ("the tokenizer of the model", manifest.tokenizer, tokenizer_hash(tokenizer)),
            ("the vocabulary of the model", manifest.vocab_size, vocab_size),
        ]:
            if written != expected:
                raise DataError(
                    f"{self.files.name}: {setting} was {written!r} when the tokens were written, "
                    f"now it is {expected!r}; change it back, or tokenize again"
                )
        train = ArrayContexts(_Shards(self, "train", packing.context_size))  # type: ignore[arg-type]
        held_out = _Shards(self, "held_out", packing.context_size)
        return TokenRows(
            train=train,
            held_out=held_out[np.arange(min(evaluated, len(held_out)))],
            key=manifest.key,
            corpus=manifest.corpus,
            identity=dict(manifest.dataset),
        )

    def shard(self, side: str, number: int) -> NDArray[Any]:
        """Contexts of a shard `[rows, context_size]`, memory-mapped.

        Raises:
            DataError: the file was truncated or changed.
        """
        file, tensors = open_shard(self.files, side, number)
        rows, tokens = self.manifest.shard_rows(side, number), tensors.get("tokens")
        if tokens is None or tokens.shape != (rows, self.manifest.packing["context_size"]):
            raise DataError(f"{file}: expected tokens of {rows} contexts")
        return np.asarray(tokens.numpy())


class _Shards:
    """Shards as one array of contexts, as far as `ArrayContexts` needs it."""

    def __init__(self, store: TokenStore, side: str, context_size: int) -> None:
        self._size = store.manifest.rows_per_shard
        self.shape = (store.manifest.rows[side], context_size)
        self._shard: Callable[[int], NDArray[Any]] = lru_cache(maxsize=None)(
            lambda number: store.shard(side, number)
        )

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: NDArray[Any]) -> NDArray[Any]:
        out = np.empty((len(rows), self.shape[1]), dtype=np.int32)
        shards = rows // self._size
        for number in np.unique(shards):
            mask = shards == number
            out[mask] = self._shard(int(number))[rows[mask] % self._size]
        return out


def write_tokens(
    experiment: Experiment,
    directory: Path,
    progress: Callable[[int, int], None] = lambda done, shards: None,
) -> TokenManifest:
    """Tokenize the text of an experiment and write its contexts; resumes after an interruption.

    Of a stream, only the contexts that training.tokens needs are written.

    Args:
        experiment: its [model] gives the tokenizer, its [dataset] text and packing.
        directory: the directory of the tokens, new or to be resumed.
        progress: called with the number of shards written and their total.

    Raises:
        SaecoreError: there is no text, or the directory holds something else.
    """
    if experiment.model is None:
        raise ConfigError(["model: missing; its tokenizer is needed"])
    model, data = experiment.language_model, experiment.dataset
    backend = model.backend.build(pick_device(model.device), DTYPES[model.dtype])
    tokens = read_tokens(data, backend, experiment.evaluation.tokens)
    needed = -(-experiment.training.steps * experiment.training.batch_size // data.context_size)
    sides = {"train": _first(tokens.train, needed), "held_out": tokens.held_out}
    manifest = TokenManifest(
        rows={side: len(rows) for side, rows in sides.items()},
        rows_per_shard=ROWS_PER_SHARD,
        packing=attrs.asdict(packing_of(data, backend)),
        held_out=data.held_out,
        tokenizer=tokenizer_hash(backend.tokenizer),
        vocab_size=backend.vocab_size,
        key=tokens.key,
        corpus=tokens.corpus,
        dataset=tokens.identity,
    )
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory, "write to another directory"):
        begin_or_resume(
            directory,
            MANIFEST,
            json.loads(json.dumps(attrs.asdict(manifest))),
            lambda text, label: attrs.asdict(read_token_manifest(text, label)),
            kind="tokens",
            first=("packing", "held_out", "tokenizer", "dataset", "corpus"),
        )
        done, shards = 0, sum(map(manifest.shards, SIDES))
        for side, rows in sides.items():
            for number in range(manifest.shards(side)):
                progress(done, shards)
                if not is_written(directory, side, number):
                    part = rows[number * ROWS_PER_SHARD : (number + 1) * ROWS_PER_SHARD]
                    contexts = torch.from_numpy(part.astype(np.int32))
                    write_shard(directory, side, number, {"tokens": contexts})
                done += 1
        progress(shards, shards)
    return manifest


def _first(rows: NDArray[Any] | Contexts, needed: int) -> NDArray[Any]:
    """The first contexts of a stream; of any other text, all."""
    return rows if isinstance(rows, np.ndarray) else rows.first(needed)  # type: ignore[attr-defined]
