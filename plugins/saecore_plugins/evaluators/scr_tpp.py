"""Concept erasure by ablating latents: spurious correlation removal and targeted perturbation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from saecore.plugins import Component, at_least, hookimpl

if TYPE_CHECKING:
    from torch import Tensor

    from saecore.core.evaluator import Evaluator, Metrics, NotApplicable
    from saecore.core.model import ModelBackend
    from saecore.core.sae import SAE
    from saecore.evaluation.batches import HeldOut
    from saecore.evaluation.labeled_texts import EncodedTexts, Labeled
    from saecore.evaluation.probing import Probe


@attrs.frozen(kw_only=True)
class ScrTppConfig:
    """The labeled texts, and the numbers of latents to ablate."""

    dataset: str
    """A JSON-lines file: one object per line, with a text and a label."""
    text: str = "text"
    """Key of the text."""
    label: str = "label"
    """Key of the label, which has two or more values; two for SCR."""
    confound: str | None = None
    """Key of a second label with two values, such as the author's gender beside the subject; if it
    is given, SCR is measured too."""
    n: tuple[int, ...] = attrs.field(default=(2, 5, 10, 20, 50))
    """Numbers of latents to ablate."""
    max_texts: int = attrs.field(default=4000, validator=at_least(20))
    """Maximum number of texts, chosen at random."""
    length: int = attrs.field(default=128, validator=at_least(2))
    """Maximum number of tokens per text."""
    batch_size: int = attrs.field(default=16, validator=at_least(1))
    """Texts per forward pass."""
    seed: int = attrs.field(default=0, validator=at_least(0))
    """Seed of the choice of texts and of the split into training and test texts."""


def build(config: ScrTppConfig) -> Evaluator:
    """Build the evaluator."""
    return lambda sae, held_out: measure(sae, held_out, config)


def measure(sae: SAE, held_out: HeldOut, config: ScrTppConfig) -> Metrics | NotApplicable:
    """Targeted probe perturbation (TPP) and spurious correlation removal (SCR).

    Probes are logistic regressions on the activations that the SAE reconstructs (for a transcoder,
    its target), averaged over the tokens of a text. Latents are ranked for a probe w by
    |Δ_i (w · d_i)|, with Δ_i the difference between the latent's class means and d_i its decoder
    row. Ablating latents subtracts Σ f_i d_i from the activation; the SAE's error is kept.

    TPP with N latents: let A_j,i be the accuracy of class j's probe after ablating the N best
    latents of class i. intended = mean_i (A_i − A_i,i), unintended = mean_{i≠j} (A_j − A_j,i),
    total = intended − unintended. Two classes share their latents, so TPP needs three.

    SCR with N latents: a biased probe of the label is trained on texts in which label and confound
    coincide, and the N best latents of the confound are ablated. score = (A_N − A_biased) /
    (A_oracle − A_biased) on texts in which the two are independent; the oracle is trained on such
    texts. The score is 0 if the oracle is no better than the biased probe.

    Source: Karvonen et al. 2024, "Evaluating Sparse Autoencoders on Targeted Concept Erasure
    Tasks"; SAEBench's scr and tpp (its names). Memory: one row per text, of the best latents only.
    """
    from saecore.core.evaluator import Metric, NotApplicable
    from saecore.core.normalizer import RUNTIME
    from saecore.evaluation.labeled_texts import encode_texts, read_labeled

    if sae.cfg.normalize_activations in RUNTIME:
        return NotApplicable("each activation is scaled separately, so latents do not add up")
    data = read_labeled(
        config.dataset, config.text, config.label, config.confound, config.max_texts, config.seed
    )
    if data.second is not None and len(data.classes) != 2:
        return NotApplicable(
            f"SCR needs a label with two values, {config.label} has {len(data.classes)}"
        )
    if data.second is None and len(data.classes) == 2:
        return NotApplicable(
            "TPP needs a label with three values or more; SCR needs confound, the key of a "
            "second label"
        )
    texts = encode_texts(sae, held_out.model, data.texts, config.length)
    if isinstance(texts, NotApplicable):
        return texts
    erasure = Erasure(sae, held_out.model, data, texts, config)
    values = erasure.tpp() if data.second is None else erasure.scr()
    return {
        name: Metric(value, erasure.tokens, group=f"{name[:3]}_metrics")
        for name, value in values.items()
    }


class Erasure:
    """Pooled activations of labeled texts, probes on them, and the best latents of each probe.

    There is a probe per class; with a second label, one of the label and one of the confound.
    """

    def __init__(
        self,
        sae: SAE,
        backend: ModelBackend,
        data: Labeled,
        texts: EncodedTexts,
        config: ScrTppConfig,
    ) -> None:
        import torch

        from saecore.evaluation.labeled_texts import in_order, pooled
        from saecore.evaluation.probing import Probe, balanced, class_contrast

        self.data, self.config = data, config
        classes = [(data.labels, number) for number in range(len(data.classes))]
        if data.second is not None:
            classes = [(data.labels, 1), (data.second, 1)]
        self.classes, device = classes, sae.W_dec.device
        fit = [balanced(labels, number, data.train) for labels, number in classes]
        contrasts = torch.stack(
            [
                class_contrast(labels, number, rows)
                for (labels, number), rows in zip(classes, fit, strict=True)
            ]
        )  # [probes, texts]
        difference = torch.zeros(len(fit), sae.cfg.d_sae, dtype=torch.float64, device=device)
        parts = []
        for part in pooled(sae, backend, texts, config.batch_size):
            difference += contrasts[:, part.rows.cpu()].to(device) @ part.features.double()
            parts.append(attrs.evolve(part, features=part.features[:, :0]))
        self.x, self.tokens = in_order(parts, "targets"), sum(part.tokens for part in parts)
        scale, decoder = sae.latent_scale(), sae.W_dec.detach().float()
        decoder = decoder if scale is None else decoder / scale[:, None]
        self.probes: list[Probe] = [
            Probe(self.x[rows], self.y(probe)[rows]) for probe, rows in enumerate(fit)
        ]
        directions = torch.stack([probe.direction for probe in self.probes])  # [probes, d_out]
        effect = (difference * (directions @ decoder.double().t())).abs()
        best = effect.topk(min(max(config.n), sae.cfg.d_sae), 1).indices  # [probes, n]
        latents, self.columns = best.unique(return_inverse=True)
        self.decoder = decoder[latents]
        self.features = in_order(
            list(pooled(sae, backend, texts, config.batch_size, latents)), "features"
        )

    def y(self, probe: int) -> Tensor:
        """Whether each text is of the probe's class `[texts]`, bool."""
        labels, number = self.classes[probe]
        return labels == number

    def without(self, probe: int, n: int) -> Tensor:
        """Activations without the `n` best latents of a probe `[texts, d_out]`."""
        columns = self.columns[probe, :n]
        return self.x - self.features[:, columns] @ self.decoder[columns]

    def tpp(self) -> dict[str, float]:
        """Targeted probe perturbation."""
        import torch

        from saecore.evaluation.probing import balanced

        test = [balanced(labels, number, ~self.data.train) for labels, number in self.classes]
        probes = range(len(test))

        def accuracies(x: Tensor) -> Tensor:
            return torch.tensor(
                [self.probes[j].accuracy(x[test[j]], self.y(j)[test[j]]) for j in probes]
            )

        before, metrics = accuracies(self.x), {}
        for n in self.config.n:
            drop = before - torch.stack([accuracies(self.without(i, n)) for i in probes])
            intended = float(drop.diagonal().mean())
            unintended = float(drop[~torch.eye(len(drop), dtype=torch.bool)].mean())
            metrics[f"tpp_threshold_{n}_total_metric"] = intended - unintended
            metrics[f"tpp_threshold_{n}_intended_diff_only"] = intended
            metrics[f"tpp_threshold_{n}_unintended_diff_only"] = unintended
        return metrics

    def scr(self) -> dict[str, float]:
        """Spurious correlation removal."""
        import torch

        from saecore.errors import DataError
        from saecore.evaluation.probing import Probe

        assert self.data.second is not None
        label, confound, train = self.y(0), self.y(1), self.data.train
        cells = [(label == a) & (confound == b) for a in (False, True) for b in (False, True)]

        def equal(parts: list[Tensor]) -> Tensor:
            """Indices of equally many texts of each part."""
            size = min(int(mask.sum()) for mask in parts)
            if size < 2:
                raise DataError(
                    f"{self.config.dataset}: too few texts for some pair of {self.config.label} "
                    f"and {self.config.confound}; give at least 10 of each"
                )
            return torch.cat([mask.nonzero()[:size, 0] for mask in parts])

        coinciding = equal([cells[0] & train, cells[3] & train])
        independent = equal([cell & train for cell in cells])
        test = equal([cell & ~train for cell in cells])
        biased = Probe(self.x[coinciding], label[coinciding])
        unbiased = Probe(self.x[independent], label[independent])
        oracle = unbiased.accuracy(self.x[test], label[test])
        before = biased.accuracy(self.x[test], label[test])
        metrics = {"scr_biased_accuracy": before, "scr_oracle_accuracy": oracle}
        for n in self.config.n:
            after = biased.accuracy(self.without(1, n)[test], label[test])
            score = (after - before) / (oracle - before) if oracle > before else 0.0
            metrics[f"scr_metric_threshold_{n}"] = score
        return metrics


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="evaluator",
        name="scr_tpp",
        config=ScrTppConfig,
        build=build,
        summary="targeted concept erasure by ablating latents (SCR, TPP), on your labeled texts",
    )
