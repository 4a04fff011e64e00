"""The identity reconstructs everything, before and after training."""

import pytest
import torch

from saecore import SAE, Shape
from saecore.errors import ConfigError
from tests.saecore_plugins.architectures.build import choice, inputs, make
from tests.saecore_plugins.architectures.test_pca import trainer


@pytest.mark.parametrize("normalizer", ["none", "expected_average_only_in"])
def test_stays_the_identity(normalizer, tmp_path):
    """Features and reconstruction are the input, also after steps, scaled, saved and loaded."""
    batches = [inputs(40, seed=i) for i in range(3)]
    one = trainer(make("identity"), batches, normalizer)
    for _ in batches:
        one.step()
    assert one.read_metrics()["losses/mse_loss"] < 1e-10
    result, x = one.export(), inputs()
    result.save_model(tmp_path)
    for sae in (one.sae, result, SAE.load_from_disk(tmp_path)):
        assert torch.equal(sae.encode(x), x)
        assert torch.equal(sae(x), x)


def test_folding_norms_changes_nothing():
    """The rows have norm 1 already."""
    sae, x = make("identity"), inputs()
    sae.fold_W_dec_norm()
    assert torch.equal(sae.encode(x), x)


def test_width_is_that_of_the_input():
    """Another d_sae is refused, with the setting that works."""
    with pytest.raises(ConfigError, match=r"sae\.d_sae.*expansion_factor = 1"):
        choice("architecture", "identity").build(Shape(6, 6, 12))
