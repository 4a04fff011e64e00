"""TransformerLens' bridge as a backend: the same activations as without it, raw or processed."""

import subprocess

import pytest
import torch
from transformers import AutoModelForCausalLM

from saecore.config.load import load_experiment
from saecore.errors import ModelError
from saecore.models.huggingface import HuggingFaceBackend
from saecore.runs.run import run
from saecore_plugins.models import huggingface, transformer_lens
from saecore_plugins.models.tiny_lm import DIRECTORY
from saecore_plugins.models.transformer_lens.backend import BridgeBackend, build_bridge
from tests.conftest import DATA
from tests.models.tiny import TOKENS, make, tokenizer

CPU = torch.device("cpu")
TINY = DATA / "oracle" / "model" / "model"


def embedded(**settings):
    """The embedded model through the plugin."""
    config = transformer_lens.TransformerLensConfig(str(DIRECTORY), **settings)
    return transformer_lens.build(config, CPU, torch.float32)


@pytest.fixture(scope="module")
def raw():
    """The embedded model, raw."""
    return embedded()


@pytest.fixture(scope="module")
def plain():
    """The embedded model without the bridge."""
    return huggingface.build(huggingface.HuggingFaceConfig(str(DIRECTORY)), CPU, torch.float32)


def agree(first, second):
    """Both backends give the same activations, sizes and logits."""
    hooks = list(first.hook_names)
    expected = second.activations(TOKENS, hooks)
    for hook, value in first.activations(TOKENS, hooks).items():
        torch.testing.assert_close(value, expected[hook], atol=1e-5, rtol=1e-5)
        assert first.d(hook) == second.d(hook)
    torch.testing.assert_close(
        first.run_with(TOKENS, {}), second.run_with(TOKENS, {}), atol=1e-5, rtol=1e-5
    )
    assert (first.vocab_size, first.max_context) == (second.vocab_size, second.max_context)


def test_both_backends_on_the_embedded_model(plain, raw):
    """With and without the bridge, all hooks of the embedded model agree."""
    agree(plain, raw)


def test_both_backends_on_the_recorded_model():
    """With and without the bridge, all hooks of the recorded tiny GPT-2 agree."""
    plain = HuggingFaceBackend(AutoModelForCausalLM.from_pretrained(TINY), None, "tiny", {})
    model = AutoModelForCausalLM.from_pretrained(TINY)
    bridge = build_bridge(model, tokenizer(), "tiny", torch.float32, False)
    agree(plain, BridgeBackend(bridge, None, "tiny", {}))


def test_identity_says_the_convention(plain, raw):
    """Raw unless asked; the convention is an attribute and stands in what a run records."""
    processed = embedded(processed=True)
    assert [backend.convention for backend in (plain, raw, processed)] == [
        "raw",
        "raw",
        "processed",
    ]
    assert [backend.identity["convention"] for backend in (plain, raw, processed)] == [
        "raw", "raw", "processed",
    ]  # fmt: skip
    assert raw.identity["sha256"] == plain.identity["sha256"]


def test_processed_stream_is_centered(raw):
    """Processing centers what is written to the residual stream and leaves the predictions."""
    processed = embedded(processed=True)
    hook = "blocks.2.hook_resid_post"
    before, after = (backend.activations(TOKENS, [hook])[hook] for backend in (raw, processed))
    torch.testing.assert_close(after, before - before.mean(-1, keepdim=True), atol=1e-3, rtol=1e-4)
    predictions = [backend.run_with(TOKENS, {}).log_softmax(-1) for backend in (raw, processed)]
    torch.testing.assert_close(*predictions, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("processed", [False, True])
def test_replacing_is_done_once(processed):
    """A replacement is called once, changes the logits, and is gone afterwards."""
    backend = embedded(processed=processed)
    clean = backend.run_with(TOKENS, {})
    calls = []

    def half(x):
        calls.append(x.shape)
        return 0.5 * x

    assert not torch.allclose(backend.run_with(TOKENS, {"blocks.1.attn.hook_z": half}), clean)
    assert calls == [(2, 20, 8, 32)]
    torch.testing.assert_close(backend.run_with(TOKENS, {}), clean)


def test_forward_stops_after_the_last_hook(raw):
    """Layers behind the last hook never run, and the next forward is whole."""
    ran = []
    handle = raw.model.blocks[3].register_forward_hook(lambda *_: ran.append(1))
    raw.activations(TOKENS, ["blocks.2.hook_resid_post", "hook_embed"])
    assert not ran
    raw.run_with(TOKENS, {})
    handle.remove()
    assert ran


def test_errors_about_hooks(raw):
    """Unknown names list the nearest; hooks that are off or not per token say so."""
    with pytest.raises(ModelError, match=r'did you mean "blocks.1.hook_resid_post" or'):
        raw.d("blocks.1.hook_resid_pots")
    with pytest.raises(ModelError, match="expected one vector per token"):
        raw.d("blocks.1.attn.hook_pattern")
    with pytest.raises(ModelError, match="use_attn_result is False"):
        raw.d("blocks.1.attn.hook_result")


def test_tokenizer_is_left_alone(plain, raw):
    """The bridge changes special tokens in its own copy only."""
    assert raw.tokenizer("def f", add_special_tokens=False) == plain.tokenizer(
        "def f", add_special_tokens=False
    )
    assert raw.tokenizer.pad_token == plain.tokenizer.pad_token
    assert raw.tokenizer.init_kwargs == plain.tokenizer.init_kwargs


def test_models_that_the_bridge_cannot_take(monkeypatch):
    """One line for models with other inputs (nothing is installed for them) and unknown ones."""
    monkeypatch.setattr(subprocess, "check_call", lambda *_: pytest.fail("installs a package"))
    with pytest.raises(ModelError, match=r'reads more than text.*type = "huggingface"'):
        build_bridge(make("gemma3"), tokenizer(), "gemma3", torch.float32, False)
    model = make("gpt2")
    model.config.architectures, model.config.model_type = ["Nonesuch"], "nonesuch"
    with pytest.raises(ModelError, match=r"no bridge for some/model \(Nonesuch\); use") as raised:
        build_bridge(model, tokenizer(), "some/model", torch.float32, False)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("processed", [False, True])
def test_experiment_on_the_bridge(tmp_path, monkeypatch, processed):
    """An SAE trains on the bridge; its metadata names the convention of its activations."""
    monkeypatch.setenv("SAECORE_CACHE", str(tmp_path / "cache"))
    text, file = tmp_path / "text.txt", tmp_path / "experiment.toml"
    text.write_text("def f(x):\n    return x\n\n" * 400)
    file.write_text(f"""\
output = "{tmp_path / "runs"}"
[model]
type = "transformer_lens"
name = "{DIRECTORY}"
hook = "blocks.2.hook_resid_post"
processed = {str(processed).lower()}
[dataset]
type = "text_files"
paths = ["{text}"]
context_size = 16
[buffer]
tokens = 64
model_batch_size = 2
[sae]
architecture = "topk"
d_sae = 64
k = 4
[training]
tokens = 128
batch_size = 64
[evaluation]
tokens = 128
""")
    result = run(load_experiment(file)[0])
    convention = "processed" if processed else "raw"
    assert result.sae.cfg.metadata["activation_convention"] == convention
    assert "loss_recovered" in result.evaluation
