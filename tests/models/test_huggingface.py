"""Hooks on Hugging Face models: the right activations, early stop, replacement."""

import pytest
import torch
from transformers import AutoModelForCausalLM, OPTConfig, OPTForCausalLM

from saecore.errors import ModelError
from saecore.models.huggingface import HuggingFaceBackend


@pytest.fixture(scope="module")
def model():
    """The recorded tiny GPT-2."""
    from tests.conftest import DATA

    return AutoModelForCausalLM.from_pretrained(DATA / "oracle" / "model" / "model")


@pytest.fixture
def backend(model):
    """A backend on it."""
    return HuggingFaceBackend(model, None, "tiny", {})


TOKENS = torch.arange(40).view(2, 20)
PARTS = (
    "hook_resid_pre",
    "hook_attn_out",
    "hook_resid_mid",
    "hook_mlp_out",
    "hook_resid_post",
    "attn.hook_z",
)


def test_residual_stream_equals_hidden_states(backend):
    """resid_pre and resid_post are the model's own hidden states."""
    states = backend.model(TOKENS, output_hidden_states=True).hidden_states
    activations = backend.activations(
        TOKENS, ["blocks.0.hook_resid_pre", "blocks.1.hook_resid_post"]
    )
    torch.testing.assert_close(activations["blocks.0.hook_resid_pre"], states[0])
    torch.testing.assert_close(activations["blocks.1.hook_resid_post"], states[2])


def test_parts_add_up(backend):
    """resid_mid = resid_pre + attn_out, resid_post = resid_mid + mlp_out; z is per head."""
    names = [f"blocks.1.{name}" for name in PARTS]
    pre, attn, mid, mlp, post, z = (backend.activations(TOKENS, names)[n] for n in names)
    torch.testing.assert_close(pre + attn, mid)
    torch.testing.assert_close(mid + mlp, post)
    assert z.shape == (2, 20, 3, 8)
    projection = backend.model.transformer.h[1].attn.c_proj
    torch.testing.assert_close(projection(z.flatten(2)), attn)
    assert backend.d("blocks.1.attn.hook_z") == (3, 8)


def test_forward_stops_after_the_last_hook(backend):
    """Layers behind the last hook never run."""
    ran = []
    handle = backend.model.transformer.h[2].register_forward_hook(lambda *_: ran.append(1))
    backend.activations(TOKENS, ["blocks.1.hook_resid_post", "blocks.0.hook_resid_pre"])
    assert not ran
    backend.run_with(TOKENS, {})
    handle.remove()
    assert ran


@pytest.mark.parametrize(
    "hook",
    ["blocks.1.hook_resid_pre", "blocks.1.attn.hook_z", "blocks.1.attn.hook_q",
     "blocks.1.hook_mlp_out", "transformer.h.1.mlp:in"],
)  # fmt: skip
def test_replacement(backend, hook):
    """Replacing an activation by itself changes nothing; by zeros it does; hooks are removed."""
    clean = backend.run_with(TOKENS, {})
    same = backend.run_with(TOKENS, {hook: lambda x: x.clone()})
    torch.testing.assert_close(same, clean)
    zeros = backend.run_with(TOKENS, {hook: torch.zeros_like})
    assert not torch.allclose(zeros, clean)
    torch.testing.assert_close(backend.run_with(TOKENS, {}), clean)


def test_unknown_hook_names_the_nearest(backend):
    """A hook that does not exist is an error with the nearest names, and examples of both kinds."""
    with pytest.raises(ModelError, match=r'did you mean "blocks.1.hook_resid_post" or') as raised:
        backend.activations(TOKENS, ["blocks.1.hook_resid_pots"])
    assert "38 names such as blocks.0.hook_resid_post" in str(raised.value)
    assert "module paths such as transformer.h.0" in str(raised.value)
    with pytest.raises(ModelError, match="no hook"):
        backend.d("blocks.7.hook_resid_post")
    with pytest.raises(ModelError, match=r'did you mean "transformer.h.1.mlp"'):
        backend.run_with(TOKENS, {"transformer.h.1.mpl:in": torch.zeros_like})


@pytest.mark.parametrize(
    ("hook", "expected"),
    [("transformer", "gives BaseModelOutput.* expected one vector per token"),
     ("transformer.wte:in", r"gives a tensor \[1, 7\] .* expected one vector per token"),
     ("transformer.h.1.attn.attn_dropout", "the forward pass never reaches it")],
)  # fmt: skip
def test_modules_without_activations(backend, hook, expected):
    """A module that gives no vector per token, or never runs, is an error that says so."""
    with pytest.raises(ModelError, match=expected):
        backend.d(hook)


def test_type_without_a_table():
    """A model type without TransformerLens names is read by module paths, and the error says so."""
    config = OPTConfig(vocab_size=61, hidden_size=16, ffn_dim=32, num_hidden_layers=3,
                       num_attention_heads=2, word_embed_proj_dim=16)  # fmt: skip
    other = HuggingFaceBackend(OPTForCausalLM(config), None, "some/opt", {})
    assert other.d("model.decoder.layers.1") == (16,)
    assert other.d("model.decoder.layers.1.self_attn.out_proj:in") == (16,)
    with pytest.raises(ModelError) as raised:
        other.d("blocks.1.hook_resid_post")
    line = str(raised.value)
    assert "no TransformerLens names are known for model type 'opt'" in line
    assert "name a module: model.decoder.layers.0, model.decoder.layers.1" in line


def test_position_embeddings_for_every_row(backend):
    """What the model computes once for all rows is given, and replaced, for each."""
    value = backend.activations(TOKENS, ["hook_pos_embed"])["hook_pos_embed"]
    assert value.shape == (2, 20, 24)
    clean = backend.run_with(TOKENS, {})
    logits = backend.run_with(TOKENS, {"hook_pos_embed": lambda x: value})
    torch.testing.assert_close(logits, clean)
