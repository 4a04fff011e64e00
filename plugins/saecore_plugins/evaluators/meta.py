"""Meta-SAE: train a smaller SAE on the decoder rows, and see how well it explains them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from saecore.plugins import Component, above, at_least, hookimpl

if TYPE_CHECKING:
    from torch import Tensor

    from saecore.core.evaluator import Evaluator, Metrics, NotApplicable
    from saecore.core.sae import SAE
    from saecore.core.step import Batch


@attrs.frozen(kw_only=True)
class MetaConfig:
    """The meta-SAE and its training."""

    ratio: float = attrs.field(default=0.25, validator=above(0))
    """Number of meta-latents, as a share of the SAE's latents."""
    k: int = attrs.field(default=4, validator=at_least(1))
    """Mean number of active meta-latents per decoder row."""
    steps: int = attrs.field(default=1000, validator=at_least(1))
    """Training steps."""
    batch_size: int = attrs.field(default=1024, validator=at_least(1))
    """Decoder rows per step."""
    lr: float = attrs.field(default=1e-3, validator=above(0))
    """Learning rate of Adam."""
    seed: int = attrs.field(default=0, validator=at_least(0))
    """Seed of the initial weights and of the order of the rows."""


def build(config: MetaConfig) -> Evaluator:
    """Build the evaluator."""
    return lambda sae, held_out: measure(sae, config)


def measure(sae: SAE, config: MetaConfig) -> Metrics | NotApplicable:
    """Train a smaller BatchTopK SAE on the decoder rows, scaled to norm 1, and measure it.

    meta_explained_variance: 1 − E‖x−x̂‖² / E‖x − E x‖² over all rows. The higher it is, the more
    latents share common parts (Leask et al. 2025, "Sparse autoencoders do not find canonical
    units"; SAEBench's meta_structure). meta_l0: active meta-latents per row; meta_dead_fraction:
    share of meta-latents that no row activates. Metrics depend on the seed alone.
    """
    import torch

    from saecore.core.evaluator import Metric, NotApplicable
    from saecore.evaluation.geometry import unit_rows
    from saecore.randomness import generator
    from saecore.training.metrics import Moments

    rows = unit_rows(sae.W_dec)
    width = round(config.ratio * len(rows))
    if width < config.k:
        return NotApplicable(
            f"{len(rows)} latents x ratio {config.ratio} = {width} meta-latents, fewer than "
            f"k = {config.k}"
        )
    meta = _trained(rows, width, config)
    moments = Moments(rows.shape[1], rows.device)
    fired = torch.zeros(width, dtype=torch.int64, device=rows.device)
    order = torch.randperm(len(rows), generator=generator(config.seed, "meta-order"))
    for part in order.split(config.batch_size):
        x = rows[part.to(rows.device)]
        codes = meta.encode_sparse(x)
        moments.add(x, meta.decode(codes))
        fired += codes.firing_counts()
    values = {
        "meta_explained_variance": moments.read(),
        "meta_l0": fired.sum() / len(rows),
        "meta_dead_fraction": (fired == 0).double().mean(),
    }
    return {name: Metric(float(value), 0, group="meta_structure") for name, value in values.items()}


def _trained(rows: Tensor, width: int, config: MetaConfig) -> SAE:
    """Train a BatchTopK SAE on decoder rows `[n, d]`; returns its inference form."""
    import torch

    from saecore.core.sae_config import Shape
    from saecore.plugins import structure_choice
    from saecore.randomness import generator
    from saecore.training.trainer import Trainer, TrainerSettings

    d = rows.shape[1]
    table = {"architecture": "batchtopk", "k": config.k}
    shape = Shape(d, d, width, dtype=rows.dtype, device=rows.device)
    meta: SAE = structure_choice("architecture", table).build(shape)
    meta.initialize(generator(config.seed, "meta"), 0.1, True)
    settings = TrainerSettings(
        steps=config.steps, batch_size=config.batch_size, lr=config.lr, seed=config.seed
    )
    trainer = Trainer(
        meta,
        Rows(rows, config.seed),
        torch.optim.Adam(meta.parameters(), config.lr),
        settings,
        lr_schedule=lambda step, total: min(1.0, (total - step) / (0.2 * total)),
        normalizer=structure_choice("normalizer", "none").build(),
        dead_latents=structure_choice("dead_latents", {"type": "auxk"}).build(),
    )
    with torch.enable_grad():
        trainer.prepare()
        for _ in range(config.steps):
            trainer.step()
    return trainer.export().eval()


class Rows:
    """An endless activation store: the rows of a matrix, in another random order every epoch."""

    def __init__(self, rows: Tensor, seed: int) -> None:
        self.rows, self.seed, self.position = rows, seed, 0

    def seek(self, position: int) -> None:
        """Continue from this position."""
        self.position = position

    def next(self, size: int) -> Batch:
        """The next `size` rows; every row comes once per epoch."""
        import torch

        from saecore.core.step import Batch
        from saecore.randomness import generator

        n, parts = len(self.rows), []
        while size:
            epoch, start = divmod(self.position, n)
            order = torch.randperm(n, generator=generator(self.seed, "meta-rows", epoch))
            part = order[start : start + size]
            parts.append(part)
            self.position += len(part)
            size -= len(part)
        x = self.rows[torch.cat(parts).to(self.rows.device)]
        return Batch(x, x)


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="evaluator",
        name="meta",
        config=MetaConfig,
        build=build,
        summary="variance of the decoder rows that a smaller SAE trained on them explains",
        requires="weights",
    )
