"""Groups with factors, and rows that an optimizer forgets."""

import pytest
import torch
from torch import nn

from saecore.core.sae_config import Shape
from saecore.errors import ConfigError, PluginError
from saecore.plugins.structure import structure_choice
from saecore.training.optimizer_steps import parameter_groups, reset_rows


def sae():
    """A small SAE."""
    table = {"architecture": "topk", "k": 2}
    return structure_choice("architecture", table).build(Shape(4, 4, 6))


def test_groups_by_factor():
    """Parameters of one factor share a group; W_enc is the encoder's name, as in files."""
    one = sae()
    groups = parameter_groups(one, 0.1, {"W_enc": 0.5, "b_dec": 0.5})
    found = {group["lr_factor"]: {id(p) for p in group["params"]} for group in groups}
    assert found == {
        0.5: {id(one.encoder), id(one.b_dec)},
        1.0: {id(one.W_dec), id(one.b_enc)},
    }
    assert {group["lr_factor"]: group["lr"] for group in groups} == {0.5: 0.05, 1.0: 0.1}


def test_without_factors_there_is_one_group():
    """The usual run has one group with every parameter."""
    (group,) = parameter_groups(sae(), 0.1, {})
    assert len(group["params"]) == 4


def test_unknown_names_are_refused():
    """All of them, with the names there are."""
    with pytest.raises(ConfigError) as caught:
        parameter_groups(sae(), 0.1, {"b_encc": 1.0, "x": 1.0})
    assert [line.split(":")[0] for line in caught.value.problems] == [
        "training.lr_factors.b_encc",
        "training.lr_factors.x",
    ]


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.Adam(p, lr=0.1),
        lambda p: torch.optim.Adam(p, lr=0.1, amsgrad=True),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        lambda p: torch.optim.Adagrad(p, lr=0.1),
    ],
)
def test_every_state_of_the_rows_is_zeroed(make):
    """Rows of the state are zero, other rows, other parameters and counts are as before."""
    torch.manual_seed(0)
    matrix, vector, other = (nn.Parameter(torch.randn(*size)) for size in ((5, 3), (5,), (5, 3)))
    optimizer = make([matrix, vector, other])
    for one in (matrix, vector, other):
        one.grad = torch.randn_like(one)
    optimizer.step()
    before = {p: {k: v.clone() for k, v in s.items() if isinstance(v, torch.Tensor)}
              for p, s in optimizer.state.items()}  # fmt: skip
    rows = torch.tensor([1, 4])
    reset_rows(optimizer, matrix, rows)
    reset_rows(optimizer, vector, rows)
    kept = torch.tensor([0, 2, 3])
    touched = 0
    for parameter, state in before.items():
        for name, old in state.items():
            new = optimizer.state[parameter][name]
            if parameter is other or old.shape != parameter.shape:
                assert torch.equal(new, old)
                continue
            assert torch.equal(new[kept], old[kept])
            assert not new[rows].any()
            touched += 1
    assert touched >= 2


def test_before_the_first_step_there_is_nothing_to_forget():
    """An optimizer without state is left as it is."""
    parameter = nn.Parameter(torch.ones(3, 2))
    optimizer = torch.optim.Adam([parameter])
    reset_rows(optimizer, parameter, torch.tensor([0]))
    assert not optimizer.state


def test_an_optimizer_with_its_own_way_is_asked():
    """`reset_rows` of the optimizer takes the place of zeroing."""

    class Own(torch.optim.SGD):
        def reset_rows(self, parameter, latents):
            """Remember the call."""
            self.called = (parameter, latents)

    parameter, rows = nn.Parameter(torch.ones(3, 2)), torch.tensor([2])
    optimizer = Own([parameter], lr=0.1)
    reset_rows(optimizer, parameter, rows)
    assert optimizer.called == (parameter, rows)


def test_quantized_state_is_not_zeroed_blindly():
    """Zeros of a code book need not mean 0: refused with what is missing."""
    parameter = nn.Parameter(torch.ones(3, 2))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    optimizer.state[parameter]["state1"] = torch.full((3, 2), 7, dtype=torch.uint8)
    with pytest.raises(PluginError, match=r"'state1' \(torch\.uint8\).*reset_rows"):
        reset_rows(optimizer, parameter, torch.tensor([0]))
    assert bool((optimizer.state[parameter]["state1"] == 7).all())
