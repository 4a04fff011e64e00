"""TopK that ranks by decoder norms and reports pre-activations."""

import json

import pytest
import torch

from saecore import SAE
from saecore.plugins.problems import Problems
from tests.saecore_plugins.architectures.build import inputs, make

RANKED = {"rank_by_decoder_norm": True, "rescale_acts_by_decoder_norm": False}


@pytest.fixture
def sae():
    """A small one, with decoder rows of different norms."""
    made = make("topk", **RANKED)
    with torch.no_grad():
        made.W_dec.mul_(torch.linspace(0.2, 3, len(made.W_dec))[:, None])
    return made


def test_against_a_sort(sae):
    """The k latents with the largest pre · n are active, with pre as the feature."""
    x = inputs()
    with torch.no_grad():
        pre = (x - sae.b_dec) @ sae.W_enc + sae.b_enc
        best = (pre * sae.W_dec.norm(dim=1)).topk(sae.cfg.k).indices
        expected = torch.zeros_like(pre).scatter(-1, best, pre.gather(-1, best)).relu()
        torch.testing.assert_close(sae.encode(x), expected)
        torch.testing.assert_close(sae(x), expected @ sae.W_dec + sae.b_dec)
        assert not torch.equal(expected > 0, make("topk", **RANKED).encode(x) > 0)


def test_saved(sae, tmp_path):
    """The name in cfg.json is one that SAELens refuses, and comes back as it was."""
    x = inputs()
    sae.save_model(tmp_path)
    assert json.loads((tmp_path / "cfg.json").read_text())["architecture"] == "ranked_topk"
    again = SAE.load_from_disk(tmp_path)
    assert again.cfg.architecture == "topk"
    assert again.cfg.rank_by_decoder_norm is True
    assert torch.equal(again.encode(x), sae.encode(x))
    published = sae.to_inference()
    assert torch.equal(published.encode(x), sae.encode(x))


def test_folded_norms(sae):
    """Folding the norms leaves the same latents active; features grow by the norms."""
    x, norms = inputs(), sae.W_dec.detach().norm(dim=1)
    with torch.no_grad():
        features, out = sae.encode(x), sae(x)
        sae.fold_W_dec_norm()
        torch.testing.assert_close(sae.encode(x), features * norms)
        torch.testing.assert_close(sae(x), out)


def test_two_answers():
    """Ranking and rescaling both say how latents are ranked."""
    with pytest.raises(Problems, match="rank_by_decoder_norm"):
        make("topk", rank_by_decoder_norm=True)
