"""SAEs of every kind in a plain model: what comes out, and what is refused."""

import pytest
import torch

from saecore import splice
from saecore.errors import ConfigError, ModelError
from saecore.models.huggingface import HuggingFaceBackend
from tests.models.tiny import make, tokenizer
from tests.splicing.models import HOOK, MLP, MLP_IN, TOKENS, Z, plain, random_sae, recorded

POST = f"{HOOK}.hook_sae_acts_post"
TOPK = {"architecture": "topk", "k": 6, "rescale_acts_by_decoder_norm": False}
HERE = {"hook_name": HOOK}
ONE_HOOK = {
    "abstopk": {"table": {"architecture": "abstopk", "k": 6}, **HERE},
    "gated": {"table": {"architecture": "gated"}, **HERE},
    "groupmax": {"table": {"architecture": "groupmax", "k": 6}, **HERE},
    "identity": {"table": {"architecture": "identity"}, "d_sae": 24, **HERE},
    "jumprelu": {"table": {"architecture": "jumprelu"}, **HERE},
    "matching_pursuit": {
        "table": {"architecture": "matching_pursuit", "max_iterations": 4}, **HERE
    },
    "pca": {"table": {"architecture": "pca", "k": 6}, "d_sae": 20, **HERE},
    "standard": {"table": {"architecture": "standard"}, **HERE},
    "standard, layer norm": {
        "table": {"architecture": "standard"}, "norm": "layer_norm", **HERE
    },
    "temporal": {
        "table": {"architecture": "temporal", "n_heads": 2, "bottleneck_factor": 4,
                  "kval_topk": 5}, "norm": "layer_norm", **HERE,
    },
    "topk": {"table": TOPK, **HERE},
    "topk, rescaled": {"table": {"architecture": "topk", "k": 6}, **HERE},
    "hook_z": {"table": TOPK, "reshape": "hook_z", "hook_name": Z},
    "one head": {"table": TOPK, "d_in": 8, "hook_name": Z, "hook_head_index": 2},
    "transcoder": {
        "table": {"architecture": "transcoder"}, "hook_name": MLP_IN, "hook_name_out": MLP
    },
    "skip_transcoder": {
        "table": {"architecture": "skip_transcoder"}, "hook_name": MLP_IN, "hook_name_out": MLP
    },
}  # fmt: skip
HOOKS = ["blocks.0.hook_resid_post", "blocks.1.hook_resid_post"]
SEVERAL = {
    "crosscoder": {
        "table": {"architecture": "crosscoder"}, "d_in": 48, "hooks": 2, "hook_names": HOOKS
    },
    "clt": {
        "table": {"architecture": "clt"}, "d_in": 48, "d_out": 48, "hooks": 2,
        "hook_names": ["blocks.0.mlp.hook_in", "blocks.1.mlp.hook_in"],
        "hook_names_out": ["blocks.0.hook_mlp_out", "blocks.1.hook_mlp_out"],
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def model():
    """The recorded model."""
    return plain()


@pytest.fixture(scope="module")
def backend():
    """The same as a backend, whose `run_with` is the judge."""
    return HuggingFaceBackend(plain(), tokenizer(), "recorded", {})


def brute_force(backend, sae, site):
    """Logits with the SAE's forward pass in the place of activations."""
    hook, target = site["hook_name"], site.get("hook_name_out", site["hook_name"])
    head = site.get("hook_head_index")
    seen = {}

    def read(value):
        seen["x"] = value if head is None else value[:, :, head]
        return value

    def write(value):
        out = sae(seen["x"])
        if head is None:
            return out.reshape(value.shape)
        return torch.cat([value[:, :, :head], out[:, :, None], value[:, :, head + 1 :]], 2)

    if hook == target:
        return backend.run_with(TOKENS, {hook: lambda value: write(read(value))})
    return backend.run_with(TOKENS, {hook: read, target: write})


@pytest.mark.parametrize("name", ONE_HOOK)
@torch.no_grad()
def test_every_architecture(model, backend, name):
    """The reconstruction is the SAE's forward pass (skip weights and predictions in it), whether
    features are looked at or not; with an error term nothing changes.
    """
    site = ONE_HOOK[name]
    sae = random_sae(**site)
    spliced = splice(model, sae)
    expected = brute_force(backend, sae, site)
    torch.testing.assert_close(spliced.run(TOKENS), expected, atol=1e-4, rtol=1e-4)
    logits, cache = spliced.run_with_cache(TOKENS)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    target = site.get("hook_name_out", site["hook_name"])
    features = cache[f"{target}.hook_sae_acts_post"]
    x = cache[f"{target}.hook_sae_input"]
    torch.testing.assert_close(features, sae.encode(x))
    before = cache.get(f"{target}.hook_sae_acts_pre")
    assert (before is None) == (name == "temporal")
    if name in ("jumprelu", "standard", "topk", "transcoder"):
        shown = features != 0
        torch.testing.assert_close(features[shown], before[shown], atol=1e-5, rtol=1e-5)
    dense = spliced.run(TOKENS, hooks={f"{target}.hook_sae_acts_post": lambda one: one.clone()})
    torch.testing.assert_close(dense, expected, atol=1e-4, rtol=1e-4)
    exact = splice(model, sae, use_error_term=True).run(TOKENS)
    torch.testing.assert_close(exact, model(TOKENS).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", SEVERAL)
@torch.no_grad()
def test_several_hooks(model, backend, name):
    """An SAE over several hooks reads the model's own activations and replaces all its targets;
    with an error term nothing changes; the model's own call cannot do both passes and says so.
    """
    site = SEVERAL[name]
    sae = random_sae(**site)
    names = site["hook_names"]
    found = backend.activations(TOKENS, names)
    out = sae(torch.stack([found[one] for one in names], 2))
    targets = site.get("hook_names_out", names)
    put = {one: (lambda value, i=i: out[:, :, i]) for i, one in enumerate(targets)}
    spliced = splice(model, sae)
    logits, cache = spliced.run_with_cache(TOKENS)
    torch.testing.assert_close(logits, backend.run_with(TOKENS, put), atol=1e-4, rtol=1e-4)
    for i, one in enumerate(targets):
        torch.testing.assert_close(cache[f"{one}.hook_sae_output"], out[:, :, i])
    exact = splice(model, sae, use_error_term=True).run(TOKENS)
    torch.testing.assert_close(exact, model(TOKENS).logits, atol=1e-4, rtol=1e-4)
    with spliced, pytest.raises(ModelError, match="the model runs twice; call run"):
        model(TOKENS)


@torch.no_grad()
def test_context(model):
    """In the context the model's own call runs with the SAEs, behind it as before; the model's
    gradients, mode and hooks are left alone.
    """
    sae = recorded("resid")
    before = model(TOKENS).logits
    hooks = sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for one in model.modules())
    with splice(model, [sae]) as spliced:
        inside = model(TOKENS).logits
        assert torch.equal(spliced.run(TOKENS), inside)
        assert not torch.equal(inside, before)
        with pytest.raises(ConfigError, match="already in the model"), spliced:
            pass
    assert torch.equal(model(TOKENS).logits, before)
    with pytest.raises(ZeroDivisionError), splice(model, [sae]):
        raise ZeroDivisionError
    assert torch.equal(model(TOKENS).logits, before)
    left = sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for one in model.modules())
    assert left == hooks
    assert all(one.requires_grad for one in model.parameters())


@pytest.mark.parametrize(
    ("meta", "kept"),
    [
        ({"exclude_special_tokens": [0, 7]}, (TOKENS == 0) | (TOKENS == 7)),
        ({"exclude_special_tokens": True}, TOKENS == 0),  # the embedded tokenizer's BOS, EOS, PAD
        ({"seqpos_slice": [2, 9]}, (torch.arange(11) < 2) | (torch.arange(11) >= 9)),
    ],
)
@torch.no_grad()
def test_tokens_left_out(backend, meta, kept):
    """Tokens that the SAE was not trained on keep the model's activations, others do not."""
    sae = random_sae(TOPK, **HERE, **meta)
    kept = kept.expand(TOKENS.shape)
    assert kept.any()
    clean = backend.activations(TOKENS, [HOOK])[HOOK]
    cache = splice(backend, sae).run_with_cache(TOKENS, [HOOK, f"{HOOK}.hook_sae_output"])[1]
    assert torch.equal(cache[HOOK][kept], clean[kept])
    assert torch.equal(cache[HOOK][~kept], cache[f"{HOOK}.hook_sae_output"][~kept])
    assert not torch.isclose(cache[HOOK][~kept], clean[~kept]).all(-1).any()


@torch.no_grad()
def test_functions_at_points(model):
    """What a function returns, or writes into its tensor, takes the tensor's place; the error term
    is that of the run without it.
    """
    sae = recorded("resid")
    spliced = splice(model, [sae], use_error_term=True)
    clean, cache = spliced.run_with_cache(TOKENS)
    error = cache[f"{HOOK}.hook_sae_error"]

    def write(one):
        one[..., 3] = 5.0

    def give(one):
        one = one.clone()
        one[..., 3] = 5.0
        return one

    changed = [spliced.run_with_cache(TOKENS, hooks={POST: one}) for one in (write, give)]
    assert torch.equal(changed[0][0], changed[1][0])
    assert not torch.allclose(changed[0][0], clean, atol=1e-2)
    assert torch.equal(changed[0][1][f"{HOOK}.hook_sae_error"], error)
    features = cache[POST].clone()
    features[..., 3] = 5.0
    expected = sae.decode(features) + error
    torch.testing.assert_close(
        changed[0][1][f"{HOOK}.hook_sae_output"], expected, atol=1e-5, rtol=1e-5
    )
    zeros = spliced.run_with_cache(TOKENS, hooks={f"{HOOK}.hook_sae_input": torch.zeros_like})[1]
    torch.testing.assert_close(zeros[f"{HOOK}.hook_sae_error"], error, atol=1e-5, rtol=1e-5)
    for point in ("hook_sae_input", "hook_sae_recons"):  # nobody's tensors but the point's own
        inplace = spliced.run_with_cache(TOKENS, hooks={f"{HOOK}.{point}": lambda one: one.zero_()})
        assert torch.allclose(inplace[1][f"{HOOK}.hook_sae_error"], error, atol=1e-5)
    with pytest.raises(ModelError, match="can be read, not replaced"):
        spliced.run(TOKENS, hooks={f"{HOOK}.hook_sae_acts_pre": torch.zeros_like})
    assert torch.equal(spliced.run(TOKENS), clean)


def test_gradients_reach_every_latent(model):
    """With gradients, those of features are dense: latents that are not active have one too."""
    sae = recorded("resid")
    logits, cache = splice(model, [sae]).run_with_cache(TOKENS, [POST])
    (grad,) = torch.autograd.grad(logits[:, -1, 3].sum(), cache[POST])
    silent = (cache[POST] == 0).all(0)
    assert silent.any()
    assert (grad[:, silent] != 0).any()


@torch.no_grad()
def test_inference_mode(model):
    """Tensors without version counters work too."""
    spliced = splice(model, [recorded("resid")], use_error_term=True)
    expected = spliced.run(TOKENS)
    with torch.inference_mode():
        logits, cache = spliced.run_with_cache(TOKENS)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    assert f"{HOOK}.hook_sae_acts_pre" in cache


@torch.no_grad()
def test_other_families():
    """Hook names and module paths of another family, in half precision, joint projections too."""
    model = make("phi3").to(torch.bfloat16)
    sae = random_sae(TOPK, d_in=32, hook_name="blocks.1.attn.hook_q", reshape="hook_z")
    path = random_sae(TOPK, d_in=32, hook_name="model.layers.0")
    before = model(TOKENS).logits
    exact = splice(model, [sae, path], use_error_term=True).run(TOKENS)
    assert exact.dtype == torch.bfloat16
    torch.testing.assert_close(exact, before, atol=0.1, rtol=0.05)
    assert not torch.equal(splice(model, [sae, path]).run(TOKENS), before)


def test_whole_contexts_and_key_value_caches():
    """An SAE that needs a context's earlier tokens refuses to go on without them."""
    model, sae = plain(), random_sae(**ONE_HOOK["temporal"])
    options = {"max_new_tokens": 3, "do_sample": False, "pad_token_id": 0}
    with splice(model, sae):
        assert model.generate(TOKENS, use_cache=False, **options).shape == (3, 14)
        with pytest.raises(ModelError, match="reads whole contexts"):
            model.generate(TOKENS, use_cache=True, **options)


def test_refusals(model):
    """A hook, SAE, size or model that does not fit: one line each, and nothing stays attached."""
    sae = recorded("resid")
    with pytest.raises(ModelError, match=r"no hook 'blocks.1.hook_resid_prä'; did you mean"):
        splice(model, random_sae(TOPK, hook_name="blocks.1.hook_resid_prä"))
    with pytest.raises(ConfigError, match="metadata has no hook_name"):
        splice(model, random_sae(TOPK))
    with pytest.raises(ConfigError, match=f"2 of them at {HOOK}"):
        splice(model, [sae, sae])
    with pytest.raises(ModelError, match=r"reads activations \[B, T, 8\]"):
        splice(model, random_sae(TOPK, d_in=8, hook_name=HOOK)).run(TOKENS)
    wide, late = ((MLP_IN, "blocks.1.mlp.hook_post"), (MLP, MLP_IN))
    for (hook, target), said in (
        (wide, r"size 24, .* has \[96\]"),
        (late, "runs later in the forward pass"),
    ):
        table = {"architecture": "transcoder"}
        spliced = splice(model, random_sae(table, hook_name=hook, hook_name_out=target))
        with pytest.raises(ModelError, match=said):
            spliced.run(TOKENS)
    with pytest.raises(ModelError, match=r"no spliced SAE has .*; did you mean"):
        splice(model, [sae]).run(TOKENS, hooks={f"{HOOK}.hook_sae_act_post": print})
    with pytest.raises(ModelError, match="expected a transformers model"):
        splice(torch.nn.Linear(2, 2), [sae])
    with pytest.raises(ModelError, match="there is no tokenizer"):
        splice(make("gpt2"), random_sae(TOPK, **HERE, exclude_special_tokens=True))
    assert not any(one._forward_hooks for one in model.modules())
