"""Tokens on disk, to keep, share and read again: packed contexts in shards, each with its hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from saecore.cache import verified
from saecore.cache.manifest import Shard, read_shard, shard_name
from saecore.config.experiment import Experiment
from saecore.data.contexts import ArrayContexts, Contexts
from saecore.data.encoding import tokenizer_hash
from saecore.data.packing import Packing
from saecore.data.tokens import TokenRows
from saecore.errors import ConfigError, DataError
from saecore.files import write_json, write_tensors
from saecore.lock import locked
from saecore.reading import packing_of, pick_device, read_tokens
from saecore.releases import reading
from saecore.releases.repository import Repository
from saecore.sae_config import DTYPES

MANIFEST = "tokens.json"
FORMAT = 1
ROWS_PER_SHARD = 2**15
"""Contexts of a shard; of 128 tokens 16 MiB."""

SETTINGS = {
    "begin_context": "the token that begins a context (dataset.prepend_bos)",
    "begin_document": "the token that begins a document",
    "separator": "the token between documents (dataset.separator)",
}
"""What a user calls fields of the packing; the others are keys of [dataset]."""


@attrs.frozen
class TokenManifest:
    """Everything that decides the contexts."""

    rows: Mapping[str, int]
    """Contexts of a side, "train" and "held_out"."""
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


class TokenStore:
    """Contexts that `saecore tokenize` has written.

    Args:
        files: the directory or repository.

    Raises:
        DataError: there are none, or they are not whole.
    """

    def __init__(self, files: Repository) -> None:
        self.files = files
        if not files.has(MANIFEST):
            raise DataError(
                f"{files.name}: no {MANIFEST}; expected what `saecore tokenize` has written"
            )
        try:
            table = json.loads(files.path(MANIFEST).read_text(encoding="utf-8"))
            if table["format"] != FORMAT:
                raise ValueError(f"format {table['format']!r}, this version reads {FORMAT}")
            self.manifest = TokenManifest(**table)
            counts = [self.manifest.rows[side] for side in ("train", "held_out")]
            if min(*counts, self.manifest.rows_per_shard - 1) < 0:
                raise ValueError(f"rows {counts}")
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise DataError(f"{files.name}/{MANIFEST}: damaged: {error}") from None
        for side in ("train", "held_out"):
            for number in range(self.manifest.shards(side)):
                if not files.has(shard_name(side, number, "json")):
                    raise DataError(
                        f"{files.name}: {shard_name(side, number)} is missing; give the command "
                        "that writes it again, and it goes on"
                    )

    def rows(
        self, packing: Packing, tokenizer: Any, vocab_size: int, share: float, evaluated: int
    ) -> TokenRows:
        """The contexts, if they are those that an experiment asks for.

        Args:
            packing: how the experiment would make contexts.
            tokenizer: the model's.
            vocab_size: the model's.
            share: share of the documents that the experiment holds out.
            evaluated: held-out contexts that are needed.

        Raises:
            DataError: they are others; the message names the setting.
        """
        manifest, wanted = self.manifest, attrs.asdict(packing)
        for key, there, here in [
            *(
                (SETTINGS.get(key, f"dataset.{key}"), manifest.packing.get(key), one)
                for key, one in wanted.items()
            ),
            ("dataset.held_out", manifest.held_out, share),
            ("the tokenizer of the model", manifest.tokenizer, tokenizer_hash(tokenizer)),
            ("the vocabulary of the model", manifest.vocab_size, vocab_size),
        ]:
            if there != here:
                raise DataError(
                    f"{self.files.name}: {key} was {there!r} when the tokens were written, here it "
                    f"is {here!r}; use what it was, or tokenize again"
                )
        train = ArrayContexts(_Shards(self, "train", packing.context_size))  # type: ignore[arg-type]
        held = _Shards(self, "held_out", packing.context_size)
        first = held[np.arange(min(evaluated, len(held)))]
        return TokenRows(train, first, manifest.key, manifest.corpus, dict(manifest.dataset))

    def shard(self, side: str, number: int) -> NDArray[Any]:
        """Contexts of a shard `[rows, context_size]`, memory-mapped.

        Raises:
            DataError: the file is not what was written.
        """
        file = self.files.path(shard_name(side, number))
        verified.check(file, read_shard(self.files.path(shard_name(side, number, "json"))))
        manifest = self.manifest
        rows = min(manifest.rows_per_shard, manifest.rows[side] - number * manifest.rows_per_shard)
        tokens = reading.safetensors(file, str(file)).get("tokens")
        if tokens is None or tokens.shape != (rows, manifest.packing["context_size"]):
            raise DataError(f"{file}: expected tokens of {rows} contexts")
        return np.asarray(tokens.numpy())


class _Shards:
    """Shards as one array of contexts, as far as `ArrayContexts` needs one."""

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
        number = rows // self._size
        for one in np.unique(number):
            where = number == one
            out[where] = self._shard(int(one))[rows[where] % self._size]
        return out


def write_tokens(
    experiment: Experiment,
    directory: Path,
    source: str = "experiment",
    progress: Callable[[int, int], None] = lambda done, shards: None,
) -> TokenManifest:
    """Tokenise the text of an experiment and write its contexts; goes on where it was stopped.

    Of a stream as many contexts are written as training.tokens asks for.

    Args:
        experiment: its [model] gives the tokenizer, its [dataset] text and packing.
        directory: where to write.
        source: where the experiment comes from, for messages.
        progress: called with shards done and shards in all.

    Raises:
        SaecoreError: there is no text, or the directory holds something else.
    """
    if experiment.model is None:
        raise ConfigError(source, ["model: missing; the tokenizer is that of a model"])
    model, data = experiment.language_model, experiment.dataset
    backend = model.plugin.build(pick_device(model.device, source), DTYPES[model.dtype])
    found = read_tokens(data, backend, source, experiment.evaluation.tokens)
    wanted = -(-experiment.training.steps * experiment.training.batch_size // data.context_size)
    sides = {"train": _all(found.train, wanted), "held_out": found.held_out}
    manifest = TokenManifest(
        {side: len(rows) for side, rows in sides.items()},
        ROWS_PER_SHARD,
        attrs.asdict(packing_of(data, backend, source)),
        data.held_out,
        tokenizer_hash(backend.tokenizer),
        backend.vocab_size,
        found.key,
        found.corpus,
        found.identity,
    )
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory):
        _begin(directory, manifest)
        done, shards = 0, sum(map(manifest.shards, sides))
        for side, rows in sides.items():
            for number in range(manifest.shards(side)):
                progress(done, shards)
                part = rows[number * ROWS_PER_SHARD : (number + 1) * ROWS_PER_SHARD]
                _write_shard(directory, side, number, part)
                done += 1
        progress(shards, shards)
    return manifest


def _all(rows: NDArray[Any] | Contexts, wanted: int) -> NDArray[Any]:
    """All contexts of a text; of a stream the first."""
    return rows if isinstance(rows, np.ndarray) else rows.first(wanted)  # type: ignore[attr-defined]


def _begin(directory: Path, manifest: TokenManifest) -> None:
    file, text = directory / MANIFEST, json.loads(json.dumps(attrs.asdict(manifest)))
    if file.exists():
        if json.loads(file.read_text(encoding="utf-8")) != text:
            raise DataError(f"{directory}: holds other tokens; choose another --to, or delete it")
    elif any(one.name != ".lock" for one in directory.iterdir()):
        raise DataError(f"{directory}: not empty, and no tokens; choose another --to")
    else:
        write_json(file, text)


def _write_shard(directory: Path, side: str, number: int, rows: NDArray[Any]) -> None:
    """Write the file, then the record that says it is whole; nothing where that is there."""
    record = directory / shard_name(side, number, "json")
    if record.exists():
        return
    file = directory / shard_name(side, number)
    write_tensors(file, {"tokens": torch.from_numpy(rows.astype(np.int32))})
    with file.open("rb") as written:
        digest = hashlib.file_digest(written, "sha256").hexdigest()
    write_json(record, attrs.asdict(Shard(digest, file.stat().st_size)))
