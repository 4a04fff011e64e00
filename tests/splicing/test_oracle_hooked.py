"""Hooked runs give the recorded logits and caches, on the bridge and on a plain model."""

import pytest
import torch
from safetensors.torch import load_file

from saecore import splice
from tests.splicing.models import hooked, plain, recorded

pytestmark = pytest.mark.oracle
NAMES = ("resid", "mlp", "z")


@pytest.fixture(scope="module")
def record(request):
    """The recorded tensors."""
    return load_file(request.config.getoption("--oracle") / "model" / "hooked.safetensors")


@pytest.fixture(scope="module")
def root(request):
    """The directory of model and SAEs."""
    return request.config.getoption("--oracle") / "model"


def splicing(model):
    """A plain model's logits and cache with SAEs."""
    return lambda tokens, saes, error: splice(model, saes, use_error_term=error).run_with_cache(
        tokens
    )


def hooking(model):
    """The bridge's, only the SAEs' part of the cache."""

    def run(tokens, saes, error):
        logits, cache = model.run_with_cache_with_saes(tokens, saes=saes, use_error_term=error)
        return logits, {name: one for name, one in cache.items() if ".hook_sae_" in name}

    return run


@pytest.fixture(scope="module", params=["transformers", "bridge"])
def front(request, root):
    """A way to run the model by itself, and one to run it with SAEs."""
    if request.param == "bridge":
        model = hooked(root)
        return model, hooking(model)
    model = plain(root)
    return lambda tokens: model(tokens).logits, splicing(model)


@pytest.mark.parametrize("error", [False, True], ids=["without error", "with error"])
@pytest.mark.parametrize("name", [*NAMES, "all"])
@torch.no_grad()
def test_hooked_runs(front, record, root, name, error):
    """Logits and every recorded tensor agree, no other names are there; with error terms the model
    runs as without SAEs, and behind the run it does so to the bit.
    """
    run_plain, run = front
    tokens = record["tokens"]
    before = run_plain(tokens)
    saes = [recorded(one, root) for one in (NAMES if name == "all" else [name])]
    logits, cache = run(tokens, saes, error)
    expected = record[f"logits/{name}/error={error}"]
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    if error:
        torch.testing.assert_close(logits, before, atol=1e-5, rtol=1e-5)
    if name != "all":
        start = f"cache/{name}/error={error}/"
        entries = {key.removeprefix(start) for key in record if key.startswith(start)}
        assert entries == set(cache)
        for key in entries:
            torch.testing.assert_close(cache[key], record[start + key], atol=1e-4, rtol=1e-4)
    assert torch.equal(run_plain(tokens), before)
