"""Fused activation functions: the same function, nearer to the truth, nothing else touched."""

import pytest
import torch
from transformers.activations import FastGELUActivation, NewGELUActivation

from saecore_plugins.models.fused import fuse_activations
from tests.models.tiny import TOKENS, make

X = torch.linspace(-8, 8, 100_001)


def gelu(x):
    """The tanh form, term by term, in float64."""
    x = x.double()
    return 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))


@pytest.mark.parametrize("kind", [NewGELUActivation, FastGELUActivation])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_kernel_computes_the_formula_as_well_as_the_module_it_replaces(kind, dtype):
    """Rounding in between is what it leaves out."""
    body = torch.nn.Sequential(kind())
    x = X.to(dtype)
    before = (body(x).double() - gelu(x)).abs().max()
    fuse_activations(body)
    after = (body(x).double() - gelu(x)).abs().max()
    assert isinstance(body[0], torch.nn.GELU)
    assert after <= before


def test_a_model_gives_the_same_logits():
    """To rounding; modules keep their paths, so hooks find them."""
    model = make("gpt2")
    paths = [path for path, _ in model.named_modules()]
    before = model(input_ids=TOKENS).logits
    fuse_activations(model)
    torch.testing.assert_close(model(input_ids=TOKENS).logits, before, rtol=1e-5, atol=1e-6)
    assert [path for path, _ in model.named_modules()] == paths
    assert isinstance(model.get_submodule("transformer.h.0.mlp.act"), torch.nn.GELU)


def test_other_activation_functions_stay():
    """BERT's exact GELU is another function."""
    model = make("bert")
    before = {path: type(module) for path, module in model.named_modules()}
    fuse_activations(model)
    assert {path: type(module) for path, module in model.named_modules()} == before
