"""AbsTopK against a loop over rows."""

import pytest
import torch

from saecore.core.step import Batch
from tests.saecore_plugins.architectures.build import choice, context, inputs, make


@pytest.mark.parametrize("rescaled", [True, False])
def test_against_a_loop(rescaled):
    """Each row keeps the k entries largest in absolute value, with signs; rescaled by the norms of
    the decoder rows before they compete, where that is asked for.
    """
    sae, x = make("abstopk", rescale_acts_by_decoder_norm=rescaled), inputs()
    with torch.no_grad():
        sae.W_dec.mul_(torch.linspace(0.2, 3, 20)[:, None])
    pre = ((x - sae.b_dec) @ sae.W_enc + sae.b_enc).detach()
    norms = sae.W_dec.detach().norm(dim=1) if rescaled else torch.ones(20)
    expected = torch.zeros(len(x), 20)
    for row in range(len(x)):
        best = sorted(range(20), key=lambda j: -abs((pre[row, j] * norms[j]).item()))[:4]
        for j in best:
            expected[row, j] = pre[row, j] * norms[j]
    features = sae.encode(x).detach()
    torch.testing.assert_close(features, expected)
    assert (features < 0).any()
    torch.testing.assert_close(sae(x), (expected / norms) @ sae.W_dec + sae.b_dec)


def test_auxk_ranks_by_absolute_value():
    """Dead latents compete by absolute value too, signs kept."""
    sae, x = make("abstopk", rescale_acts_by_decoder_norm=False), inputs()
    dead = torch.zeros(20, dtype=torch.bool)
    dead[[2, 3, 7, 11, 13]] = True
    batch, step = Batch(x, x), context(sae, x, dead=dead)
    output = sae.training_step(batch, step)
    table = {"type": "auxk", "k_aux": 2, "after_tokens": 1}
    losses = choice("dead_latents", table).build().losses(sae, batch, output, step)
    pre = ((x - sae.b_dec) @ sae.W_enc + sae.b_enc).detach()
    total = 0.0
    for row in range(len(x)):
        best = sorted(dead.nonzero().flatten().tolist(), key=lambda j: -abs(pre[row, j].item()))[:2]
        part = sum(pre[row, j] * sae.W_dec[j].detach() for j in best)
        residual = x[row] - output.reconstruction[row].detach()
        total += float((part - residual).square().sum()) / len(x)
    assert losses["auxiliary_reconstruction_loss"].item() == pytest.approx(total, rel=1e-5)
