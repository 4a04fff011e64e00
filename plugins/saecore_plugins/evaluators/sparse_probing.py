"""Whether single latents hold what a labelled text is about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from saecore.components import Component
from saecore.config.validators import at_least
from saecore.hookspecs import hookimpl

if TYPE_CHECKING:
    from torch import Tensor

    from saecore.backend import ModelBackend
    from saecore.evaluation import Evaluator
    from saecore.figures import Figures
    from saecore.sae import SAE


@attrs.frozen
class SparseProbingConfig:
    """The labelled texts, and how they are probed."""

    dataset: str
    """A JSON-lines file: an object a line, with a text and a label."""
    text: str = "text"
    """Key of the text."""
    label: str = "label"
    """Key of the label: any two or more values."""
    k: tuple[int, ...] = attrs.field(default=(1, 2, 5))
    """Numbers of latents that a probe may use."""
    max_texts: int = attrs.field(default=4000, validator=at_least(20))
    """Most texts, chosen at random."""
    length: int = attrs.field(default=128, validator=at_least(2))
    """Most tokens of a text."""
    batch_size: int = attrs.field(default=16, validator=at_least(1))
    """Texts per forward."""
    seed: int = attrs.field(default=0, validator=at_least(0))
    """Seed of the choice of texts and of what is trained on."""


def build(config: SparseProbingConfig) -> Evaluator:
    """Make the evaluator."""
    return lambda sae, backend, tokens: measure(sae, backend, config)


def measure(sae: SAE, backend: ModelBackend, config: SparseProbingConfig) -> Figures:
    """Accuracies on one fifth of the texts of probes trained on the rest.

    Features and activations are averaged over the tokens of a text. For each class against the
    others, in equal numbers: llm_test_accuracy of logistic regression on all activations that the
    SAE reads; llm_top_k_test_accuracy on the k dimensions, and sae_top_k_test_accuracy on the k
    latents, whose means differ most between the two sides; averaged over classes. A transcoder's
    features are probed like an SAE's. Sources: Gurnee et al. 2023, "Finding Neurons in a
    Haystack"; SAEBench's sparse_probing (its names). The texts are read twice, so that memory is
    two numbers per latent and class, and k columns.
    """
    import torch

    from saecore.figures import Figure
    from saecore.probing import Probe, balanced, in_order, pooled, read_labelled

    data = read_labelled(
        config.dataset, config.text, config.label, None, config.max_texts, config.seed
    )
    classes = range(1 if len(data.classes) == 2 else len(data.classes))
    train, device = data.train, sae.W_dec.device
    fit = [balanced(data.labels, one, train) for one in classes]
    test = [balanced(data.labels, one, ~train) for one in classes]
    sides = torch.zeros(len(classes), len(data.texts), dtype=torch.float64)
    for one in classes:  # +1/n on one side, −1/n on the other: their product is the difference
        mine = data.labels[fit[one]] == one
        sides[one, fit[one]] = torch.where(mine, 1 / mine.sum(), -1 / (~mine).sum()).double()
    sides = sides.to(device)
    difference = torch.zeros(len(classes), sae.cfg.d_sae, dtype=torch.float64, device=device)
    size, parts = (config.length, config.batch_size), []
    for part in pooled(sae, backend, data.texts, *size):
        difference += sides[:, part.rows] @ part.features.double()
        parts.append(attrs.evolve(part, features=part.features[:, :0]))
    x, tokens = in_order(parts, "inputs"), sum(one.tokens for one in parts)
    most = max(config.k)
    best = difference.abs().topk(min(most, sae.cfg.d_sae), 1).indices  # [classes, k]
    latents, places = best.unique(return_inverse=True)
    chosen = in_order(list(pooled(sae, backend, data.texts, *size, latents)), "features")

    def accuracy(values: Tensor, one: int) -> float:
        y = (data.labels == one).to(values.device)
        return Probe(values[fit[one]], y[fit[one]]).accuracy(values[test[one]], y[test[one]])

    accuracies: dict[str, list[float]] = {}
    for one in classes:
        accuracies.setdefault("llm_test_accuracy", []).append(accuracy(x, one))
        dimensions = (sides[one] @ x.double()).abs().argsort(descending=True)
        for k in config.k:
            by_latents = accuracy(chosen[:, places[one, :k]], one)
            accuracies.setdefault(f"sae_top_{k}_test_accuracy", []).append(by_latents)
            by_dimensions = accuracy(x[:, dimensions[:k]], one)
            accuracies.setdefault(f"llm_top_{k}_test_accuracy", []).append(by_dimensions)
    return {
        name: Figure(sum(values) / len(values), tokens, name.split("_")[0])
        for name, values in accuracies.items()
    }


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the evaluator."""
    yield Component(
        kind="evaluator",
        name="sparse_probing",
        config=SparseProbingConfig,
        build=build,
        summary="accuracy of probes on the k best latents, over labelled texts of yours",
    )
