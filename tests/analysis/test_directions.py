"""Logits, cosines and norms of decoder rows, against the plain products."""

import numpy as np
import torch

from saecore.analysis.directions import alike, largest, logits, norms
from saecore_plugins.models.transformer_lens.backend import BridgeBackend, build_bridge
from tests.analysis.small import D_SAE, backend, small_sae
from tests.models import tiny

LATENTS = np.array([17, 3, 30])


def test_logits():
    """The tokens that decoder row times unembedding raises and lowers most, with their numbers."""
    sae, model = small_sae(), backend()
    wanted = (sae.W_dec @ model.unembed).detach()
    (high, raised), (low, lowered) = logits(sae, model, LATENTS, 5)
    for n, latent in enumerate(LATENTS):
        order = wanted[latent].argsort(descending=True).tolist()
        assert high[n].tolist() == order[:5]
        assert low[n].tolist() == order[::-1][:5]
        np.testing.assert_allclose(raised[n], wanted[latent, order[:5]], rtol=1e-5)
        np.testing.assert_allclose(lowered[n], wanted[latent, order[::-1][:5]], rtol=1e-5)


def test_no_logits():
    """There are none where the decoder writes another size, or the model has no head."""
    model = backend()
    model.unembed = model.unembed[:-1]
    assert logits(small_sae(), model, LATENTS, 5) is None
    model.unembed = None
    assert logits(small_sae(), model, LATENTS, 5) is None


def test_unembed():
    """Times the last normalized activations it gives the model's logits; raw, it is the same
    behind the bridge.
    """
    plain = tiny.backend("gpt2")
    last = plain.activations(tiny.TOKENS, ["transformer.ln_f"])["transformer.ln_f"]
    torch.testing.assert_close(last @ plain.unembed, plain.run_with(tiny.TOKENS, {}))
    bridge = build_bridge(tiny.make("gpt2"), tiny.tokenizer(), "gpt2", torch.float32, False)
    assert torch.equal(BridgeBackend(bridge, None, "gpt2", {}).unembed, plain.unembed)


def test_neighbors():
    """Other latents by cosine, the nearest first; a latent is not its own neighbor."""
    sae = small_sae()
    with torch.no_grad():
        sae.W_dec[3] = 2.5 * sae.W_dec[17]
    found, cosines = alike(sae, LATENTS, 6)
    assert found[0, 0] == 3
    assert found[1, 0] == 17
    wanted = torch.nn.functional.cosine_similarity(sae.W_dec[30], sae.W_dec.detach(), dim=1)
    order = [one for one in wanted.argsort(descending=True).tolist() if one != 30][:6]
    assert found[2].tolist() == order
    np.testing.assert_allclose(cosines[2], wanted[order].detach(), rtol=1e-5)
    assert alike(sae, LATENTS, 99)[0].shape == (3, D_SAE - 1)
    np.testing.assert_allclose(norms(sae, LATENTS), sae.W_dec[LATENTS].detach().norm(dim=1))


def test_largest():
    """The largest first, of equal ones the first."""
    found, values = largest(np.array([[0.0, 2.0, 1.0, 2.0]]), 3)
    assert found.tolist() == [[1, 3, 2]]
    assert values.tolist() == [[2, 2, 1]]
