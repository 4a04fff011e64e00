"""`saecore convert`: the same function in another format, or a refusal that says why."""

import json
import pickle
from pathlib import Path

import pytest
import torch

from saecore.cli import main
from saecore.errors import ReleaseError
from saecore.releases.convert import convert, find, load, writer
from saecore.releases.load import Loaded
from tests.releases.saes import ALL, KINDS, kind

NAMES = {"standard, hook_z": "gemma-scope-2b-pt-att"}
"""Directories whose name must say another site, for Gemma Scope."""

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def read(place):
    """What was written at a place."""
    return load(*find(place), dtype="float32").sae


def as_loaded(sae):
    """An SAE as if it had been read."""
    return Loaded(sae, {}, None)


def features_and_reconstruction(sae, x):
    """Both, without gradients."""
    with torch.no_grad():
        return sae.encode(x), sae(x)


@pytest.mark.parametrize("target", sorted(ALL))
@pytest.mark.parametrize("name", KINDS)
def test_round_trip_or_refusal(name, target, tmp_path):
    """Features and reconstructions survive wherever a format can express an SAE, and once more when
    what was written is converted again; elsewhere nothing is written, and the message names key and
    value.
    """
    sae, out = kind(name), tmp_path / NAMES.get(name, "gemma-scope-2b-pt-res")
    given = {key: one.clone() for key, one in sae.state_dict().items()}
    if target not in KINDS[name][1]:
        with pytest.raises(ReleaseError, match=r"\w+ = .* cannot be expressed in the format"):
            convert(as_loaded(sae), target, out)
        assert list(tmp_path.iterdir()) == []
        return
    convert(as_loaded(sae), target, out)
    assert all(torch.equal(given[key], one) for key, one in sae.state_dict().items())
    again = read(out)
    x = torch.randn(3, 8, sae.cfg.d_in)
    wanted = features_and_reconstruction(sae.to_inference().eval(), x)
    assert wanted[0].count_nonzero() > 20
    got = features_and_reconstruction(again, x)
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)
    convert(as_loaded(again), target, tmp_path / "again" / out.name)
    twice = features_and_reconstruction(read(tmp_path / "again" / out.name), x)
    for one, other in zip(twice, got, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
    assert again.cfg.reshape_activations == sae.cfg.reshape_activations
    assert again.cfg.hook_name == sae.cfg.hook_name
