"""The moving average of weights."""

import copy

import pytest
import torch
from torch import nn

from saecore.training.ema import WeightAverage


def weights(n):
    """Some values of a module's weights, one after another."""
    torch.manual_seed(0)
    return [torch.randn(3, 4).double() for _ in range(n)]


def run(values, decay):
    """A module that has taken these values, and its average."""
    module = nn.Linear(4, 3, bias=False).double()
    average = WeightAverage(module, decay)
    for one in values:
        with torch.no_grad():
            module.weight.copy_(one)
        average.update()
    return module, average


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_the_formula(steps, decay):
    """The average is Σ d^(t−i) w_i / Σ d^(t−i), from the first step on."""
    values = weights(steps)
    module, average = run(values, decay)
    powers = [decay ** (steps - 1 - i) for i in range(steps)]
    expected = sum(p * w for p, w in zip(powers, values, strict=True)) / sum(powers)
    with average.averaged():
        torch.testing.assert_close(module.weight.detach(), expected)


def test_the_weights_come_back():
    """After the context, also after an error in it, the module has its own bits again."""
    module, average = run(weights(3), 0.9)
    before = module.weight.detach().clone()
    with average.averaged():
        assert not torch.equal(module.weight, before)
    assert torch.equal(module.weight, before)
    with pytest.raises(KeyError), average.averaged():
        raise KeyError
    assert torch.equal(module.weight, before)


def test_before_the_first_step_the_average_is_the_weights():
    """Exporting an untrained SAE exports its first weights."""
    module = nn.Linear(4, 3)
    average = WeightAverage(module, 0.99)
    before = module.weight.detach().clone()
    with average.averaged():
        assert torch.equal(module.weight, before)


def test_half_precision_is_averaged_in_single():
    """A decay of 0.999 moves the average of bfloat16 weights, which bfloat16 could not hold."""
    module = nn.Linear(4, 3, dtype=torch.bfloat16)
    average = WeightAverage(module, 0.999)
    for value in [1.0] * 1000 + [1.5] * 100:
        nn.init.constant_(module.weight, value)
        average.update()
    share = sum(0.999**i for i in range(100)) / sum(0.999**i for i in range(1100))
    expected = torch.full((3, 4), 1 + 0.5 * share)
    torch.testing.assert_close(average.average["weight"], expected, rtol=1e-4, atol=0)


def test_state_round_trip():
    """Saved and loaded, the average goes on with the same bits."""
    values = weights(6)
    kept = run(values, 0.9)[1]
    half, average = run(values[:3], 0.9)
    state = copy.deepcopy(average.state_dict())
    other = WeightAverage(half, 0.9)
    other.load_state_dict(state)
    for one in values[3:]:
        with torch.no_grad():
            half.weight.copy_(one)
        other.update()
    assert torch.equal(other.average["weight"], kept.average["weight"])
    assert other.updates == 6
