"""Ghost gradients against their formula, token by token, and autograd's view of it."""

import pytest
import torch

from tests.saecore_plugins.dead_latents.cases import ARCHITECTURES, context, inputs, make, strategy

DEAD = [1, 4, 9, 15]


def pieces(name):
    """The loss of the plugin, and one computed in loops over tokens and latents (float64)."""
    sae, batch = make(name, torch.float64), inputs(torch.float64)
    around = context(batch, DEAD, sae)
    output = sae.training_step(batch, around)
    ours = strategy("ghost_grads").losses(sae, batch, output, around)["ghost_grad_loss"]
    residual = (batch.targets - output.reconstruction).detach()
    centered = batch.inputs if sae.center is None else batch.inputs - sae.center
    W_enc = sae.W_enc
    bias = {"gated": "b_gate"}.get(name, "b_enc")
    b_enc = getattr(sae, bias) if name != "matching_pursuit" else torch.zeros(16)
    tokens = []
    for x, r in zip(centered, residual, strict=True):
        g = sum(torch.exp(x @ W_enc[:, i] + b_enc[i]) * sae.W_dec[i] for i in DEAD)
        g = g * (r.norm() / (2 * g.norm())).detach()
        tokens.append((g - r).square().sum())
    error = sum(tokens) / len(tokens)
    size = residual.square().sum() / len(tokens)
    return sae, ours, error * (size / error).detach(), size


@pytest.mark.parametrize("name", [one for one in ARCHITECTURES if one != "no_b_dec"])
def test_formula(name):
    """Value and gradients of every parameter are those of the formula in loops."""
    sae, ours, wanted, size = pieces(name)
    torch.testing.assert_close(ours, wanted)
    torch.testing.assert_close(ours.detach(), size)
    grads = torch.autograd.grad(ours, list(sae.parameters()), allow_unused=True, retain_graph=True)
    other = torch.autograd.grad(wanted, list(sae.parameters()), allow_unused=True)
    for (key, _), got, expected in zip(sae.named_parameters(), grads, other, strict=True):
        assert (got is None) == (expected is None), key
        if got is not None:
            torch.testing.assert_close(got, expected, msg=key)


def test_only_dead_latents_learn():
    """Rows of living latents get no gradient; b_dec gets it only as part of the input."""
    sae, ours, _, _ = pieces("standard")
    encoder, decoder = torch.autograd.grad(ours, [sae.encoder, sae.W_dec])
    living = [i for i in range(16) if i not in DEAD]
    assert not encoder[living].any()
    assert not decoder[living].any()
    assert all(bool(encoder[i].any() and decoder[i].any()) for i in DEAD)


def test_large_preactivations():
    """Pre-activations far above what exp can hold give the same loss and gradients."""
    sae, batch = make("topk", torch.float64), inputs(torch.float64)
    around = context(batch, DEAD, sae)
    output = sae.training_step(batch, around)
    found = []
    for shift in (0.0, 5000.0):
        with torch.no_grad():
            sae.b_enc[DEAD] += shift
        loss = strategy("ghost_grads").losses(sae, batch, output, around)["ghost_grad_loss"]
        found.append((loss, *torch.autograd.grad(loss, [sae.encoder, sae.W_dec])))
    for small, large in zip(*found, strict=True):
        torch.testing.assert_close(small, large)


def test_none_dead():
    """Zero while all latents are alive."""
    sae, batch = make("standard"), inputs()
    around = context(batch, [], sae)
    output = sae.training_step(batch, around)
    losses = strategy("ghost_grads").losses(sae, batch, output, around)
    assert float(losses["ghost_grad_loss"]) == 0
