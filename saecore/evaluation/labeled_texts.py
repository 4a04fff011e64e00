"""Labeled texts, their tokens, and their mean activations and latents."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from saecore.core.evaluator import NotApplicable
from saecore.core.model import ModelBackend
from saecore.core.sae import SAE
from saecore.errors import DataError
from saecore.evaluation.batches import HookReader
from saecore.models.tokenizer import special_tokens
from saecore.ops.codes import Codes
from saecore.randomness import generator


@attrs.frozen(eq=False, kw_only=True)
class Labeled:
    """Labeled texts, in a random order that the seed fixes."""

    texts: list[str]
    """The texts."""
    labels: Tensor
    """Class of each text `[n]`, int64."""
    classes: tuple[str, ...]
    """Names of the classes."""
    second: Tensor | None = None
    """A second label of each text `[n]`, 0 or 1, if one was requested."""

    @property
    def train(self) -> Tensor:
        """Mask of the training texts `[n]`, bool: four fifths of each class."""
        mask = torch.ones(len(self.texts), dtype=torch.bool)
        for number in range(len(self.classes)):
            mask[(self.labels == number).nonzero()[4::5, 0]] = False
        return mask


def read_labeled(
    file: str, text: str, label: str, second: str | None, limit: int, seed: int
) -> Labeled:
    """Read labeled texts from a JSON-lines file.

    Args:
        file: path; one JSON object per line.
        text: key of the text.
        label: key of the label.
        second: key of a second label with two values, or None.
        limit: maximum number of texts, chosen at random.
        seed: seed of the choice and the order.

    Raises:
        DataError: the file cannot be read, a key is missing, or a class has too few texts.
    """
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
        rows: list[Any] = [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: expected a JSON object a line: {error}") from None
    keys = [text, label] + ([second] if second else [])
    for number, row in enumerate(rows, 1):
        for key in keys:
            if not isinstance(row, dict) or key not in row:
                has = ", ".join(sorted(row)) if isinstance(row, dict) else type(row).__name__
                raise DataError(f"{file}, line {number}: no key {key!r} (it has: {has})")
    order = torch.randperm(len(rows), generator=generator(seed, "labeled"))[:limit].tolist()
    rows = [rows[i] for i in order]
    classes, labels = _numbered(file, label, [row[label] for row in rows])
    second_labels = None
    if second:
        values, second_labels = _numbered(file, second, [row[second] for row in rows])
        if len(values) != 2:
            raise DataError(f"{file}: {second}: expected two values, got {', '.join(values)}")
    data = Labeled(
        texts=[str(row[text]) for row in rows],
        labels=labels,
        classes=classes,
        second=second_labels,
    )
    for number, name in enumerate(classes):
        in_class = labels == number
        fewest = min(int((in_class & data.train).sum()), int((in_class & ~data.train).sum()))
        if fewest < 2:
            raise DataError(f"{file}: too few texts with {label} = {name}; give at least 10 each")
    return data


def _numbered(file: str, key: str, values: list[Any]) -> tuple[tuple[str, ...], Tensor]:
    """The distinct values of a label, and the index of each text's value `[n]`."""
    names = sorted({str(value) for value in values})
    if len(names) < 2:
        raise DataError(f"{file}: {key}: expected at least two different values, got {names}")
    return tuple(names), torch.tensor([names.index(str(value)) for value in values])


@attrs.frozen(eq=False, kw_only=True)
class EncodedTexts:
    """Tokens of texts, each of which has at least one token that the SAE reads."""

    ids: list[list[int]]
    """Token ids of each text, a BOS token first if the tokenizer has one."""
    begin: int
    """Number of BOS tokens at the start of each text, which are not read."""

    def used(self, reader: HookReader, tokens: Tensor) -> Tensor:
        """Mask of the tokens `[B, T]` that count, bool."""
        used = reader.used(tokens)
        used[:, : self.begin] = False
        return used


def encode_texts(
    sae: SAE, backend: ModelBackend, texts: list[str], length: int
) -> EncodedTexts | NotApplicable:
    """Tokenize texts for an SAE.

    Args:
        sae: the SAE; its metadata say which tokens it reads.
        backend: the model.
        texts: the texts.
        length: maximum number of tokens per text.

    Returns:
        The tokens; `NotApplicable` if the model has no tokenizer, or the SAE reads no token of
        some text.
    """
    if backend.tokenizer is None:
        return NotApplicable("the model has no tokenizer, so it cannot read the texts")
    special = special_tokens(backend.tokenizer)
    bos = [special["bos"]] if "bos" in special else []
    ids = [
        [*bos, *backend.tokenizer.encode(text, add_special_tokens=False)][:length] for text in texts
    ]
    encoded, reader = EncodedTexts(ids=ids, begin=len(bos)), HookReader.of(sae, backend)
    for text, row in zip(texts, ids, strict=True):
        tokens = torch.tensor([row], dtype=torch.int64)
        if not row or not bool(encoded.used(reader, tokens).any()):
            return NotApplicable(f"text {text[:40]!r} has no token that the SAE reads")
    return encoded


@attrs.frozen(eq=False, kw_only=True)
class Pooled:
    """Means over the tokens of each text, for a batch of texts."""

    rows: Tensor
    """Indices of the texts `[n]`."""
    inputs: Tensor
    """Mean of the SAE's inputs `[n, d_in]`."""
    targets: Tensor
    """Mean of the activations to reconstruct `[n, d_out]`."""
    features: Tensor
    """Mean of the latent activations `[n, d_sae]`, or of the requested latents."""
    tokens: int
    """Number of tokens in these texts."""


def pooled(
    sae: SAE,
    backend: ModelBackend,
    texts: EncodedTexts,
    batch_size: int,
    latents: Tensor | None = None,
) -> Iterator[Pooled]:
    """Means over the tokens of each text, in batches of texts of equal length: nothing is padded.

    Tokens that the SAE does not read are left out, and so is the BOS token at the start.

    Args:
        sae: the SAE.
        backend: the model.
        texts: the texts' tokens.
        batch_size: maximum number of texts per forward pass.
        latents: indices of the latents to pool `[k]`; default: all.
    """
    reader, device = HookReader.of(sae, backend), sae.W_dec.device
    by_length: dict[int, list[int]] = {}
    for number, row_ids in enumerate(texts.ids):
        by_length.setdefault(len(row_ids), []).append(number)
    for _, numbers in sorted(by_length.items()):
        for start in range(0, len(numbers), batch_size):
            rows = numbers[start : start + batch_size]
            tokens = torch.tensor([texts.ids[row] for row in rows], dtype=torch.int64)
            used = texts.used(reader, tokens).to(device)
            inputs, targets = reader.activations(backend, tokens)
            x = inputs.to(device).float()
            if sae.reads_contexts:
                codes = sae.encode_sparse(x).take(used.flatten())
            else:
                codes = sae.encode_sparse(x[used])
            means = _Means(used)
            features = means.sparse(codes) if latents is None else means(codes.dense(latents))
            yield Pooled(
                rows=torch.tensor(rows, device=device),
                inputs=means(x[used].flatten(1)),
                targets=means(targets.to(device).float()[used].flatten(1)),
                features=features,
                tokens=int(means.count.sum()),
            )


class _Means:
    """Means over the tokens of each text.

    Args:
        used: mask of the tokens that count `[B, T]`.
    """

    def __init__(self, used: Tensor) -> None:
        self.count = used.sum(1)
        texts = torch.arange(len(used), device=used.device)
        self.text = texts[:, None].expand_as(used)[used]  # text of each token [N]

    def __call__(self, values: Tensor) -> Tensor:
        """Means `[B, d]` of `values [N, d]`."""
        sums = values.new_zeros(len(self.count), values.shape[1])
        return sums.index_add(0, self.text, values) / self.count[:, None]

    def sparse(self, codes: Codes) -> Tensor:
        """Means of all latent activations `[B, d_sae]`."""
        sums = codes.values.new_zeros(len(self.count), codes.d_sae)
        at = (self.text[codes.rows], codes.indices)
        return sums.index_put(at, codes.values, accumulate=True) / self.count[:, None]


def in_order(parts: list[Pooled], field: str) -> Tensor:
    """One field of all batches, concatenated in the order of the texts."""
    order = torch.cat([part.rows for part in parts]).argsort()
    values: Tensor = torch.cat([getattr(part, field) for part in parts])[order]
    return values
