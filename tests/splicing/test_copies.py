"""Caches hold what the model had at a hook, whatever it writes into its tensors later."""

import pytest
import torch

from saecore import splice
from saecore.splicing.cached_copies import CopyTo
from tests.models.overwriting import HOOKS, TOKENS, overwriting, toy
from tests.models.test_copies import SITES, site_sae
from tests.splicing import models


@pytest.fixture(scope="module")
def in_place():
    """The model that overwrites its tensors."""
    return toy()


@pytest.fixture(scope="module")
def twin():
    """The model that does not."""
    return toy(in_place=False)


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("use_error_term", [False, True])
@pytest.mark.parametrize("kind", SITES)
def test_splice(in_place, twin, kind, use_error_term, gradients):
    """Logits and caches of SAE and model are those of the twin; functions may keep tensors."""
    sae = site_sae(kind)
    seen = {}
    with torch.set_grad_enabled(gradients):
        spliced = splice(in_place, sae, use_error_term=use_error_term)
        names = [*spliced.names, *HOOKS]

        def keep(name):
            return lambda value: seen.__setitem__(name, value)

        logits, cache = spliced.run_with_cache(TOKENS, names)
        kept_logits = spliced.run(TOKENS, hooks={name: keep(name) for name in names})
        other = splice(twin, sae, use_error_term=use_error_term)
        expected_logits, expected = other.run_with_cache(TOKENS, names)
    torch.testing.assert_close(logits, expected_logits)
    torch.testing.assert_close(kept_logits, expected_logits)
    assert list(cache) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(cache[name], value, msg=lambda text, at=name: f"{at}: {text}")
        torch.testing.assert_close(seen[name], value, msg=lambda text, at=name: f"{at}: {text}")
        differentiable = gradients and not name.endswith("hook_sae_error")
        assert cache[name].requires_grad == differentiable, name


def test_gradients_of_cached_tensors(twin):
    """The logits are differentiable with respect to every cached tensor that the model keeps."""
    names = [*HOOKS, *splice(twin, site_sae("sae")).names]
    logits, cache = splice(twin, site_sae("sae")).run_with_cache(TOKENS, names)
    shown = [cache[name] for name in names if not name.endswith("acts_pre")]
    for gradient in torch.autograd.grad(logits.sum(), shown):
        assert gradient.any()


def test_functions_write_only_where_they_are(twin):
    """A function that writes into the output leaves the cached reconstruction alone."""
    spliced = splice(twin, site_sae("sae"))
    name = SITES["sae"]["hook_name"]
    recons = f"{name}.hook_sae_recons"
    with torch.no_grad():
        clean = spliced.run_with_cache(TOKENS, [recons])[1][recons]
        write = {f"{name}.hook_sae_output": torch.Tensor.zero_}
        assert torch.equal(spliced.run_with_cache(TOKENS, [recons], write)[1][recons], clean)


@pytest.mark.parametrize("gradients", [False, True])
def test_bridge_caches(gradients):
    """All caches of a bridge with an SAE, a transcoder and a crosscoder in it."""
    model = models.hooked()
    several = models.random_sae(
        {"architecture": "crosscoder"}, d_in=48, hooks=2,
        hook_names=["blocks.0.hook_resid_post", "blocks.2.hook_resid_post"],
    )  # fmt: skip
    transcoder = models.random_sae(
        {"architecture": "transcoder"}, hook_name=models.MLP_IN, hook_name_out=models.MLP
    )
    model.add_sae(transcoder)
    model.add_sae(several)
    model.add_sae(models.recorded("z"), use_error_term=True)

    def added():
        cache = model.add_caching_hooks()
        model(models.TOKENS)
        model.reset_hooks()
        return cache

    def spliced():
        names = ["blocks.1.hook_resid_pre", models.MLP_IN]
        return splice(model, []).run_with_cache(models.TOKENS, names)[1]

    paths = (
        lambda: model.run_with_cache(models.TOKENS)[1],
        lambda: model.run_with_cache_with_saes(models.TOKENS, saes=[models.recorded("resid")])[1],
        lambda: model.run_with_cache(models.TOKENS, device="cpu", return_cache_object=False)[1],
        added,
        spliced,
    )
    with torch.set_grad_enabled(gradients):
        for path in paths:
            expected = {name: value.clone() for name, value in path().items()}
            with overwriting(model, "transformer.ln_f"):
                cache = path()
            assert set(cache.keys()) == set(expected)
            for name, value in cache.items():
                assert torch.equal(value, expected[name]), name


def test_one_copy_for_all_names_of_a_hook():
    """A hook has several names; its tensor is copied once, and again after it was written to."""
    tensor, device = torch.ones(3), CopyTo()
    first, second = tensor.detach().to(device), tensor.detach().to(device)
    assert first is second
    tensor.mul_(2)
    assert tensor.detach().to(device).tolist() == [2, 2, 2]
    assert first.tolist() == [1, 1, 1]
    with torch.inference_mode():
        assert torch.ones(3).to(device).tolist() == [1, 1, 1]
