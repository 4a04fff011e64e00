"""Training through the language model."""

import pytest
import torch

from saecore.activations.context_store import ContextStore
from saecore.activations.contexts import ArrayContexts
from saecore.activations.mixing_buffer import MixingBufferSettings
from saecore.config.load import structure_experiment
from saecore.errors import ConfigError
from saecore.models.hook_site import HookSite
from saecore.plugins import NoSettings
from saecore.runs.run import run
from saecore.training.end_to_end import ModelLoss
from saecore_plugins.models.tiny_lm import build

HOOK = "blocks.1.hook_resid_post"


@pytest.fixture(scope="module")
def backend():
    """The embedded model."""
    return build(NoSettings(), torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def tokens():
    """Three contexts of ten tokens."""
    return torch.randint(0, 1000, (3, 10), generator=torch.Generator().manual_seed(0))


def rows(backend, tokens):
    """The model's own activations, as rows."""
    return backend.activations(tokens, [HOOK])[HOOK].flatten(0, 1)


def test_perfect_reconstruction(backend, tokens):
    """With the model's own activations the cross-entropy is the model's and the divergence 0."""
    x = rows(backend, tokens)
    logits = backend.run_with(tokens, {})[:, :-1].log_softmax(-1)
    own = -logits.gather(-1, tokens[:, 1:, None]).mean()
    torch.testing.assert_close(
        ModelLoss(backend=backend, hooks=(HOOK,), kind="ce", context_size=10)(x, tokens.flatten()),
        own,
    )
    assert (
        abs(
            float(
                ModelLoss(backend=backend, hooks=(HOOK,), kind="kl", context_size=10)(
                    x, tokens.flatten()
                )
            )
        )
        < 1e-5
    )


@pytest.mark.parametrize("kind", ["ce", "kl"])
def test_gradient(backend, tokens, kind):
    """The gradient in a direction is the slope of the loss along it."""
    loss = ModelLoss(backend=backend, hooks=(HOOK,), kind=kind, context_size=10)
    source = torch.Generator().manual_seed(1)
    x = rows(backend, tokens) + 0.3 * torch.randn(30, 256, generator=source)
    x.requires_grad_()
    loss(x, tokens.flatten()).backward()
    direction = torch.nn.functional.normalize(x.grad, dim=None)
    step = 0.05
    with torch.no_grad():
        up = loss(x + step * direction, tokens.flatten())
        down = loss(x - step * direction, tokens.flatten())
    slope = float((up - down) / (2 * step))
    assert float((x.grad * direction).sum()) == pytest.approx(slope, rel=0.02)
    assert all(one.grad is None for one in backend.model.parameters())


def stream(backend, tokens, epochs=2):
    """Batches of one context each."""
    settings = MixingBufferSettings(
        site=HookSite(hooks=(HOOK,)), fill_tokens=10, model_batch_size=1, epochs=epochs
    )
    return ContextStore(backend, ArrayContexts(tokens.numpy()), settings)


def test_stream_of_contexts(backend, tokens):
    """Every batch is a context in order; every epoch has each once; a position can be set."""
    source = stream(backend, tokens)
    batches = [source.next(10) for _ in range(6)]
    seen = sorted(tuple(one.tokens.tolist()) for one in batches[:3])
    assert seen == sorted(tuple(one) for one in tokens.tolist())
    for batch in batches:
        assert batch.positions.tolist() == list(range(10))
        torch.testing.assert_close(batch.inputs, rows(backend, batch.tokens[None]))
    again = stream(backend, tokens)
    again.seek(40)
    assert torch.equal(again.next(10).inputs, batches[4].inputs)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Token files in a directory of the test's own."""
    monkeypatch.setenv("SAECORE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def experiment(tmp_path, **changes):
    """A tiny end-to-end experiment."""
    (tmp_path / "text.txt").write_text("def f(x): return x + 1\n" * 400)
    tables = {
        "model": {"type": "tiny_lm", "hook": HOOK},
        "dataset": {"type": "text_files", "paths": [str(tmp_path)], "context_size": 32},
        "sae": {"architecture": "topk", "d_sae": 64, "k": 8},
        "training": {"tokens": 256, "batch_size": 64, "loss": "kl", "log_every_steps": 1},
        "buffer": {"tokens": 64, "model_batch_size": 2},
        "evaluation": {"tokens": 64},
        "output": str(tmp_path / "runs"),
    }
    for key, value in changes.items():
        table, _, name = key.partition("__")
        tables[table][name] = value
    return structure_experiment(tables)


@pytest.mark.parametrize("loss", ["ce", "kl"])
def test_run(tmp_path, loss):
    """An experiment trains by the model's loss and says so in its metrics."""
    result = run(experiment(tmp_path, training__loss=loss))
    assert result.metrics[f"losses/{loss}_loss"] > 0
    assert "losses/mse_loss" not in result.metrics
    assert "metrics/explained_variance" in result.metrics


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            {"training__batch_size": 48, "training__tokens": 480},
            "training.batch_size: expected whole contexts of 32 tokens",
        ),
        ({"training__accumulate": 4}, "training.batch_size: expected whole contexts of 32 tokens"),
        ({"dataset__positions": [1, 32]}, "dataset.positions: every activation is replaced"),
        ({"sae__normalizer": "expected_average_only_in"}, "sae.normalizer: expected none"),
    ],
)
def test_what_does_not_go_with_it(tmp_path, change, line):
    """Settings that cannot work with a loss through the model are named."""
    with pytest.raises(ConfigError) as error:
        experiment(tmp_path, **change)
    assert any(one.startswith(line) for one in error.value.problems)
