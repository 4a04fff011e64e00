"""TransformerLens names on Hugging Face modules mean what they mean in TransformerLens' bridge."""

import pytest
import torch

from saecore.models.hook_tables import FAMILIES
from saecore.models.huggingface import HuggingFaceBackend
from saecore_plugins.models.transformer_lens.backend import BridgeBackend, build_bridge
from tests.models.tiny import MODELS, TOKENS, backend, make, tokenizer


@pytest.fixture(scope="module")
def any_tokenizer():
    """A tokenizer, which the bridge wants to have though it gets tokens."""
    return tokenizer()


BRIDGED = [name for name in MODELS if name != "gemma3"]
"""TransformerLens' bridge is not used for models that see."""


def test_every_family_is_tested():
    """Each table below is compared with the bridge."""
    assert {name.partition(",")[0] for name in MODELS} == set(FAMILIES)


@pytest.mark.parametrize("name", BRIDGED)
def test_same_names_same_activations(name, any_tokenizer):
    """Every name in a family's table gives the bridge's activations, shapes included."""
    ours = backend(name)
    theirs = BridgeBackend(
        build_bridge(make(name), any_tokenizer, name, torch.float32, False), None, name, {}
    )
    hooks = list(ours.hook_names)
    assert len(hooks) > 20
    activations = ours.activations(TOKENS, hooks)
    expected = theirs.activations(TOKENS, hooks)
    for hook in hooks:
        torch.testing.assert_close(
            activations[hook],
            expected[hook],
            atol=1e-5,
            rtol=1e-5,
            msg=lambda m, h=hook: f"{h}: {m}",
        )
        assert ours.d(hook) == theirs.d(hook) == tuple(activations[hook].shape[2:])


@pytest.mark.parametrize("name", BRIDGED)
def test_replacing_reaches_the_logits_as_in_the_bridge(name, any_tokenizer):
    """Scaling the activations at any name changes the logits just as it does in the bridge."""
    ours = backend(name)
    theirs = BridgeBackend(
        build_bridge(make(name), any_tokenizer, name, torch.float32, False), None, name, {}
    )
    clean = ours.run_with(TOKENS, {})
    for hook in [hook for hook in ours.hook_names if not hook.startswith("blocks.0")]:
        replace = {hook: lambda x: x * torch.linspace(0.2, 1.5, x.shape[-1])}
        logits = ours.run_with(TOKENS, replace)
        assert not torch.allclose(logits, clean), hook
        torch.testing.assert_close(
            logits, theirs.run_with(TOKENS, replace), atol=1e-5, rtol=1e-4,
            msg=lambda m, h=hook: f"{h}: {m}",
        )  # fmt: skip


@pytest.mark.parametrize("name", [name for name in MODELS if name != "bert"])
def test_parts_add_up(name):
    """What attention and MLP put out is what joins the residual stream, norms behind them too."""
    model = backend(name)
    parts = ["resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"]
    hooks = {part: f"blocks.1.hook_{part}" for part in parts}
    activations = model.activations(
        TOKENS, [hook for hook in hooks.values() if hook in model.hook_names]
    )
    pre, attention, mid, mlp, post = (activations.get(hook) for hook in hooks.values())
    if mid is not None:
        torch.testing.assert_close(pre + attention, mid)
    torch.testing.assert_close(pre + attention + mlp, post)


def test_gemma3_with_and_without_its_vision_tower():
    """The language model inside a Gemma 3 that sees has the same names and activations."""
    text, both = make("gemma3_text"), backend("gemma3")
    text.model.load_state_dict(both.model.model.language_model.state_dict())
    alone = HuggingFaceBackend(text, None, "gemma3_text", {})
    assert list(alone.hook_names) == list(both.hook_names)
    expected = alone.activations(TOKENS, list(alone.hook_names))
    for hook, value in both.activations(TOKENS, list(both.hook_names)).items():
        torch.testing.assert_close(value, expected[hook], atol=1e-5, rtol=1e-5)


def test_grouped_queries():
    """With grouped queries hook_q and hook_z have the query heads, hook_k and hook_v the others."""
    sizes = [backend("llama").d(f"blocks.1.attn.hook_{letter}") for letter in "qkvz"]
    assert sizes == [(4, 6), (2, 6), (2, 6), (4, 6)]


def test_no_middle_where_there_is_none():
    """Parallel attention and MLP (Pythia, Phi) form no sum in between, so there is no such name."""
    assert "blocks.0.hook_resid_mid" not in backend("gpt_neox").hook_names
    assert "blocks.0.hook_resid_mid" in backend("gpt_neox, in sequence").hook_names
    assert "blocks.0.hook_resid_mid" not in backend("phi").hook_names
