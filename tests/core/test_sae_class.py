"""docs/explanation/sae-class.md lists every public member of the SAE class, in the right table."""

import re
from pathlib import Path

import numpy
import pytest
import torch
from torch import nn

from saecore import SAE
from saecore.testing.fakes import D_IN, D_SAE, plain_sae

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "sae-class.md"
DATA = {"encoder", "b_enc", "W_dec", "b_dec", "activation", "last_restore"}
"""What instances have; a subclass assigns to it."""


def members():
    """Public members of SAE and its bases (not nn.Module) -> whether a subclass may override."""
    found = {}
    for cls in (_files(), *reversed(SAE.__mro__[: SAE.__mro__.index(nn.Module)])):
        for name in {*vars(cls), *vars(cls).get("__annotations__", {})}:
            if not name.startswith("_"):
                member = vars(cls).get(name)
                function = getattr(member, "fget", None) or member
                found[name] = name not in DATA and not getattr(function, "__final__", False)
    return found


def _files():
    (files,) = (cls for cls in SAE.__mro__ if cls.__name__ == "SAEFiles")
    return files


def listed(heading):
    """Names in the first column of the table below a heading."""
    section = PAGE.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)


def test_every_member_that_may_be_overridden_is_listed():
    """A new public method or class attribute of SAE needs a row, or @final."""
    names = listed("Members that a subclass may override")
    assert len(names) == len(set(names))
    assert set(names) == {name for name, overridable in members().items() if overridable}


def test_every_other_member_is_listed():
    """Final methods, parameters and state have a row in the second table."""
    names = listed("Members to rely on")
    assert len(names) == len(set(names))
    assert set(names) == {name for name, overridable in members().items() if not overridable}


def test_no_architecture_overrides_a_final_member():
    """@final holds for the installed architectures."""
    from saecore.plugins import current_host

    final = {name for name, overridable in members().items() if not overridable} - DATA
    for name in current_host().names("architecture"):
        cls = current_host().component("architecture", name).builder()
        assert not final & {
            key for base in cls.__mro__[: cls.__mro__.index(SAE)] for key in vars(base)
        }


@pytest.mark.parametrize(
    ("method", "size"),
    [("encode", D_IN), ("encode_sparse", D_IN), ("forward", D_IN), ("decompose", D_IN),
     ("decode", D_SAE)],
)  # fmt: skip
def test_arrays_are_refused_in_one_line(method, size):
    """What is not a tensor is named, with the function that makes one."""
    for value, name in ((numpy.zeros((2, size)), "numpy.ndarray"), ([0.0] * size, "list")):
        with pytest.raises(TypeError) as refused:
            getattr(plain_sae(), method)(value)
        assert str(refused.value) == (
            f"expected a torch.Tensor, got {name}; torch.as_tensor(x) makes one"
        )


@pytest.mark.parametrize(
    ("convert", "dtype", "device"),
    [(lambda sae: sae.to(torch.bfloat16), "bfloat16", "cpu"),
     (lambda sae: sae.half(), "float16", "cpu"),
     (lambda sae: sae.float(), "float32", "cpu"),
     (lambda sae: nn.Sequential(sae).double(), "float64", "cpu"),
     (lambda sae: sae.to("meta", torch.float32), "float32", "meta")],
)  # fmt: skip
def test_cfg_follows_the_weights(convert, dtype, device):
    """Every way to convert or move the weights shows in cfg; the rest of cfg stays."""
    sae = plain_sae(torch.float32)
    before = sae.cfg
    convert(sae)
    assert (sae.cfg.dtype, sae.cfg.device) == (dtype, device)
    assert sae.cfg.metadata == before.metadata
    assert (before.dtype, before.device) == ("float32", "cpu")
