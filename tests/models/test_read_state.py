"""A model that is lent is given back as it was: mode, gradients, configuration, SAEs."""

from contextlib import suppress

import pytest
import torch

from saecore import splice
from saecore.errors import ModelError
from saecore.models.huggingface import HuggingFaceBackend
from saecore.models.read_state import model_behind
from saecore.models.wrap import backend_of
from saecore.splicing.attribution import attribute
from saecore_plugins.models.transformer_lens.backend import BridgeBackend
from tests.models import tiny
from tests.splicing.models import HOOK, MLP, MLP_IN, TOKENS, hooked, plain, random_sae, recorded

CROSSCODER = {
    "table": {"architecture": "crosscoder"}, "d_in": 48, "hooks": 2,
    "hook_names": ["blocks.0.hook_resid_post", "blocks.1.hook_resid_post"],
}  # fmt: skip
TRANSCODER = {
    "table": {"architecture": "transcoder"}, "hook_name": MLP_IN, "hook_name_out": MLP
}  # fmt: skip


def lent(kind):
    """A model with dropout in a state that nobody would choose, and its backend."""
    model = plain() if kind == "plain" else hooked()
    inner = model_behind(model)
    model(TOKENS)  # the bridge attaches hooks of its own in its first forward pass
    model.train()
    inner.train()
    for module in inner.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    inner.transformer.h[1].eval()
    for parameter in list(inner.parameters())[::2]:
        parameter.requires_grad_(False)
    inner.config.use_cache, inner.config.pad_token_id = True, 3
    backend = HuggingFaceBackend if kind == "plain" else BridgeBackend
    return model, backend(model, tiny.tokenizer(), "recorded", {})


def state(model):
    """Everything that must not change."""
    inner = model_behind(model)
    modules = dict.fromkeys((*model.modules(), *inner.modules()))
    return (
        [module.training for module in modules],
        [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules],
        [(parameter.requires_grad, parameter.grad) for parameter in inner.parameters()],
        inner.config.to_dict(),
        inner.generation_config.to_dict(),
    )


def attempts(model, backend):
    """Everything that reads a model that it did not load."""
    sae, transcoder = recorded("resid"), random_sae(**TRANSCODER)
    yield lambda: backend.d(MLP)
    yield lambda: backend.activations(TOKENS, [HOOK, MLP])
    yield lambda: backend.activations(TOKENS, ["no hook"])
    yield lambda: backend.run_with(TOKENS, {HOOK: torch.zeros_like}, gradients=True)
    yield lambda: backend.run_with(TOKENS, {"no hook": torch.zeros_like})
    for one in (model, backend):
        yield lambda one=one: splice(one, random_sae(**CROSSCODER)).run_with_cache(TOKENS)
        yield lambda one=one: splice(one, transcoder).run(TOKENS, hooks={HOOK: torch.zeros_like})
        yield lambda one=one: attribute(one, sae, TOKENS, lambda logits: logits[0, 0, 0])

    def in_context():
        with splice(model, sae, ablate=[1]):
            model(TOKENS)
            raise ModelError("an error inside")

    yield in_context


@pytest.mark.parametrize("kind", ["plain", "bridge"])
def test_given_back_as_it_was(kind):
    """Mode of each module, gradients, hooks, use_cache and pad_token_id; also after an error."""
    model, backend = lent(kind)
    before = state(model)
    for attempt in attempts(model, backend):
        with suppress(ModelError):
            attempt()
        assert state(model) == before


@pytest.mark.parametrize("kind", ["plain", "bridge"])
def test_read_in_evaluation_mode(kind):
    """A backend reads in evaluation mode, without gradients of parameters, whatever the mode."""
    model, backend = lent(kind)
    expected = HuggingFaceBackend(plain(), None, "recorded", {})
    activations = backend.activations(TOKENS, [HOOK, MLP])
    for hook, value in expected.activations(TOKENS, [HOOK, MLP]).items():
        torch.testing.assert_close(activations[hook], value, atol=1e-5, rtol=1e-5)
    logits = backend.run_with(TOKENS, {}, gradients=True)
    torch.testing.assert_close(logits, expected.run_with(TOKENS, {}), atol=1e-4, rtol=1e-4)
    assert not logits.requires_grad
    assert not splice(backend, []).run(TOKENS).requires_grad
    torch.testing.assert_close(splice(backend, []).run(TOKENS), logits)
    assert model.training


@pytest.mark.parametrize("kind", ["plain", "bridge"])
@pytest.mark.parametrize("site", [TRANSCODER, CROSSCODER], ids=["transcoder", "crosscoder"])
@torch.no_grad()
def test_read_without_the_saes_in_it(kind, site):
    """A backend reads the model itself; the SAEs in it stay, and work afterwards."""
    model = plain() if kind == "plain" else hooked()
    backend_type = HuggingFaceBackend if kind == "plain" else BridgeBackend
    backend = backend_type(model, tiny.tokenizer(), "recorded", {})
    hooks = [HOOK, MLP, "blocks.1.hook_resid_post"]
    expected, logits = backend.activations(TOKENS, hooks), backend.run_with(TOKENS, {})
    saes = [random_sae(**site), recorded("z")]
    spliced = splice(model, saes)
    changed = spliced.run(TOKENS)
    assert not torch.allclose(changed, logits)
    with spliced:
        for hook, value in backend.activations(TOKENS, hooks).items():
            assert torch.equal(value, expected[hook]), hook
        assert torch.equal(backend.run_with(TOKENS, {}), logits)
        assert torch.equal(spliced.run(TOKENS), changed)
    if kind == "bridge":
        for sae in saes:
            model.add_sae(sae)
        outside = model(TOKENS)
        assert not torch.allclose(outside, logits)
        for hook, value in backend.activations(TOKENS, hooks).items():
            assert torch.equal(value, expected[hook]), hook
        passes = []
        handle = model.blocks[0].register_forward_pre_hook(lambda *_: passes.append(1))
        assert torch.equal(backend.run_with(TOKENS, {}), logits)
        handle.remove()
        assert len(passes) == 1  # SAEs that are not used read nothing ahead
        assert torch.equal(model(TOKENS), outside)


def test_a_loaded_model_stays_ready():
    """What saecore loads itself is in the state for reading all the time."""
    from saecore_plugins.models import transformer_lens
    from saecore_plugins.models.huggingface import HuggingFaceConfig, build
    from saecore_plugins.models.tiny_lm import DIRECTORY

    device = torch.device("cpu")
    config = transformer_lens.TransformerLensConfig(str(DIRECTORY))
    for backend in (
        build(HuggingFaceConfig(str(DIRECTORY)), device, torch.float32),
        transformer_lens.build(config, device, torch.float32),
    ):
        inner = model_behind(backend.model)
        modules = (*backend.model.modules(), *inner.modules())
        assert not any(module.training for module in modules)
        assert not any(parameter.requires_grad for parameter in inner.parameters())
        assert (inner.config.use_cache, inner.config.pad_token_id) == (False, None)
        assert backend_of(backend) is backend
