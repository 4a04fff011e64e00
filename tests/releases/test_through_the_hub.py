"""Every recorded repository is read from the hub as it is from a directory."""

import warnings

import pytest
import torch

from saecore import SAE
from saecore.releases.build import weights
from saecore.releases.load import load
from saecore.storage.hub import Hub
from tests.releases.cases import cases

pytestmark = pytest.mark.oracle


def pytest_generate_tests(metafunc):
    """One test a case."""
    found = cases(metafunc.config.getoption("--oracle"))
    metafunc.parametrize("case", found, ids=lambda one: one.name)


def test_as_from_a_directory(case, hub):
    """The same weights, configuration and features; the commit is recorded; the files that are
    downloaded are those of the SAE, not those of the whole repository.
    """
    name = case.record["repo_id"]
    if ":" in name:  # not on the hub
        name = "openai/sparse-autoencoder"
    copy = case.files()
    copy.name = name
    commit = hub.put(name, {"another/file.bin": b"x", **files(case.root / "repo")})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        local = load(copy, case.path, facts=case.facts, dtype="float32")
        loaded = load(Hub(name), case.path, facts=case.facts, dtype="float32")
        if case.record["norm_scaling_factor"] is None and not case.facts.overrides:
            again = SAE.from_pretrained(name, case.path).sae
            assert torch.equal(weights(again)["W_dec"], weights(local.sae)["W_dec"])
    for key, tensor in weights(local.sae).items():
        assert torch.equal(weights(loaded.sae)[key], tensor)
    source = loaded.cfg_dict["metadata"].pop("source")
    assert (source["commit"], source["format"]) == (commit, case.plugin)
    assert loaded.cfg_dict == local.cfg_dict
    x = case.tensors()["x"]
    assert torch.equal(loaded.sae.encode(x), local.sae.encode(x))
    assert not any("another" in one for one in hub.asked if "/resolve/" in one)


def files(root):
    """Content of files by their names."""
    return {
        one.relative_to(root).as_posix(): one.read_bytes()
        for one in root.rglob("*")
        if one.is_file()
    }
