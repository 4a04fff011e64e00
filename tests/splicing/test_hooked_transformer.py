"""`HookedSAETransformer`: what stays, what goes, and what TransformerLens' own calls see."""

import warnings

import pytest
import torch

from saecore import HookedSAETransformer, splice
from saecore.errors import ConfigError, ModelError
from saecore_plugins.models.tiny_lm import DIRECTORY
from tests.splicing.models import HOOK, MLP, MLP_IN, TOKENS, hooked, plain, random_sae, recorded
from tests.splicing.test_splice import SEVERAL, TOPK

POST = f"{HOOK}.hook_sae_acts_post"


@pytest.fixture(scope="module")
def shared():
    """One model; every test leaves it without SAEs."""
    return hooked()


@pytest.fixture
def model(shared):
    """The model, and a look at it afterwards."""
    before = shared(TOKENS)
    yield shared
    shared.reset_saes()
    assert torch.equal(shared(TOKENS), before)
    assert not any(".hook_sae_" in name for name in shared.hook_dict)


@pytest.fixture(scope="module")
def embedded():
    """The embedded model by its name."""
    return HookedSAETransformer.from_pretrained("tiny_lm")


@torch.no_grad()
def test_add_and_reset(model):
    """SAEs stay until they are taken out; one takes the place of another at the same hook, whatever
    the hook's name; all of them, or some by name.
    """
    plain_logits = model(TOKENS)
    resid, mlp = recorded("resid"), recorded("mlp")
    model.add_sae(resid)
    one = model(TOKENS)
    assert not torch.equal(one, plain_logits)
    assert model.acts_to_saes == {HOOK: resid}
    assert POST in model.hook_dict
    torch.testing.assert_close(model.run_with_saes(TOKENS, saes=[resid]), one, atol=0, rtol=0)
    model.add_sae(mlp)
    both = model(TOKENS)
    with model.saes([random_sae(TOPK, hook_name="blocks.1.hook_in")]):
        assert set(model.acts_to_saes) == {"blocks.1.hook_in", MLP}
        assert POST not in model.hook_dict
        assert not torch.equal(model(TOKENS), both)
    assert torch.equal(model(TOKENS), both)
    model.reset_saes(MLP)
    assert torch.equal(model(TOKENS), one)
    with pytest.raises(ConfigError, match=f"no SAE at '{MLP}' .SAEs at {HOOK}"):
        model.reset_saes([HOOK, MLP])
    model.reset_saes([HOOK])
    assert torch.equal(model(TOKENS), plain_logits)


@torch.no_grad()
def test_runs_leave_what_was_there(model):
    """`saes`, `run_with_saes` and the others put back what they found, also after an error, unless
    they are told to leave the SAEs in.
    """
    model.add_sae(recorded("resid"), use_error_term=True)
    exact = model(TOKENS)
    inside = model.run_with_saes(TOKENS, saes=[recorded("resid")])
    assert not torch.allclose(inside, exact, atol=1e-3)
    with pytest.raises(ZeroDivisionError), model.saes(saes=[recorded("mlp")]):
        raise ZeroDivisionError
    with pytest.raises(ModelError, match=r"no hook 'blocks.9.hook_mlp_out'; did you mean"):
        model.add_sae(random_sae(TOPK, hook_name="blocks.9.hook_mlp_out"))
    assert torch.equal(model(TOKENS), exact)
    left = model.run_with_saes(TOKENS, saes=[recorded("mlp")], reset_saes_end=False)
    assert torch.equal(model(TOKENS), left)
    assert set(model.acts_to_saes) == {HOOK, MLP}


@torch.no_grad()
def test_hooks_of_saes(model):
    """Functions at an SAE's hooks work as at others: for one run, and until `reset_hooks`; a cache
    can be asked for some names; the model's own hook shows what goes on.
    """
    sae = recorded("resid")

    def ablate(value, hook):
        value[..., :] = 0
        return value

    hooks = [(POST, ablate)]
    changed = model.run_with_hooks_with_saes(TOKENS, saes=[sae], fwd_hooks=hooks)
    expected = splice(plain(), sae).run(TOKENS, hooks={POST: torch.zeros_like})
    torch.testing.assert_close(changed, expected, atol=1e-4, rtol=1e-4)
    model.add_sae(sae)
    before = model(TOKENS)
    model.add_hook(POST, ablate)
    assert torch.equal(model(TOKENS), changed)
    model.reset_hooks()
    assert torch.equal(model(TOKENS), before)
    logits, cache = model.run_with_cache(TOKENS, names_filter=[POST, HOOK])
    assert torch.equal(logits, before)
    assert set(cache) >= {POST, HOOK}
    output = model.run_with_cache(TOKENS)[1][f"{HOOK}.hook_sae_output"]
    assert torch.equal(cache[HOOK], output)


@torch.no_grad()
def test_transcoders_and_several_hooks(model):
    """The same logits as in a plain model, with the model's own call too; skip weights apply."""
    skip = {"table": {"architecture": "skip_transcoder"}, "hook_name": MLP_IN, "hook_name_out": MLP}
    for site in (skip, *SEVERAL.values()):
        sae = random_sae(**site)
        expected = splice(plain(), sae).run(TOKENS)
        logits, cache = model.run_with_cache_with_saes(TOKENS, saes=sae)
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
        assert f"{(*model_targets(site),)[0]}.hook_sae_acts_post" in cache
        model.add_sae(sae)
        torch.testing.assert_close(model(TOKENS), expected, atol=1e-4, rtol=1e-4)
        model.reset_saes()


def model_targets(site):
    """The hooks that an SAE replaces."""
    return site.get("hook_names_out") or site.get("hook_names") or (site["hook_name_out"],)


@torch.no_grad()
def test_loading(embedded):
    """By name, by directory, and processed, which changes activations and not logits; from a bridge
    of TransformerLens' own making; what cannot be is refused.
    """
    tokens = embedded.to_tokens("def mean(values):")
    directory = HookedSAETransformer.from_pretrained_no_processing(DIRECTORY)
    assert torch.equal(directory(tokens), embedded(tokens))
    processed = HookedSAETransformer.from_pretrained("tiny_lm", processed=True)
    hook = "blocks.2.hook_resid_post"
    found = [one.run_with_cache(tokens)[1][hook] for one in (embedded, processed)]
    assert not torch.allclose(*found, atol=1e-2)
    logits = [one(tokens).log_softmax(-1) for one in (embedded, processed)]
    torch.testing.assert_close(*logits, atol=1e-3, rtol=1e-3)
    sae = random_sae(TOPK, d_in=256, hook_name=hook)
    assert not torch.equal(processed.run_with_saes(tokens, saes=[sae]), processed(tokens))
    booted = HookedSAETransformer.boot_transformers(str(DIRECTORY), device="cpu")
    torch.testing.assert_close(booted.run_with_saes(tokens, saes=[sae], use_error_term=True),
                               embedded(tokens), atol=1e-3, rtol=1e-3)  # fmt: skip
    with pytest.raises(ConfigError, match="dtype: expected one of float32"):
        HookedSAETransformer.from_pretrained("tiny_lm", dtype="int8")
    with pytest.raises(ModelError, match=r"has no config\.json"):
        HookedSAETransformer.from_pretrained(DIRECTORY.parent)


@torch.no_grad()
def test_generation(embedded):
    """A steered model writes another text, the same with a key-value cache as without one, on both
    fronts; positions count from the beginning of the context.
    """
    import transformers

    sae = random_sae(TOPK, d_in=256, hook_name="blocks.2.hook_resid_post", seqpos_slice=[1, None])
    tokens = embedded.to_tokens("def mean(values):", prepend_bos=False)
    options = {"max_new_tokens": 8, "do_sample": False}
    free = embedded.generate(tokens, verbose=False, **options)
    texts = []
    with embedded.saes(sae, steer={3: 40.0}):
        for cached in (True, False):
            texts.append(
                embedded.generate(tokens, verbose=False, use_past_kv_cache=cached, **options)
            )
    model = transformers.AutoModelForCausalLM.from_pretrained(DIRECTORY)
    with splice(model, sae, steer={3: 40.0}):
        for cached in (True, False):
            texts.append(model.generate(tokens, use_cache=cached, **options))
    assert all(torch.equal(one, texts[0]) for one in texts)
    assert not torch.equal(texts[0], free)


@torch.no_grad()
def test_convention():
    """An SAE of the other convention warns once a model, naming both; the right one does not."""
    model, other = hooked(), plain()
    raw, processed = (
        random_sae(TOPK, hook_name=HOOK, activation_convention=one) for one in ("raw", "processed")
    )
    with pytest.warns(UserWarning, match="trained on processed .* of recorded are raw"):
        model.run_with_saes(TOKENS, saes=[processed])
    with pytest.warns(UserWarning, match="trained on processed activations"):
        splice(other, processed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for one in (raw, processed, recorded("resid")):
            model.run_with_saes(TOKENS, saes=[one])
            splice(other, one)
