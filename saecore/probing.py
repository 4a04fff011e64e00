"""Linear probes, and labelled texts whose activations they are trained on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from saecore.backend import ModelBackend
from saecore.errors import DataError
from saecore.evaluation import Reading
from saecore.figures import NotApplicable
from saecore.randomness import generator
from saecore.sae import SAE


@attrs.frozen(eq=False)
class Labelled:
    """Texts with a label each, in a fixed random order."""

    texts: list[str]
    """The texts."""
    labels: Tensor
    """Class of each `[n]`, int64."""
    classes: tuple[str, ...]
    """Names of the classes."""
    second: Tensor | None = None
    """A second label of each text `[n]`, 0 or 1, where the file has one."""

    @property
    def train(self) -> Tensor:
        """Which texts are trained on `[n]`, bool: four fifths of each class."""
        kept = torch.ones(len(self.texts), dtype=torch.bool)
        for number in range(len(self.classes)):
            kept[(self.labels == number).nonzero()[4::5, 0]] = False
        return kept


def read_labelled(
    file: str, text: str, label: str, second: str | None, limit: int, seed: int
) -> Labelled:
    """Labelled texts of a JSON-lines file.

    Args:
        file: one JSON object a line.
        text: key of the text.
        label: key of the label.
        second: key of a second label with two values, if one is needed.
        limit: most texts; those of a random choice.
        seed: of the choice and the order.

    Raises:
        DataError: it cannot be read, a key is missing, or there are too few of a class.
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
    order = torch.randperm(len(rows), generator=generator(seed, "labelled"))[:limit].tolist()
    rows = [rows[i] for i in order]
    classes, labels = _numbered(file, label, [row[label] for row in rows])
    seconds = None
    if second:
        values, seconds = _numbered(file, second, [row[second] for row in rows])
        if len(values) != 2:
            raise DataError(f"{file}: {second}: expected two values, got {', '.join(values)}")
    found = Labelled([str(row[text]) for row in rows], labels, classes, seconds)
    for number, name in enumerate(classes):
        of_class = labels == number
        few = min(int((of_class & found.train).sum()), int((of_class & ~found.train).sum()))
        if few < 2:
            raise DataError(f"{file}: too few texts with {label} = {name}; give at least 10 each")
    return found


def _numbered(file: str, key: str, values: list[Any]) -> tuple[tuple[str, ...], Tensor]:
    names = sorted({str(one) for one in values})
    if len(names) < 2:
        raise DataError(f"{file}: {key}: expected at least two different values, got {names}")
    return tuple(names), torch.tensor([names.index(str(one)) for one in values])


@attrs.frozen(eq=False)
class Pooled:
    """Means over the tokens of some texts."""

    rows: Tensor
    """Which texts they are `[n]`."""
    inputs: Tensor
    """Activations that the SAE reads `[n, d_in]`."""
    targets: Tensor
    """Those it reconstructs `[n, d_out]`."""
    features: Tensor
    """Its features `[n, d_sae]`, or those asked for."""
    tokens: int
    """Tokens of these texts."""


def pooled(
    sae: SAE,
    backend: ModelBackend,
    texts: list[str],
    length: int,
    batch_size: int,
    latents: Tensor | None = None,
) -> Iterator[Pooled]:
    """Means over the tokens of each text, by batches of texts of one length: nothing is padded.

    Tokens that the SAE does not read are left out, and so is the BOS token that begins each text.

    Args:
        sae: the SAE.
        backend: the model.
        texts: the texts.
        length: most tokens of a text.
        batch_size: most texts per forward.
        latents: features that are wanted `[k]`; default: all.

    Raises:
        NotApplicable: a text has no token that the SAE reads.
    """
    from saecore.data.tokens import special_tokens

    if backend.tokenizer is None:
        raise NotApplicable("the model has no tokenizer, so it cannot read the texts")
    reading, device = Reading.of(sae, backend), sae.W_dec.device
    special = special_tokens(backend.tokenizer)
    begin = [special["bos"]] if "bos" in special else []
    ids = [[*begin, *_ids(backend.tokenizer, one)][:length] for one in texts]
    by_length: dict[int, list[int]] = {}
    for number, one in enumerate(ids):
        by_length.setdefault(len(one), []).append(number)
    for size, numbers in sorted(by_length.items()):
        for start in range(0, len(numbers), batch_size):
            rows = numbers[start : start + batch_size]
            tokens = torch.tensor([ids[row] for row in rows], dtype=torch.int64)
            used = reading.used(tokens)
            used[:, : len(begin)] = False
            used, count = used.to(device), used.sum(1).to(device)
            if size == 0 or not bool((count > 0).all()):
                raise NotApplicable(f"text {texts[rows[0]][:40]!r} has no token that the SAE reads")
            inputs, targets = reading.activations(backend, tokens)
            x = inputs.to(device).float()
            if sae.reads_contexts:
                codes = sae.encode_sparse(x).take(used.flatten())
            else:
                codes = sae.encode_sparse(x[used])
            row = torch.arange(len(rows), device=device)[:, None].expand_as(used)[used]

            def mean(values: Tensor, row: Tensor = row, count: Tensor = count) -> Tensor:
                sums = values.new_zeros(len(count), values.shape[1]).index_add(0, row, values)
                return sums / count[:, None]

            if latents is None:
                features = codes.values.new_zeros(len(rows), codes.d_sae)
                at = (row[codes.rows], codes.indices)
                features = features.index_put(at, codes.values, accumulate=True) / count[:, None]
            else:
                features = mean(codes.dense(latents))
            wanted = targets.to(device).float()[used].flatten(1)
            yield Pooled(
                torch.tensor(rows, device=device),
                mean(x[used].flatten(1)),
                mean(wanted),
                features,
                int(count.sum()),
            )


def in_order(parts: list[Pooled], what: str) -> Tensor:
    """A member of all parts together, in the order of the texts."""
    order = torch.cat([one.rows for one in parts]).argsort()
    found: Tensor = torch.cat([getattr(one, what) for one in parts])[order]
    return found


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False))


class Probe:
    """Logistic regression with an L2 penalty, on standardised columns.

    Minimises mean cross-entropy + penalty/2 · ‖w‖² over all columns but the intercept, by L-BFGS.

    Args:
        x: `[n, d]`.
        y: 0 or 1 `[n]`.
        penalty: weight of ‖w‖²/2.
    """

    def __init__(self, x: Tensor, y: Tensor, penalty: float = 1e-2) -> None:
        x, y = x.double(), y.to(x.device).double()
        self.mean, self.scale = x.mean(0), x.std(0, correction=0).clamp(min=1e-8)
        x = (x - self.mean) / self.scale
        w = torch.zeros(x.shape[1] + 1, dtype=torch.float64, device=x.device, requires_grad=True)
        solver = torch.optim.LBFGS([w], max_iter=100, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            solver.zero_grad()
            logits = x @ w[:-1] + w[-1]
            value = torch.nn.functional.binary_cross_entropy_with_logits(logits, y)
            value = value + penalty / 2 * w[:-1].square().sum()
            value.backward()
            return value

        with torch.enable_grad():
            solver.step(loss)
        self._weights = w.detach()

    @property
    def direction(self) -> Tensor:
        """Gradient of the logit in the units of x `[d]`."""
        return self._weights[:-1] / self.scale

    def logits(self, x: Tensor) -> Tensor:
        """Logits of `x [n, d]`: `[n]`."""
        standard: Tensor = (x.double() - self.mean) / self.scale
        return standard @ self._weights[:-1] + self._weights[-1]

    def accuracy(self, x: Tensor, y: Tensor) -> float:
        """Share of right answers."""
        return float(((self.logits(x) > 0) == (y.to(x.device) > 0)).double().mean())


def balanced(labels: Tensor, wanted: int, kept: Tensor) -> Tensor:
    """Numbers of rows `[m]` among `kept [n]`, as many of class `wanted` as of all others."""
    mine = (kept & (labels == wanted)).nonzero()[:, 0]
    rest = (kept & (labels != wanted)).nonzero()[:, 0]
    size = min(len(mine), len(rest))
    return torch.cat([mine[:size], rest[:size]]).sort().values
