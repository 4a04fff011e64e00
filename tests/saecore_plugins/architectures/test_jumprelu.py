"""JumpReLU: straight-through gradients against their formula, and thresholds in float32."""

import pytest
import torch

from saecore.core.step import Batch
from tests.saecore_plugins.architectures.build import context, inputs, make

BAND = 0.4


def dense_gradients(sae, x, mode, to_input):
    """Gradients of loss = mse + penalty by the formulas, cell by cell, without autograd functions.

    Returns:
        d threshold, d encoder, d b_enc, d W_dec, d b_dec of an SAE that does not center its input.
    """
    theta, W_dec = sae.threshold.detach().double(), sae.W_dec.detach()
    encoder, b_enc, b_dec = sae.encoder.detach(), sae.b_enc.detach(), sae.b_dec.detach()
    n, pre = len(x), x @ encoder.T + b_enc
    active = (pre > theta).double()
    rect = (((pre - theta) / BAND).abs() < 0.5).double()
    features = pre * active
    error = features @ W_dec + b_dec - x
    d_features = 2 * error @ W_dec.T / n
    norms, l0 = W_dec.norm(dim=1), active.sum(-1, keepdim=True)
    d_W_dec = features.T @ (2 * error / n)
    d_step = torch.zeros_like(pre)
    if mode == "tanh":
        slope = 1 - torch.tanh(4 * features * norms).square()
        d_features += 4 * slope * norms / n
        d_norms = (4 * slope * features / n).sum(0)
        d_W_dec += (d_norms / norms)[:, None] * W_dec
    elif mode == "step":
        d_step += 1 / n
    else:
        d_step += 4 / 3.0 * (l0 - 3) / n
    d_theta = -(theta / BAND * rect * d_features).sum(0) - (rect / BAND * d_step).sum(0)
    d_pre = active * d_features
    if to_input:
        d_pre += theta / BAND * rect * d_features + rect / BAND * d_step
    return d_theta, d_pre.T @ x, d_pre.sum(0), d_W_dec, (2 * error / n).sum(0)


@pytest.mark.parametrize("to_input", [False, True])
@pytest.mark.parametrize("mode", ["step", "tanh", "quadratic"])
def test_straight_through_gradients(mode, to_input):
    """Every gradient of a step equals the formulas of the estimators in all modes."""
    sae = make(
        "jumprelu",
        dtype=torch.float64,
        apply_b_dec_to_input=False,
        jumprelu_sparsity_loss_mode=mode,
        jumprelu_bandwidth=BAND,
        jumprelu_ste_to_input=to_input,
        target_l0=3.0,
    )
    x = inputs(dtype=torch.float64)
    expected = dense_gradients(sae, x, mode, to_input)
    sae.training_step(Batch(x, x), context(sae, x)).total.backward()
    ours = (sae.threshold.grad, sae.encoder.grad, sae.b_enc.grad, sae.W_dec.grad, sae.b_dec.grad)
    assert ours[0].dtype == torch.float32
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-6)


def test_pre_activation_loss():
    """Σ relu(θ − pre) · n over dead latents alone, and nothing without any."""
    sae, x = make("jumprelu", pre_act_loss_coefficient=0.5), inputs()
    dead = torch.zeros(20, dtype=torch.bool)
    dead[[1, 8]] = True
    losses = sae.training_step(Batch(x, x), context(sae, x, dead=dead)).losses
    pre = (x - sae.b_dec) @ sae.W_enc + sae.b_enc
    below = (sae.threshold - pre).relu() * sae.W_dec.norm(dim=1)
    torch.testing.assert_close(losses["pre_act_loss"], 0.5 * below[:, dead].sum(-1).mean())
    assert sae.training_step(Batch(x, x), context(sae, x)).losses["pre_act_loss"] == 0


def test_thresholds_stay_float32():
    """In bfloat16 the thresholds stay float32, with the same values; encode and a step work."""
    sae = make("jumprelu")
    before = sae.threshold.detach().clone()
    features = sae.encode(inputs())
    low = sae.to(torch.bfloat16)
    assert low.W_dec.dtype == torch.bfloat16
    assert low.threshold.dtype == torch.float32
    assert torch.equal(low.threshold, before)
    x = inputs().bfloat16()
    assert low.encode(x).dtype == torch.bfloat16
    torch.testing.assert_close(low.encode(x).float(), features, rtol=0.05, atol=0.5)
    output = low.training_step(Batch(x, x), context(low, x))
    output.total.backward()
    assert low.threshold.grad.dtype == torch.float32
    assert torch.isfinite(low.threshold.grad).all()


def test_thresholds_never_negative():
    """A step brings a negative threshold back to 0; features are never negative."""
    sae, x = make("jumprelu"), inputs()
    with torch.no_grad():
        sae.threshold.fill_(-0.5)
    assert (sae.encode(x) >= 0).all()
    sae.training_step(Batch(x, x), context(sae, x))
    assert torch.equal(sae.threshold, torch.zeros(20))
