"""Exporting an SAE copies its weights once, however many forms it goes through."""

import copy

import pytest
import torch

from saecore import SAE
from saecore.testing import fakes
from saecore.training.calibration import calibrated
from tests.saecore_plugins.architectures.build import make


@pytest.fixture
def copies(monkeypatch):
    """The SAEs that are deep-copied."""
    copied = []
    deepcopy = copy.deepcopy

    def counted(value, *args):
        if isinstance(value, SAE):
            copied.append(value)
        return deepcopy(value, *args)

    monkeypatch.setattr(copy, "deepcopy", counted)
    return copied


@pytest.mark.parametrize("name", ["standard", "topk", "batchtopk", "jumprelu", "pca"])
def test_export_copies_once(copies, name):
    """`Trainer.export` makes the only copy, and the trained SAE keeps its weights."""
    trainer = fakes.trainer(make(name), 2)
    trainer.step()
    before = {key: tensor.clone() for key, tensor in trainer.sae.state_dict().items()}
    exported = trainer.export()
    assert copies == [trainer.sae]
    assert exported.cfg.inference
    assert exported is not trainer.sae
    for key, tensor in trainer.sae.state_dict().items():
        assert torch.equal(tensor, before[key])


@pytest.mark.parametrize("name", ["standard", "topk", "batchtopk", "jumprelu"])
def test_calibration_in_place_copies_nothing(copies, name):
    """The calibrated SAE takes over the weights of the exported one, and is the same SAE as
    without `in_place`.
    """
    sae, x = make(name).to_inference().eval(), fakes.rows("x", 64, 6, dtype=torch.float32)
    whole = calibrated(sae, x, 2.0)
    copies.clear()
    result = calibrated(sae, x, 2.0, in_place=True)
    assert not copies
    assert result.W_dec.data_ptr() == sae.W_dec.data_ptr()
    for key, tensor in whole.state_dict().items():
        assert torch.equal(tensor, result.state_dict()[key])
