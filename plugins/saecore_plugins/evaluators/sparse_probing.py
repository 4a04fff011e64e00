"""Sparse probing: how well a few latents predict the label of a text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from saecore.plugins import Component, at_least, hookimpl

if TYPE_CHECKING:
    from torch import Tensor

    from saecore.core.evaluator import Evaluator, Metrics, NotApplicable
    from saecore.core.sae import SAE
    from saecore.evaluation.batches import HeldOut


@attrs.frozen(kw_only=True)
class SparseProbingConfig:
    """The labeled texts, and the probes."""

    dataset: str
    """A JSON-lines file: one object per line, with a text and a label."""
    text: str = "text"
    """Key of the text."""
    label: str = "label"
    """Key of the label, which has two or more values."""
    k: tuple[int, ...] = attrs.field(default=(1, 2, 5))
    """Numbers of latents per probe."""
    max_texts: int = attrs.field(default=4000, validator=at_least(20))
    """Maximum number of texts, chosen at random."""
    length: int = attrs.field(default=128, validator=at_least(2))
    """Maximum number of tokens per text."""
    batch_size: int = attrs.field(default=16, validator=at_least(1))
    """Texts per forward pass."""
    seed: int = attrs.field(default=0, validator=at_least(0))
    """Seed of the choice of texts and of the split into training and test texts."""


def build(config: SparseProbingConfig) -> Evaluator:
    """Build the evaluator."""
    return lambda sae, held_out: measure(sae, held_out, config)


def measure(sae: SAE, held_out: HeldOut, config: SparseProbingConfig) -> Metrics | NotApplicable:
    """Test accuracies of probes that are trained on four fifths of the texts.

    Latent activations and model activations are averaged over the tokens of a text. Each class is
    classified against the others, in equal numbers, and accuracies are averaged over classes:

    - llm_test_accuracy: logistic regression on all activations that the SAE reads;
    - llm_top_k_test_accuracy: on the k dimensions whose means differ most between the two sides;
    - sae_top_k_test_accuracy: on the k latents whose means differ most.

    The latents of a transcoder are probed like those of an SAE. Sources: Gurnee et al. 2023,
    "Finding Neurons in a Haystack"; SAEBench's sparse_probing (its names). Texts are read twice,
    so memory is two numbers per latent and class, and k columns.
    """
    import torch

    from saecore.core.evaluator import Metric, NotApplicable
    from saecore.evaluation.labeled_texts import encode_texts, in_order, pooled, read_labeled
    from saecore.evaluation.probing import Probe, balanced, class_contrast

    data = read_labeled(
        config.dataset, config.text, config.label, None, config.max_texts, config.seed
    )
    backend, device, train = held_out.model, sae.W_dec.device, data.train
    texts = encode_texts(sae, backend, data.texts, config.length)
    if isinstance(texts, NotApplicable):
        return texts
    classes = range(1 if len(data.classes) == 2 else len(data.classes))
    fit = [balanced(data.labels, number, train) for number in classes]
    test = [balanced(data.labels, number, ~train) for number in classes]
    contrasts = torch.stack(
        [class_contrast(data.labels, number, fit[number]) for number in classes]
    ).to(device)  # [classes, texts]
    difference = torch.zeros(len(classes), sae.cfg.d_sae, dtype=torch.float64, device=device)
    parts = []
    for part in pooled(sae, backend, texts, config.batch_size):
        difference += contrasts[:, part.rows] @ part.features.double()
        parts.append(attrs.evolve(part, features=part.features[:, :0]))
    x, tokens = in_order(parts, "inputs"), sum(part.tokens for part in parts)
    best = difference.abs().topk(min(max(config.k), sae.cfg.d_sae), 1).indices  # [classes, k]
    latents, columns = best.unique(return_inverse=True)
    features = in_order(list(pooled(sae, backend, texts, config.batch_size, latents)), "features")

    def accuracy(values: Tensor, number: int) -> float:
        y, rows, unseen = data.labels == number, fit[number], test[number]
        y = y.to(values.device)
        return Probe(values[rows], y[rows]).accuracy(values[unseen], y[unseen])

    accuracies: dict[str, list[float]] = {}
    for number in classes:
        accuracies.setdefault("llm_test_accuracy", []).append(accuracy(x, number))
        dimensions = (contrasts[number] @ x.double()).abs().argsort(descending=True)
        for k in config.k:
            by_latents = accuracy(features[:, columns[number, :k]], number)
            accuracies.setdefault(f"sae_top_{k}_test_accuracy", []).append(by_latents)
            by_dimensions = accuracy(x[:, dimensions[:k]], number)
            accuracies.setdefault(f"llm_top_{k}_test_accuracy", []).append(by_dimensions)
    return {
        name: Metric(sum(values) / len(values), tokens, group=name.split("_")[0])
        for name, values in accuracies.items()
    }


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="evaluator",
        name="sparse_probing",
        config=SparseProbingConfig,
        build=build,
        summary="accuracy of probes on the k best latents, on your labeled texts",
    )
