"""Activations are what the model had at a hook, whatever it writes into its tensors later."""

import itertools

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from saecore.activations.mixing_buffer import MixingBuffer
from saecore.evaluation.batches import HeldOut
from saecore_plugins.evaluators.loss_recovered import LossRecoveredConfig, measure
from saecore_plugins.models.transformer_lens.backend import BridgeBackend, build_bridge
from tests.activations.fakes import buffer_settings
from tests.models import tiny
from tests.models.overwriting import HOOKS, TOKENS, D, overwriting, toy_backend
from tests.splicing.models import random_sae

TRANSCODER = ("blocks.0:in", "blocks.1.mlp")


@pytest.fixture(scope="module")
def in_place():
    """The model that overwrites its tensors."""
    return toy_backend()


@pytest.fixture(scope="module")
def twin():
    """The model that does not."""
    return toy_backend(in_place=False)


def equal(tensors, expected):
    """The same tensors under the same names."""
    assert list(tensors) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(tensors[name], value, msg=lambda text, at=name: f"{at}: {text}")


@pytest.mark.parametrize("inference", [False, True])
def test_activations(in_place, twin, inference):
    """All hooks at once, each alone, and pairs: always the same."""
    with torch.inference_mode(inference):
        expected = twin.activations(TOKENS, HOOKS)
        equal(in_place.activations(TOKENS, HOOKS), expected)
        for hooks in (*itertools.combinations(HOOKS, 2), *((hook,) for hook in HOOKS)):
            activations = in_place.activations(TOKENS, hooks)
            equal({hook: activations[hook] for hook in hooks},
                  {hook: expected[hook] for hook in hooks})  # fmt: skip


class CountClones(TorchDispatchMode):
    """Counts copies of tensors."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        """Count `clone`, run everything."""
        self.count += function is torch.ops.aten.clone.default
        return function(*args, **(kwargs or {}))


def test_one_copy_where_the_forward_goes_on(in_place):
    """The last hook is given without a copy, any other with one."""
    for n in (1, 2, 3, len(HOOKS)):
        with CountClones() as clones:
            in_place.activations(TOKENS, HOOKS[:n])
        assert clones.count == n - 1
    modules = in_place.model.get_submodule("blocks.1.mlp")
    outputs = []
    handle = modules.register_forward_hook(lambda *call: outputs.append(call[2]))
    value = in_place.activations(TOKENS, ["blocks.1.mlp"])["blocks.1.mlp"]
    handle.remove()
    assert value.data_ptr() == outputs[0].data_ptr()


@pytest.mark.parametrize("gradients", [False, True])
def test_functions_may_keep_what_they_get(in_place, twin, gradients):
    """A function that looks at each hook keeps what the model had, and changes nothing."""
    expected = twin.activations(TOKENS, HOOKS)
    kept = {}

    def keep(hook):
        return lambda value: kept.setdefault(hook, value)

    logits = in_place.run_with(TOKENS, {hook: keep(hook) for hook in HOOKS}, gradients)
    equal(kept, expected)
    torch.testing.assert_close(logits, twin.run_with(TOKENS, {}))


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("hook", HOOKS)
def test_functions_may_keep_what_they_give(in_place, twin, hook, gradients):
    """The model does not write into a replacement, which has the effect it has in the twin."""
    value = torch.linspace(-1, 1, TOKENS.numel() * D).view(*TOKENS.shape, D)
    given = value.clone().requires_grad_(gradients)
    for _ in range(2):
        logits = in_place.run_with(TOKENS, {hook: lambda _: given}, gradients)
        assert torch.equal(given, value)
        torch.testing.assert_close(logits, twin.run_with(TOKENS, {hook: lambda _: value}))
    if gradients:
        logits = twin.run_with(TOKENS, {hook: lambda _: given}, gradients)
        assert torch.autograd.grad(logits.sum(), given)[0].any()


def test_functions_may_write_in_place(in_place, twin):
    """Writing in place replaces what the hook names and nothing else, returned or not."""

    def write(value):
        value[...] = 0

    hook = "blocks.1.norm:in"  # the block adds to the tensor that its norm reads
    expected = twin.run_with(TOKENS, {hook: torch.zeros_like})
    for function in (torch.Tensor.zero_, write):
        for backend in (in_place, twin):
            torch.testing.assert_close(backend.run_with(TOKENS, {hook: function}), expected)


@pytest.mark.parametrize("hooks", [("blocks.0.mlp", "blocks.2"), TRANSCODER[:1]])
def test_mixing_buffer(in_place, twin, hooks):
    """Several hooks, and a target beside the inputs."""
    tokens = np.arange(24 * 6, dtype=np.int32).reshape(24, 6) % 31
    settings = buffer_settings(
        hooks=hooks, targets=TRANSCODER[1:], fill_tokens=48, model_batch_size=3
    )
    batches = [MixingBuffer(b, tokens, settings).next(60) for b in (in_place, twin)]
    torch.testing.assert_close(batches[0].inputs, batches[1].inputs)
    torch.testing.assert_close(batches[0].targets, batches[1].targets)


SITES = {
    "sae": {"hook_name": "blocks.1.mlp"},
    "transcoder": {"hook_name": TRANSCODER[0], "hook_name_out": TRANSCODER[1]},
    "crosscoder": {"hook_names": ["blocks.0.mlp", "blocks.1:in"]},
}


def site_sae(kind):
    """A random SAE for the toy model."""
    site = {"d_in": D, "d_sae": 40, **SITES[kind]}
    table = {"architecture": "standard" if kind == "sae" else kind}
    if kind == "crosscoder":
        site |= {"d_in": 2 * D, "hooks": 2}
    return random_sae(table, **site)


@pytest.mark.parametrize("kind", SITES)
def test_evaluation(in_place, twin, kind):
    """Held-out activations, and the loss with reconstructions in the model."""
    sae = site_sae(kind)
    held_out = [HeldOut(model=backend, contexts=TOKENS) for backend in (in_place, twin)]
    batches = [next(iter(one.parts(sae, 2))) for one in held_out]
    torch.testing.assert_close(batches[0].inputs, batches[1].inputs)
    torch.testing.assert_close(batches[0].targets, batches[1].targets)
    metrics = [measure(sae, one, LossRecoveredConfig()) for one in held_out]
    for name, metric in metrics[1].items():
        assert metrics[0][name].value == pytest.approx(metric.value, rel=1e-4, abs=1e-5), name


@pytest.fixture(scope="module")
def bridge():
    """A bridge."""
    model = build_bridge(tiny.make("gpt2"), tiny.tokenizer(), "gpt2", torch.float32, False)
    return BridgeBackend(model, None, "gpt2", {})


def test_bridge(bridge):
    """TransformerLens' bridge: activations of several hooks, and functions that keep them."""
    hooks = [
        name
        for name, canonical in bridge._hooks.items()
        if name == canonical and name.startswith("blocks.") and "hook_resid" in name
    ] + ["hook_embed", "blocks.0.hook_mlp_out", "blocks.1.attn.hook_z", "blocks.1.attn.hook_q"]
    hooks += ["ln_final.hook_in"]
    expected = {hook: bridge.activations(tiny.TOKENS, [hook])[hook] for hook in hooks}
    logits, kept = bridge.run_with(tiny.TOKENS, {}), {}

    def keep(hook):
        return lambda value: kept.setdefault(hook, value)

    with overwriting(bridge.model, "transformer.ln_f"):
        activations = bridge.activations(tiny.TOKENS, hooks)
    with overwriting(bridge.model, "transformer.ln_f"):
        seen = bridge.run_with(tiny.TOKENS, {hook: keep(hook) for hook in hooks})
    torch.testing.assert_close(seen, logits)
    for hook in hooks:
        assert torch.equal(activations[hook], expected[hook]), hook
        assert torch.equal(kept[hook], expected[hook]), hook
