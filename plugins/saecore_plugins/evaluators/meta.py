"""Meta-structure: an SAE on the decoder rows of the SAE."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from saecore.components import Component
from saecore.config.validators import above, at_least
from saecore.hookspecs import hookimpl

if TYPE_CHECKING:
    from torch import Tensor

    from saecore.evaluation import Evaluator
    from saecore.figures import Figures
    from saecore.sae import SAE
    from saecore.step import Batch


@attrs.frozen
class MetaConfig:
    """The SAE that is trained on decoder rows."""

    ratio: float = attrs.field(default=0.25, validator=above(0))
    """Its latents, as a share of the SAE's."""
    k: int = attrs.field(default=4, validator=at_least(1))
    """Its active latents per decoder row, on average."""
    steps: int = attrs.field(default=1000, validator=at_least(1))
    """Training steps."""
    batch_size: int = attrs.field(default=1024, validator=at_least(1))
    """Decoder rows per step."""
    lr: float = attrs.field(default=1e-3, validator=above(0))
    """Learning rate of Adam."""
    seed: int = attrs.field(default=0, validator=at_least(0))
    """Seed of its weights and of the order of the rows."""


def build(config: MetaConfig) -> Evaluator:
    """Make the evaluator."""
    return lambda sae, origin, held_out: measure(sae, config)


def measure(sae: SAE, config: MetaConfig) -> Figures:
    """How much of the decoder rows a smaller BatchTopK SAE, trained on them, explains.

    Rows are scaled to norm 1. meta_explained_variance: 1 − E‖x−x̂‖² / E‖x − E x‖² over all rows;
    the higher, the more latents are made of common parts (Leask et al. 2025, "Sparse autoencoders
    do not find canonical units"; SAEBench's meta_structure). meta_l0: active meta-latents per row;
    meta_dead_fraction: meta-latents that no row activates. The same seed gives the same figures.
    """
    import torch

    from saecore.directions import unit
    from saecore.figures import Figure, NotApplicable
    from saecore.metrics import Moments
    from saecore.randomness import generator

    rows = unit(sae.W_dec)
    width = round(config.ratio * len(rows))
    if width < config.k:
        raise NotApplicable(
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
    return {name: Figure(float(one), 0, "meta_structure") for name, one in values.items()}


def _trained(rows: Tensor, width: int, config: MetaConfig) -> SAE:
    """A BatchTopK SAE of decoder rows `[n, d]`, in its published form."""
    import torch

    from saecore.config.structure import structure_choice
    from saecore.plugins import current_host
    from saecore.randomness import generator
    from saecore.sae_config import Shape
    from saecore.trainer import Trainer, TrainerSettings

    host, d = current_host(), rows.shape[1]
    table = {"architecture": "batchtopk", "k": config.k}
    shape = Shape(d, d, width, rows.dtype, rows.device)
    meta: SAE = structure_choice("architecture", table, host).build(shape)
    meta.initialize(generator(config.seed, "meta"), 0.1, True)
    settings = TrainerSettings(config.steps, config.batch_size, config.lr, seed=config.seed)
    trainer = Trainer(
        meta,
        Rows(rows, config.seed),
        torch.optim.Adam(meta.parameters(), config.lr),
        settings,
        lr_schedule=lambda step, total: min(1.0, (total - step) / (0.2 * total)),
        normalizer=structure_choice("normalizer", "none", host).build(),
        dead_latents=structure_choice("dead_latents", {"type": "auxk"}, host).build(),
    )
    with torch.enable_grad():
        trainer.prepare()
        for _ in range(config.steps):
            trainer.step()
    return trainer.export().eval()


class Rows:
    """An endless activation source: rows of a matrix in random order, again and again."""

    def __init__(self, rows: Tensor, seed: int) -> None:
        self.rows, self.seed, self.position = rows, seed, 0

    def seek(self, position: int) -> None:
        """Go on from this position."""
        self.position = position

    def next(self, size: int) -> Batch:
        """The next rows, each once an epoch."""
        import torch

        from saecore.randomness import generator
        from saecore.step import Batch

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
    """Offer the evaluator."""
    yield Component(
        kind="evaluator",
        name="meta",
        config=MetaConfig,
        build=build,
        summary="how much of the decoder rows a smaller SAE, trained on them, explains",
        needs="weights",
    )
