"""SAEs on disk: equal after a round trip, refused when files contradict each other."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from saecore import SAE
from saecore.core.sae_config import Shape
from saecore.errors import ReleaseError, StorageError
from saecore.plugins.structure import structure_choice
from saecore.randomness import generator


@pytest.fixture(params=["topk", "standard"])
def sae(request):
    """A small SAE with random weights."""
    table = {"architecture": request.param, **({"k": 3} if request.param == "topk" else {})}
    made = structure_choice("architecture", table).build(Shape(6, 6, 20))
    made.initialize(generator(0, "init"), 1.0)
    with torch.no_grad():
        made.b_enc.normal_(generator=generator(0, "b"))
    return made


def test_round_trip(sae, tmp_path):
    """A saved SAE loads with the same config, features and reconstruction."""
    sae.save_model(tmp_path, sparsity=torch.full((20,), -2.0))
    again = SAE.load_from_disk(tmp_path)
    x = torch.randn(2, 5, 6)
    assert torch.equal(again.encode(x), sae.encode(x))
    assert torch.equal(again(x), sae(x))
    assert again.cfg.d_in == 6
    assert again.cfg.d_sae == 20
    assert again.cfg.architecture == sae.cfg.architecture
    assert load_file(tmp_path / "sparsity.safetensors")["sparsity"].shape == (20,)
    shapes = {
        name: list(t.shape) for name, t in load_file(tmp_path / "sae_weights.safetensors").items()
    }
    assert shapes == {"W_enc": [6, 20], "W_dec": [20, 6], "b_enc": [20], "b_dec": [6]}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_converted_sae_is_saved_as_it_is(sae, dtype, tmp_path):
    """The configuration follows the weights, so that a file gives back the same numbers."""
    sae.to(dtype)
    with torch.no_grad():
        sae.W_dec.mul_(1 + 1e-10)  # in float64, rounding to float32 would now show
    sae.save_model(tmp_path)
    again = SAE.load_from_disk(tmp_path)
    name = str(dtype).removeprefix("torch.")
    assert sae.cfg.dtype == again.cfg.dtype == name
    assert json.loads((tmp_path / "cfg.json").read_text())["dtype"] == name
    for key, value in sae.state_dict().items():
        assert again.state_dict()[key].dtype == value.dtype
        assert torch.equal(again.state_dict()[key], value), key


def test_public_edge(sae):
    """Shapes and identities that everyone expects."""
    x = torch.randn(2, 5, 6)
    features = sae.encode(x)
    assert features.shape == (2, 5, 20)
    assert sae.decode(features).shape == (2, 5, 6)
    torch.testing.assert_close(sae.decode(features), sae(x))
    torch.testing.assert_close(sae.decode(sae.encode_sparse(x)).view(2, 5, 6), sae(x))
    latents = torch.tensor([7, 0])
    assert torch.equal(sae.encode(x, latents), features[..., latents])
    assert sae.W_enc.shape == (6, 20)
    assert sae.W_dec.shape == (20, 6)
    sae.W_enc = torch.nn.Parameter(torch.ones(6, 20))
    assert torch.equal(sae.encoder, torch.ones(20, 6))
    with pytest.raises(ValueError, match="W_enc"):
        sae.W_enc = torch.ones(20, 6)
    with pytest.raises(ValueError, match="d_in = 6"):
        sae.encode(torch.randn(3, 7))


def test_misspelled_attributes_are_errors(sae):
    """A name that a config or its metadata lacks is an AttributeError with a suggestion."""
    with pytest.raises(AttributeError, match=r"did you mean"):
        _ = sae.cfg.d_saee
    with pytest.raises(AttributeError, match="hook_name"):
        _ = sae.cfg.hook_name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d_sae": 21}, "d_sae = 21, but sae_weights.safetensors has 20"),
        ({"d_in": 0}, "d_in: expected a positive integer"),
        ({"architecture": "tokp"}, "no architecture named"),
        ({"architecture": None}, "architecture: missing"),
        ({"surprise": 1}, "unknown key 'surprise'"),
        ({"normalize_activations": "expected_average_only_in"}, "normalize_activations"),
        ({"dtype": "float7"}, "dtype"),
        ({"reshape_activations": "hook_q"}, "reshape_activations"),
    ],
)
def test_contradicting_config(sae, tmp_path, change, message):
    """A cfg.json that does not fit is refused with file and key."""
    sae.save_model(tmp_path)
    cfg = json.loads((tmp_path / "cfg.json").read_text())
    (tmp_path / "cfg.json").write_text(json.dumps({**cfg, **change}))
    with pytest.raises(ReleaseError, match=message) as error:
        SAE.load_from_disk(tmp_path)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("fault", ["missing", "extra", "nan", "truncated", "no_file", "not_json"])
def test_damaged_files(sae, tmp_path, fault):
    """Damaged weights are refused, whatever the damage."""
    sae.save_model(tmp_path)
    file = tmp_path / "sae_weights.safetensors"
    tensors = load_file(file)
    if fault == "missing":
        del tensors["b_dec"]
    elif fault == "extra":
        tensors["b_gate"] = torch.zeros(20)
    elif fault == "nan":
        tensors["W_dec"][0, 0] = float("nan")
    save_file(tensors, file)
    if fault == "truncated":
        file.write_bytes(file.read_bytes()[:-40])
    elif fault == "no_file":
        file.unlink()
    elif fault == "not_json":
        (tmp_path / "cfg.json").write_text("{")
    with pytest.raises(ReleaseError):
        SAE.load_from_disk(tmp_path)


def test_save_below_a_file(sae, tmp_path):
    """A directory that cannot be made is a typed error that says what to do."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="set output to another directory"):
        sae.save_model(tmp_path / "file" / "sae")
