"""Bad numbers seen with a delay, as on devices that work ahead of the host."""

import pytest
import torch

from saecore.errors import NumericsError
from saecore.training.finite_check import NonFiniteCheck
from saecore.training.optimizer_steps import clipped_step
from tests.helpers import ListSource
from tests.training.test_trainer import trainer


def delayed_trainer(bad, **settings):
    """A trainer whose watch is delayed; the activations of step `bad` hold an infinite number."""
    g = torch.Generator().manual_seed(0)
    batches = [torch.randn(32, 8, generator=g) for _ in range(8)]
    batches[bad][3, 2] = float("inf")
    subject = trainer("topk", source=ListSource(batches), **settings)
    subject.finite_check = NonFiniteCheck(torch.device("cpu"), skip=False, delayed=True)
    return subject


@pytest.mark.parametrize("unit", [False, True])
def test_named_and_held_back(unit):
    """The step after raises, names the step and the number, and no weight has moved since."""
    subject = delayed_trainer(3, unit_decoder=unit)
    for _ in range(3):
        subject.step()
    before = {name: one.clone() for name, one in subject.sae.state_dict().items()}
    subject.step()
    with pytest.raises(NumericsError, match="step 3: an activation is not finite"):
        subject.step()
    for name, one in subject.sae.state_dict().items():
        # Rows of length 1 are brought to length 1 again.
        torch.testing.assert_close(one, before[name], rtol=2e-7 if unit else 0, atol=0)


@pytest.mark.parametrize("reading", ["read_metrics", "state_dict"])
def test_neither_logged_nor_saved(reading):
    """Who reads the trainer right after the bad step gets the error, not its numbers."""
    subject = delayed_trainer(2)
    for _ in range(3):
        subject.step()
    with pytest.raises(NumericsError, match="step 2: an activation"):
        getattr(subject, reading)()


def test_same_weights_as_seen_at_once():
    """Where all numbers are finite a delayed watch changes no bit."""
    g = torch.Generator().manual_seed(0)
    batches = [torch.randn(32, 8, generator=g) for _ in range(6)]
    results = []
    for delayed in (False, True):
        subject = trainer("topk", source=ListSource(batches))
        subject.finite_check = NonFiniteCheck(torch.device("cpu"), skip=False, delayed=delayed)
        for _ in range(6):
            subject.step()
        results.append(subject.sae.state_dict())
    assert all(torch.equal(one, results[1][name]) for name, one in results[0].items())


@pytest.mark.parametrize("fused", [False, True])
def test_scaled_step(fused):
    """Gradients are scaled by the optimizer that can, and before any other: the same step."""
    parameter = torch.nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4))
    twin = torch.nn.Parameter(parameter.detach().clone())
    parameter.grad = torch.linspace(2, -1, 12).view(3, 4)
    twin.grad = parameter.grad * 0.25
    clipped_step(
        torch.optim.Adam([parameter], fused=fused), [parameter], torch.tensor(0.25).double()
    )
    torch.optim.Adam([twin]).step()
    torch.testing.assert_close(parameter, twin)
