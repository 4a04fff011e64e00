"""The temporal SAE equals SAELens', whose numbers tests/bench/record_temporal.py recorded."""

import pytest
import torch
from safetensors.torch import load_file

from saecore import SAE, Shape
from saecore.config import structure_experiment
from saecore.errors import ConfigError, ReleaseError
from saecore.runs.run import run
from tests.conftest import DATA
from tests.helpers import assert_close
from tests.saecore_plugins.architectures.build import choice

CASES = ("tied_topk", "tied_uncentered", "untied_relu_scaled")


@pytest.fixture(params=CASES)
def recorded(request):
    """A directory that SAELens saved, with inputs and answers."""
    return DATA / "temporal" / request.param


def test_equals_the_reference(recorded):
    """Codes, predicted codes, what the codes decode to and the whole reconstruction."""
    sae, expected = SAE.load_from_disk(recorded), load_file(recorded / "answers.safetensors")
    x = expected["x"]
    novel, predicted = sae.encode_with_predictions(x)
    assert_close(novel, expected["novel"], "novel")
    assert_close(predicted, expected["predicted"], "predicted")
    assert_close(sae.encode(x), expected["encode"], "encode")
    assert_close(sae.decode(novel), expected["decode"], "decode")
    assert_close(sae(x), expected["forward"], "forward")
    assert expected["predicted"].norm() > 0.1


def test_shapes(recorded):
    """One context or many, latents asked for, and sparse codes say the same; rows without a context
    are refused.
    """
    sae, x = SAE.load_from_disk(recorded), load_file(recorded / "answers.safetensors")["x"]
    features = sae.encode(x)
    torch.testing.assert_close(sae.encode(x[1:]), features[1:])
    torch.testing.assert_close(sae(x[1:]), sae(x)[1:])
    latents = torch.tensor([7, 0])
    assert torch.equal(sae.encode(x, latents), features[..., latents])
    assert torch.equal(sae.encode_sparse(x).dense().view_as(features), features)
    torch.testing.assert_close(sae.decode(sae.encode_sparse(x)).view_as(x), sae.decode(features))
    with pytest.raises(ValueError, match="contexts"):
        sae(x[0])


def test_causal(recorded):
    """A later position changes nothing before it."""
    sae, x = SAE.load_from_disk(recorded), load_file(recorded / "answers.safetensors")["x"]
    changed = x.clone()
    changed[:, 3] += 1
    torch.testing.assert_close(sae(changed)[:, :3], sae(x)[:, :3])
    assert (sae(changed)[:, 4] - sae(x)[:, 4]).abs().max() > 1e-5


def test_round_trip(recorded, tmp_path):
    """Saved and loaded again: the same tensors and features."""
    sae, x = SAE.load_from_disk(recorded), load_file(recorded / "answers.safetensors")["x"]
    sae.save_model(tmp_path)
    again = SAE.load_from_disk(tmp_path)
    ours, theirs = (load_file(one / "sae_weights.safetensors") for one in (tmp_path, recorded))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert torch.equal(again(x), sae(x))


def test_training_is_refused(tmp_path):
    """An experiment with a temporal SAE ends before the first step, with the reason."""
    tables = {
        "output": str(tmp_path),
        "model": {"type": "tiny_lm", "hook": "blocks.1.hook_resid_post", "device": "cpu"},
        "dataset": {"type": "python_corpus"},
        "sae": {"architecture": "temporal", "d_sae": 512},
        "training": {"tokens": 4096},
    }
    with pytest.raises(ConfigError, match=r"sae\.architecture.*loaded and applied, not trained"):
        run(structure_experiment(tables))


def test_refusals(recorded):
    """Sizes that do not divide, and folding, are errors that say why."""
    with pytest.raises(ConfigError, match="multiple of n_heads"):
        choice("architecture", "temporal").build(Shape(6, 6, 100))
    sae = SAE.load_from_disk(recorded)
    with pytest.raises(ConfigError, match="attention reads the codes"):
        sae.fold_W_dec_norm()
    with pytest.raises(ConfigError, match="attention reads the codes"):
        sae.scale_input(2.0)


def test_another_architecture_has_no_scalar(recorded, tmp_path):
    """The normalization that only temporal SAEs know is refused elsewhere."""
    from tests.saecore_plugins.architectures.build import make

    make("topk").save_model(tmp_path)
    file = tmp_path / "cfg.json"
    file.write_text(
        file.read_text().replace(
            '"normalize_activations": "none"', '"normalize_activations": "constant_scalar_rescale"'
        )
    )
    with pytest.raises(ReleaseError, match="normalize_activations"):
        SAE.load_from_disk(tmp_path)
