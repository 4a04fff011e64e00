"""Whether latents that stand for one thing can be taken out without harm to the rest."""

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
    from saecore.probing import Labelled, Probe
    from saecore.sae import SAE


@attrs.frozen
class ScrTppConfig:
    """The labelled texts, and how many latents are taken out."""

    dataset: str
    """A JSON-lines file: an object a line, with a text and a label."""
    text: str = "text"
    """Key of the text."""
    label: str = "label"
    """Key of the label: any two or more values; two for SCR."""
    confound: str | None = None
    """Key of a second label with two values, such as the author's gender beside the subject; with
    it SCR is measured, too."""
    n: tuple[int, ...] = attrs.field(default=(2, 5, 10, 20, 50))
    """Numbers of latents that are taken out."""
    max_texts: int = attrs.field(default=4000, validator=at_least(20))
    """Most texts, chosen at random."""
    length: int = attrs.field(default=128, validator=at_least(2))
    """Most tokens of a text."""
    batch_size: int = attrs.field(default=16, validator=at_least(1))
    """Texts per forward."""
    seed: int = attrs.field(default=0, validator=at_least(0))
    """Seed of the choice of texts and of what is trained on."""


def build(config: ScrTppConfig) -> Evaluator:
    """Make the evaluator."""
    return lambda sae, backend, tokens: measure(sae, backend, config)


def measure(sae: SAE, backend: ModelBackend, config: ScrTppConfig) -> Figures:
    """Targeted probe perturbation (TPP) and spurious correlation removal (SCR).

    Probes are logistic regressions on the mean over a text's tokens of the activations that the
    SAE reconstructs (a transcoder's target). Latent i is ranked for a probe w by |Δ_i (w · d_i)|,
    with Δ_i the difference of its mean between the sides of the label and d_i its decoder row;
    taking out latents subtracts Σ f_i d_i from the activation and leaves the error as it is.

    TPP, for N latents: with A_j,i the accuracy of class j's probe after taking out the N best of
    class i, intended = mean_i (A_i − A_i,i), unintended = mean_{i≠j} (A_j − A_j,i), total =
    intended − unintended. With two classes both have the same latents, and TPP says nothing.
    SCR, for N latents: a probe of the label is trained where label and confound go together; the N
    best latents of the confound are taken out; score = (A_N − A_biased) / (A_oracle − A_biased) on
    texts in which they are independent, with the oracle trained there; 0 where it is no better.
    Source: Karvonen et al. 2024, "Evaluating Sparse Autoencoders on Targeted Concept Erasure
    Tasks"; SAEBench's scr and tpp (its names). Memory: one row of features per text for the best
    latents alone.
    """
    from saecore.figures import Figure, NotApplicable
    from saecore.normalize import RUNTIME
    from saecore.probing import read_labelled

    if sae.cfg.normalize_activations in RUNTIME:
        raise NotApplicable("every activation has a scale of its own, so features do not add up")
    data = read_labelled(
        config.dataset, config.text, config.label, config.confound, config.max_texts, config.seed
    )
    erasure = Erasure(sae, backend, data, config)
    found = erasure.tpp() if len(data.classes) > 2 else {}
    if data.second is not None:
        if len(data.classes) != 2:
            raise NotApplicable(
                f"SCR needs a label with two values, {config.label} has {len(data.classes)}"
            )
        found |= erasure.scr()
    if not found:
        raise NotApplicable(
            "TPP needs a label with three values or more; SCR needs confound, the key of a "
            "second label"
        )
    return {
        name: Figure(value, erasure.tokens, f"{name[:3]}_metrics") for name, value in found.items()
    }


class Erasure:
    """Pooled activations of labelled texts, from which latents can be taken out."""

    def __init__(
        self, sae: SAE, backend: ModelBackend, data: Labelled, config: ScrTppConfig
    ) -> None:
        import torch

        from saecore.probing import Probe, balanced, in_order, pooled

        self.data, self.config = data, config
        self.columns = [(data.labels, one) for one in range(len(data.classes))]
        if data.second is not None:
            self.columns = [(data.labels, 1), (data.second, 1)]
        train, device = data.train, sae.W_dec.device
        fit = [balanced(labels, one, train) for labels, one in self.columns]
        sides = torch.zeros(len(fit), len(data.texts), dtype=torch.float64)
        for row, (labels, one) in enumerate(self.columns):
            mine = labels[fit[row]] == one
            sides[row, fit[row]] = torch.where(mine, 1 / mine.sum(), -1 / (~mine).sum()).double()
        difference = torch.zeros(len(fit), sae.cfg.d_sae, dtype=torch.float64, device=device)
        size = (config.length, config.batch_size)
        parts = []
        for part in pooled(sae, backend, data.texts, *size):
            difference += sides[:, part.rows.cpu()].to(device) @ part.features.double()
            parts.append(attrs.evolve(part, features=part.features[:, :0]))
        self.x, self.tokens = in_order(parts, "targets"), sum(one.tokens for one in parts)
        scale, rows = sae.latent_scale(), sae.W_dec.detach().float()
        rows = rows if scale is None else rows / scale[:, None]
        self.probes: list[Probe] = [
            Probe(self.x[fit[row]], self.y(row)[fit[row]]) for row in range(len(fit))
        ]
        directions = torch.stack([one.direction for one in self.probes])  # [columns, d_out]
        effect = (difference * (directions @ rows.double().t())).abs()
        best = effect.topk(min(max(config.n), sae.cfg.d_sae), 1).indices
        latents, self.places = best.unique(return_inverse=True)
        self.rows = rows[latents]
        chosen = list(pooled(sae, backend, data.texts, *size, latents))
        self.features = in_order(chosen, "features")

    def y(self, row: int) -> Tensor:
        """Whether each text is of the column's class `[n]`, bool."""
        labels, one = self.columns[row]
        return labels == one

    def without(self, row: int, n: int) -> Tensor:
        """Activations without the `n` best latents of a column `[texts, d_out]`."""
        chosen = self.places[row, :n]
        return self.x - self.features[:, chosen] @ self.rows[chosen]

    def tpp(self) -> dict[str, float]:
        """Targeted probe perturbation."""
        import torch

        from saecore.probing import balanced

        test = [balanced(labels, one, ~self.data.train) for labels, one in self.columns]
        places = range(len(test))

        def accuracies(x: Tensor) -> Tensor:
            return torch.tensor(
                [self.probes[j].accuracy(x[test[j]], self.y(j)[test[j]]) for j in places]
            )

        before, found = accuracies(self.x), {}
        for n in self.config.n:
            drop = before - torch.stack([accuracies(self.without(i, n)) for i in places])
            intended = float(drop.diagonal().mean())
            others = drop[~torch.eye(len(drop), dtype=torch.bool)]
            unintended = float(others.mean())
            found[f"tpp_threshold_{n}_total_metric"] = intended - unintended
            found[f"tpp_threshold_{n}_intended_diff_only"] = intended
            found[f"tpp_threshold_{n}_unintended_diff_only"] = unintended
        return found

    def scr(self) -> dict[str, float]:
        """Spurious correlation removal."""
        import torch

        from saecore.errors import DataError
        from saecore.probing import Probe

        assert self.data.second is not None
        label, confound, train = self.y(0), self.y(1), self.data.train
        cells = [(label == a) & (confound == b) for a in (False, True) for b in (False, True)]

        def equal(parts: list[Tensor]) -> Tensor:
            size = min(int(one.sum()) for one in parts)
            if size < 2:
                raise DataError(
                    f"{self.config.dataset}: too few texts for some pair of {self.config.label} "
                    f"and {self.config.confound}; give at least 10 of each"
                )
            return torch.cat([one.nonzero()[:size, 0] for one in parts])

        together = equal([cells[0] & train, cells[3] & train])
        free = equal([one & train for one in cells])
        test = equal([one & ~train for one in cells])
        biased = Probe(self.x[together], label[together])
        oracle = Probe(self.x[free], label[free]).accuracy(self.x[test], label[test])
        before = biased.accuracy(self.x[test], label[test])
        found = {"scr_biased_accuracy": before, "scr_oracle_accuracy": oracle}
        for n in self.config.n:
            after = biased.accuracy(self.without(1, n)[test], label[test])
            score = (after - before) / (oracle - before) if oracle > before else 0.0
            found[f"scr_metric_threshold_{n}"] = score
        return found


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the evaluator."""
    yield Component(
        kind="evaluator",
        name="scr_tpp",
        config=ScrTppConfig,
        build=build,
        summary="whether latents take out what they stand for: SCR and TPP, on texts of yours",
    )
