"""The optimizers: their updates against second derivations, rows that are forgotten."""

import sys

import pytest
import torch
from torch import nn

from saecore.errors import PluginError
from saecore.plugins.structure import structure_choice
from saecore.storage import checkpoint
from saecore.training.optimizer_steps import reset_rows


def make(table, *parameters, lr=0.1):
    """An optimizer over parameters in one group."""
    groups = [{"params": list(parameters), "lr": lr, "lr_factor": 1.0}]
    return structure_choice("optimizer", table).build(groups, lr)


def parameters(*sizes):
    """Random parameters in float64."""
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(size).double()) for size in sizes]


def gradients(parameter, steps):
    """Some gradients of a parameter."""
    torch.manual_seed(1)
    return [torch.randn_like(parameter) for _ in range(steps)]


@pytest.mark.parametrize("table", ["adam", "signum", "muon"])
def test_a_learning_rate_of_zero_moves_nothing(table):
    """Parameters given without groups keep their bits while the rate is 0, and move after."""
    matrix, vector = parameters((5, 3), (5,))
    optimizer = structure_choice("optimizer", table).build([matrix, vector], 0.1)
    for lr, moves in ((0.0, False), (0.1, True), (0.0, False)):
        before = [matrix.detach().clone(), vector.detach().clone()]
        for _ in range(3):
            for group in optimizer.param_groups:
                group["lr"] = lr
            matrix.grad, vector.grad = torch.ones_like(matrix), torch.ones_like(vector)
            optimizer.step()
        for old, new in zip(before, (matrix, vector), strict=True):
            assert torch.equal(old, new) is not moves


# -- signum --------------------------------------------------------------------------------


@pytest.mark.parametrize("rates", [[0.1] * 6, [0.02, 0.04, 0.06, 0.06, 0.03, 0.0], [0.0, 0.1]])
def test_signum_is_the_three_sequences_of_the_paper(rates):
    """Parameters and average equal y and x of the algorithm written with z, x and y kept apart,
    for constant, changing and zero learning rates.
    """
    (p,) = parameters((4, 3))
    optimizer = make({"type": "signum", "momentum": 0.9}, p)
    z = x = y = p.detach().clone()
    weight = 0.0
    for lr, gradient in zip(rates, gradients(p, len(rates)), strict=True):
        optimizer.param_groups[0]["lr"] = lr
        p.grad = gradient
        optimizer.step()
        z = z - lr * gradient.sign()
        weight += lr**2
        c = lr**2 / weight if lr else 0.0
        x = (1 - c) * x + c * z
        y = (1 - 0.9) * z + 0.9 * x
        torch.testing.assert_close(p.detach(), y)
        with optimizer.averaged():
            torch.testing.assert_close(p.detach(), x)
        torch.testing.assert_close(p.detach(), y)


def test_signum_gives_the_weights_back():
    """After the context of the average the parameters have their own bits."""
    (p,) = parameters((4, 3))
    optimizer = make("signum", p)
    with optimizer.averaged():
        pass  # before the first step there is no average
    for gradient in gradients(p, 3):
        p.grad = gradient
        optimizer.step()
    before = p.detach().clone()
    with optimizer.averaged():
        assert not torch.equal(p, before)
    assert torch.equal(p, before)
    with pytest.raises(KeyError), optimizer.averaged():
        raise KeyError
    assert torch.equal(p, before)


def test_signum_rows_start_afresh():
    """After a reset the average of a row is the row's present value; other rows are as before."""
    (p,) = parameters((4, 3))
    optimizer = make("signum", p)
    for gradient in gradients(p, 3):
        p.grad = gradient
        optimizer.step()
    with optimizer.averaged():
        average = p.detach().clone()
    with torch.no_grad():
        p[1] = 7.0
    reset_rows(optimizer, p, torch.tensor([1]))
    with optimizer.averaged():
        assert torch.equal(p[1], torch.full((3,), 7.0).double())
        torch.testing.assert_close(p[[0, 2, 3]].detach(), average[[0, 2, 3]])


# -- muon ----------------------------------------------------------------------------------


def test_muon_orthogonalises_matrices():
    """The first step of a matrix is lr · √(rows / columns) times a matrix with the gradient's
    singular vectors and singular values near 1 (0.6 to 1.3: five steps of the quintic).
    """
    (p,) = parameters((8, 4))
    before = p.detach().clone()
    optimizer = make("muon", p)
    p.grad = gradients(p, 1)[0] * torch.tensor([10.0, 2.0, 1.0, 1.0]).double()
    u, s, v = torch.linalg.svd(p.grad, full_matrices=False)
    assert s[0] / s[-1] > 5
    optimizer.step()
    step = (before - p.detach()) / (0.1 * 2**0.5)
    values = (u.t() @ step @ v.t()).diagonal()
    assert bool(((values > 0.6) & (values < 1.3)).all())
    assert float((step - u @ torch.diag(values) @ v).norm()) < 0.1


def test_muon_leaves_vectors_to_adam():
    """Biases move as under Adam with the same settings; factors of groups are kept."""
    matrix, ours, theirs = parameters((4, 3), (5,), (5,))
    with torch.no_grad():
        theirs.copy_(ours)
    optimizer = make("muon", matrix, ours)
    adam = torch.optim.Adam([theirs], lr=0.1)
    for gradient in gradients(ours, 3):
        matrix.grad, ours.grad, theirs.grad = torch.ones_like(matrix), gradient, gradient.clone()
        optimizer.step()
        adam.step()
    torch.testing.assert_close(ours, theirs)
    assert [group["lr_factor"] for group in optimizer.param_groups] == [1.0, 1.0]
    optimizer.zero_grad()
    assert matrix.grad is ours.grad is None


def test_muon_forgets_rows():
    """The momentum of a matrix and the moments of a vector lose the rows asked for."""
    matrix, vector = parameters((4, 3), (4,))
    optimizer = make("muon", matrix, vector)
    matrix.grad, vector.grad = torch.ones_like(matrix), torch.ones_like(vector)
    optimizer.step()
    for one in (matrix, vector):
        reset_rows(optimizer, one, torch.tensor([2]))
        moments = [v for v in optimizer.state[one].values() if v.shape == one.shape]
        assert moments
        for moment in moments:
            assert moment.reshape(4, -1).any(1).tolist() == [True, True, False, True]


# -- adam8bit ------------------------------------------------------------------------------


def test_adam8bit_without_bitsandbytes(monkeypatch):
    """One line that says what to install, or what to use instead."""
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(PluginError) as caught:
        make("adam8bit", *parameters((2, 2)))
    message = str(caught.value)
    assert message.startswith("training.optimizer: adam8bit needs bitsandbytes")
    assert 'type = "adam"' in message
    assert "\n" not in message


def test_adam8bit_is_adam_nearly():
    """It moves large matrices as Adam does, up to its 8 bits; forgetting rows makes their next
    step as small as one without momentum.
    """
    pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    ours = nn.Parameter(torch.zeros(128, 64))
    theirs = nn.Parameter(torch.zeros(128, 64))
    optimizer, adam = make("adam8bit", ours), torch.optim.Adam([theirs], lr=0.1)
    for _ in range(5):
        ours.grad = 1 + 0.1 * torch.randn(128, 64)
        theirs.grad = ours.grad.clone()
        optimizer.step()
        adam.step()
    assert float((ours - theirs).detach().norm() / theirs.detach().norm()) < 0.05
    assert optimizer.state[ours]["state1"].dtype == torch.uint8
    before = ours.detach().clone()
    reset_rows(optimizer, ours, torch.arange(10))
    ours.grad = torch.zeros_like(ours)
    optimizer.step()
    moved = (ours.detach() - before).abs().mean(1)
    assert float(moved[:10].max()) < 1e-3
    assert float(moved[10:].min()) > 1e-2


def test_adam8bit_round_trip(tmp_path):
    """Moments of 8 bits survive a checkpoint: the next steps have the same bits."""
    pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    ours = nn.Parameter(torch.randn(128, 64))
    optimizer = make("adam8bit", ours)
    steps = [torch.randn(128, 64) for _ in range(6)]
    for gradient in steps[:3]:
        ours.grad = gradient
        optimizer.step()
    path = checkpoint.save(tmp_path, 3, {"optimizer": optimizer.state_dict()}, keep=2)
    other = nn.Parameter(ours.detach().clone())
    again = make("adam8bit", other)
    again.load_state_dict(checkpoint.load(path)["optimizer"])
    for gradient in steps[3:]:
        ours.grad, other.grad = gradient, gradient.clone()
        optimizer.step()
        again.step()
    assert torch.equal(ours, other)
