"""GroupMax against a loop over rows and groups."""

import pytest
import torch

from saecore import Shape
from saecore.core.step import Batch
from saecore.errors import ConfigError
from tests.saecore_plugins.architectures.build import choice, context, inputs, make


def test_against_a_loop():
    """Each row keeps the largest pre-activation of each group, where it is positive."""
    sae, x = make("groupmax", d_sae=20, k=4), inputs()
    pre = ((x - sae.b_dec) @ sae.W_enc + sae.b_enc).detach()
    expected = torch.zeros(len(x), 20)
    for row in range(len(x)):
        for group in range(4):
            members = range(5 * group, 5 * group + 5)
            best = max(members, key=lambda j: pre[row, j].item())
            expected[row, best] = max(0.0, pre[row, best].item())
    torch.testing.assert_close(sae.encode(x).detach(), expected)
    torch.testing.assert_close(sae(x), expected @ sae.W_dec + sae.b_dec)


def test_first_of_equals():
    """Of equal pre-activations the lowest latent of the group is active."""
    sae = make("groupmax", d_sae=20, k=4)
    with torch.no_grad():
        sae.encoder.zero_()
        sae.b_enc.fill_(1.0)
    assert sae.encode(inputs(3)).nonzero()[:, 1].view(3, 4).tolist() == [[0, 5, 10, 15]] * 3


def test_gradients_against_dense_autograd():
    """Gradients of the loss are those of the same function written densely."""
    sae, x = make("groupmax", dtype=torch.float64), inputs(dtype=torch.float64)
    sae.training_step(Batch(x, x), context(sae, x)).total.backward()
    ours = {name: one.grad.clone() for name, one in sae.named_parameters()}
    sae.zero_grad()
    pre = ((x - sae.b_dec) @ sae.encoder.T + sae.b_enc).view(len(x), 4, 5)
    features = (pre * (pre == pre.amax(-1, keepdim=True))).relu().flatten(1)
    (features @ sae.W_dec + sae.b_dec - x).square().sum(-1).mean().backward()
    for name, one in sae.named_parameters():
        torch.testing.assert_close(ours[name], one.grad, rtol=1e-10, atol=1e-12)


def test_groups_have_one_size():
    """A k that does not divide d_sae is refused."""
    with pytest.raises(ConfigError, match=r"sae\.k: expected a divisor of d_sae = 20, got 3"):
        choice("architecture", {"architecture": "groupmax", "k": 3}).build(Shape(6, 6, 20))
