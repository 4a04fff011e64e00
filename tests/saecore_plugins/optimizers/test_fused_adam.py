"""Adam without torch.optim: torch's own weights to the last bit, and light to import."""

import copy
import subprocess
import sys

import pytest
import torch

from saecore_plugins.optimizers.fused_adam import FusedAdam

SETTINGS = {"lr": 1e-2, "betas": (0.8, 0.99), "eps": 1e-7, "weight_decay": 0.1}


def pair(mixed=False):
    """Two copies of some parameters, ours and torch's optimizer over them."""
    numbers = torch.Generator().manual_seed(0)
    dtypes = (torch.float32, torch.bfloat16 if mixed else torch.float32)
    ours = [torch.nn.Parameter(torch.randn(7, 5, generator=numbers).to(one)) for one in dtypes]
    theirs = copy.deepcopy(ours)
    groups = [{"params": one, "lr": 1e-2} for one in (ours[:1], ours[1:])]
    same = [{"params": one, "lr": 1e-2} for one in (theirs[:1], theirs[1:])]
    return (
        ours,
        FusedAdam(groups, **SETTINGS),
        theirs,
        torch.optim.Adam(same, **SETTINGS, fused=True),
    )


def steps(count, ours, optimizer, theirs, other, seed=1):
    """Both take the same steps, clipped and left out alike."""
    numbers = torch.Generator().manual_seed(seed)
    for step in range(count):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=numbers).to(a.dtype)
            b.grad = a.grad.clone()
        for one in (optimizer, other):
            one.grad_scale = torch.tensor(1.5)
            one.found_inf = torch.tensor(float(step == 3))
            one.step()


@pytest.mark.parametrize("mixed", [False, True])
def test_weights_are_torchs_to_the_bit(mixed):
    """Groups, clipping by grad_scale, a step left out, parameters of two precisions."""
    ours, optimizer, theirs, other = pair(mixed)
    steps(6, ours, optimizer, theirs, other)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)
        assert all(torch.equal(v, other.state[b][k]) for k, v in optimizer.state[a].items())


def test_each_reads_the_others_state():
    """A checkpoint with torch's Adam goes on with this one, and the other way round, to the bit."""
    ours, optimizer, theirs, other = pair()
    steps(3, ours, optimizer, theirs, other)
    mine, torchs = optimizer.state_dict(), other.state_dict()
    optimizer.load_state_dict(copy.deepcopy(torchs))
    other.load_state_dict(copy.deepcopy(mine))
    steps(3, ours, optimizer, theirs, other, seed=2)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_state_of_other_groups_is_refused():
    """Moments never reach parameters that they do not belong to."""
    _, optimizer, _, _ = pair()
    with pytest.raises(ValueError, match="other parameter groups"):
        FusedAdam([torch.nn.Parameter(torch.zeros(2))], **SETTINGS).load_state_dict(
            optimizer.state_dict()
        )


def test_gradients_are_dropped_or_zeroed():
    """As torch's zero_grad."""
    parameter = torch.nn.Parameter(torch.zeros(2))
    optimizer = FusedAdam([parameter], **SETTINGS)
    parameter.grad = torch.ones(2)
    optimizer.zero_grad(set_to_none=False)
    assert parameter.grad.tolist() == [0, 0]
    optimizer.zero_grad()
    assert parameter.grad is None


def test_a_step_does_not_import_torchs_compiler():
    """It would cost 140 MiB and a second of every run."""
    code = (
        "import sys, torch; from saecore_plugins.optimizers.fused_adam import FusedAdam;"
        "p = torch.nn.Parameter(torch.ones(2)); o = FusedAdam([p], 0.1, (0.9, 0.99), 1e-8, 0.0);"
        "p.grad = torch.ones(2); o.step(); o.zero_grad(); o.load_state_dict(o.state_dict());"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
