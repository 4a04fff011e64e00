"""The host does not wait for the device between two readings of the metrics."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from saecore.core.sae_config import Shape
from saecore.core.step import Batch
from saecore.plugins.structure import structure_choice
from saecore.randomness import generator
from saecore.training.optimizer_steps import parameter_groups
from saecore.training.trainer import Trainer, TrainerSettings
from tests.saecore_plugins.architectures.build import SETTINGS

D, D_SAE, ROWS = 6, 20, 32
WAITING = {
    "identity": "copies its identity, which is no work",
    "pca": "computes its components on the host",
}
"""Architectures that have no step to speed up."""
TRAINED = {
    **{name: one for name, one in SETTINGS.items() if name not in WAITING},
    "transcoder": {},
    "skip_transcoder": {},
    "standard, p annealed": {"architecture": "standard", "lp_norm": 0.7},
    "jumprelu, tanh": {"architecture": "jumprelu", "jumprelu_sparsity_loss_mode": "tanh"},
}


class Rows:
    """The same random rows again and again."""

    def __init__(self, device):
        self.position = 0
        self.rows = torch.randn(ROWS, D, generator=generator(0, "x")).to(device)

    def seek(self, position):
        """Anywhere."""
        self.position = position

    def next(self, size):
        """All rows."""
        self.position += size
        return Batch(self.rows, self.rows)


def make(case, device, dead="none"):
    """A trainer."""
    table = {"architecture": case, **TRAINED[case]}
    shape = Shape(D, D, D_SAE, device=torch.device(device))
    sae = structure_choice("architecture", table).build(shape)
    sae.initialize(generator(0, "init"), 0.1)

    def build(kind, table):
        return structure_choice(kind, table).build()

    return Trainer(
        sae,
        Rows(device),
        structure_choice("optimizer", "adam").build(parameter_groups(sae, 1e-3, {}), 1e-3),
        TrainerSettings(steps=100, batch_size=ROWS, lr=1e-3, unit_decoder=True),
        lr_schedule=build("schedule", "constant"),
        normalizer=build("normalizer", "none"),
        dead_latents=build("dead_latents", dead),
    )


class Reads(TorchDispatchMode):
    """Counts numbers that are taken off their device."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Look at one operation."""
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("case", TRAINED)
def test_no_number_is_read(case, monkeypatch):
    """Neither item, bool, float nor tolist of a tensor in any step; reading the metrics does."""
    trainer = make(case, "cpu")
    trainer.step()
    lists = []
    original = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda one: lists.append(one) or original(one))
    with Reads() as reads:
        for _ in range(3):
            trainer.step()
    assert (reads.count, len(lists)) == (0, 0)
    trainer.read_metrics()
    assert lists


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("case", ["standard", "jumprelu", "gated", "transcoder"])
def test_no_wait_for_the_gpu(case):
    """Torch's own watch over synchronizing calls sees none."""
    trainer = make(case, "cuda")
    trainer.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            trainer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    trainer.read_metrics()
