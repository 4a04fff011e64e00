"""The gated SAE: features against their formula, and whom the auxiliary loss trains."""

import pytest
import torch

from saecore.core.step import Batch
from tests.saecore_plugins.architectures.build import context, inputs, make


def test_features_against_the_formula():
    """The gate decides which, the magnitude how much; both see the same projection."""
    sae, x = make("gated"), inputs()
    projected = (x - sae.b_dec) @ sae.W_enc
    expected = ((projected + sae.b_gate) > 0) * (projected * sae.r_mag.exp() + sae.b_mag).relu()
    torch.testing.assert_close(sae.encode(x), expected)
    assert ((projected + sae.b_gate > 0) & (expected == 0)).any()


@pytest.mark.parametrize("detached", [True, False])
def test_auxiliary_loss_and_decoder(detached):
    """Detached, the auxiliary loss has no gradient for the decoder and its bias but through the
    encoder's input, in which b_dec stands; else it has. The gate learns from it in both cases.
    """
    sae, x = make("gated", detach_aux=detached, apply_b_dec_to_input=False), inputs()
    output = sae.training_step(Batch(x, x), context(sae, x))
    output.losses["auxiliary_reconstruction_loss"].backward()
    for one in (sae.W_dec, sae.b_dec):
        assert (one.grad is None or not one.grad.any()) == detached
    assert sae.b_gate.grad.any()
    assert sae.encoder.grad.any()
    assert sae.r_mag.grad is None
    gate = ((x @ sae.W_enc) + sae.b_gate).relu()
    expected = (gate @ sae.W_dec + sae.b_dec - x).square().sum(-1).mean()
    torch.testing.assert_close(output.losses["auxiliary_reconstruction_loss"], expected)


def test_penalty_is_on_the_gate():
    """λ · mean Σ relu(π) · n."""
    sae, x = make("gated", l1_coefficient=0.7), inputs()
    output = sae.training_step(Batch(x, x), context(sae, x))
    gate = ((x - sae.b_dec) @ sae.W_enc + sae.b_gate).relu()
    expected = 0.7 * (gate * sae.W_dec.norm(dim=1)).sum(-1).mean()
    torch.testing.assert_close(output.losses["l1_loss"], expected)


@pytest.mark.parametrize("detached", [True, False])
def test_penalty_and_decoder(detached):
    """Detached, the penalty cannot shrink the decoder's rows, which r_mag would make up for."""
    sae, x = make("gated", detach_aux=detached), inputs()
    sae.training_step(Batch(x, x), context(sae, x)).losses["l1_loss"].backward()
    assert (sae.W_dec.grad is None) == detached
    assert sae.b_gate.grad.any()
    assert sae.b_mag.grad is None
