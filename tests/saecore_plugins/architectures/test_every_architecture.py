"""What holds for every architecture: gradients, files, precisions."""

import pytest
import torch
from torch import nn

from saecore import SAE
from saecore.core.step import Batch
from saecore.plugins.host import current_host
from tests.saecore_plugins.architectures.build import SETTINGS, context, inputs, make

SMOOTH = {
    "standard": {"l1_coefficient": 0.3},
    "standard, p = 2": {"l1_coefficient": 0.3, "lp_norm": 2.0},
    "standard, p = 1/2": {"l1_coefficient": 0.3, "lp_norm": 0.5},
    "gated": {"l1_coefficient": 0.3, "detach_aux": False},
    "topk": {"rescale_acts_by_decoder_norm": False},
    "topk, rescaled": {},
    "abstopk": {},
    "groupmax": {},
    "batchtopk": {},
    "matryoshka_batchtopk": {},
    "matching_pursuit": {},
}
"""Architectures whose losses are differentiable where the selection does not change."""


class Loss(nn.Module):
    """The loss of one training step as the forward of a module."""

    def __init__(self, sae):
        super().__init__()
        self.sae = sae

    def forward(self, batch, step):
        """The sum of the losses."""
        return self.sae.training_step(batch, step).total


def test_every_architecture_is_here():
    """An architecture that trains is tested in this file, or is listed as one that is not."""
    untrained = {"temporal"}
    names = set(current_host().names("architecture"))
    # Transcoders, crosscoders and CLTs read or write more than one hook.
    several = {name for name in names if "coder" in name or name == "clt"}
    assert names - untrained - several == set(SETTINGS)


@pytest.mark.parametrize("case", SMOOTH)
def test_gradients_of_a_step(case):
    """Gradients for all weights equal difference quotients in float64."""
    name = case.partition(",")[0]
    sae = make(name, d_in=4, d_sae=10, dtype=torch.float64, **_fitting(name), **SMOOTH[case])
    x = inputs(5, d_in=4, dtype=torch.float64)
    loss, step = Loss(sae), context(sae, x)
    names = [key for key, one in loss.named_parameters() if one.requires_grad]
    weights = tuple(one.detach().clone().requires_grad_() for one in sae.parameters())

    def function(*tensors):
        values = dict(zip(names, tensors, strict=True))
        return torch.func.functional_call(loss, values, (Batch(x, x), step))

    assert torch.autograd.gradcheck(function, weights)


@pytest.mark.parametrize("name", SETTINGS)
def test_gradients_for_the_input(name):
    """The reconstruction's derivative by the activations, as steering and attribution need it."""
    sae = make(name, d_in=4, d_sae=10, dtype=torch.float64, **_fitting(name)).eval()
    x = inputs(5, d_in=4, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(sae, (x,))


def _fitting(name):
    """Settings for a width of 10."""
    return {
        "groupmax": {"k": 5},
        "matryoshka_batchtopk": {"matryoshka_widths": [3, 7]},
        "batchtopk": {"k": 2},
    }.get(name, {})


@pytest.mark.parametrize("form", ["training", "inference"])
@pytest.mark.parametrize("name", SETTINGS)
def test_saved_and_loaded(name, form, tmp_path):
    """In both forms: the same tensors, settings, features and reconstructions."""
    sae, x = make(name), inputs()
    for step in range(3):  # so that thresholds and means are not what they began as
        sae.training_step(Batch(x, x), context(sae, x, step=step))
        sae.after_step()
    sae = (sae if form == "training" else sae.to_inference()).eval()
    sae.save_model(tmp_path)
    again = SAE.load_from_disk(tmp_path)
    ours, theirs = sae.state_dict(), again.state_dict()
    assert ours.keys() == theirs.keys()
    for key, one in ours.items():
        assert one.dtype == theirs[key].dtype
        assert torch.equal(one, theirs[key]), key
    assert again.cfg.architecture == sae.cfg.architecture
    assert torch.equal(again.encode(x), sae.encode(x))
    assert torch.equal(again(x), sae(x))
    for key in sae.file_form.saved_fields or ():
        assert getattr(again.cfg, key) == getattr(sae.cfg, key)


@pytest.mark.parametrize("name", SETTINGS)
def test_inference_form(name):
    """The published form reconstructs what the trained SAE does in evaluation mode, and its
    features follow one another as everywhere: encode, slice, sparse, decode.
    """
    sae, x = make(name), inputs(seed=9).view(4, 8, 6)
    for step in range(3):
        batch = Batch(inputs(seed=step), inputs(seed=step))
        sae.training_step(batch, context(sae, batch.targets, step=step))
        sae.after_step()
    result = sae.to_inference().eval()
    torch.testing.assert_close(result(x), sae.eval()(x))
    features = result.encode(x)
    torch.testing.assert_close(result.decode(features), result(x))
    latents = torch.tensor([3, 0])
    assert torch.equal(result.encode(x, latents), features[..., latents])
    assert torch.equal(result.encode_sparse(x).dense().view_as(features), features)


@pytest.mark.parametrize("name", SETTINGS)
def test_bfloat16(name):
    """Encoding, reconstruction and a training step run in bfloat16 and give finite numbers."""
    sae, x = make(name, dtype=torch.bfloat16), inputs().bfloat16()
    output = sae.training_step(Batch(x, x), context(sae, x))
    output.total.backward()
    sae.after_step()
    assert sae.encode(x).dtype == torch.bfloat16
    assert torch.isfinite(sae.eval()(x)).all()
    assert all(torch.isfinite(one.grad).all() for one in sae.parameters() if one.grad is not None)
