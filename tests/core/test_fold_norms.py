"""Folding decoder norms: exact where latents stand alone, refused where they compete."""

import pytest
import torch

from saecore.errors import ConfigError
from tests.saecore_plugins.architectures.dense import build

ALONE = [{"architecture": "standard"}, {"architecture": "jumprelu"}, {"architecture": "gated"}]
UNSCALED = {"k": 4, "rescale_acts_by_decoder_norm": False}
RANKED = [{"architecture": one, **UNSCALED} for one in ("topk", "abstopk", "batchtopk")]
RANKED += [{"architecture": "groupmax", "k": 4}]


@pytest.mark.parametrize("table", ALONE, ids=lambda one: one["architecture"])
def test_reconstruction_stays_and_features_count_norms(table):
    """Rows get norm 1, features are multiplied by what the norms were."""
    sae = build(6, 6, 12, **table)
    x = torch.randn(20, 6, dtype=sae.W_dec.dtype, generator=torch.Generator().manual_seed(0))
    features, reconstruction, norms = sae.encode(x), sae(x), sae.decoder_norms().detach()
    sae.fold_W_dec_norm()
    torch.testing.assert_close(sae.decoder_norms(), torch.ones_like(norms))
    torch.testing.assert_close(sae.encode(x), features * norms)
    torch.testing.assert_close(sae(x), reconstruction)


@pytest.mark.parametrize("table", RANKED, ids=lambda one: one["architecture"])
def test_competing_latents_are_refused_unless_nothing_changes(table):
    """Without rescaling another latent could win; rows of norm 1 have nothing to fold."""
    sae = build(6, 6, 12, **table)
    with torch.no_grad():
        sae.W_dec.copy_(torch.nn.functional.normalize(sae.W_dec, dim=1))
    sae.fold_W_dec_norm()
    with torch.no_grad():
        sae.W_dec.mul_(2)
    with pytest.raises(ConfigError, match="latents compete"):
        sae.fold_W_dec_norm()
