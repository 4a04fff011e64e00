"""The training loop: exact continuation, bad numbers, accumulation, clipping."""

import copy

import numpy as np
import pytest
import torch

from saecore.activations.mixing_buffer import MixingBuffer, MixingBufferSettings
from saecore.core.sae_config import Shape
from saecore.core.step import Batch
from saecore.errors import NumericsError
from saecore.models.hook_site import HookSite
from saecore.plugins.structure import structure_choice
from saecore.randomness import generator
from saecore.storage import checkpoint
from saecore.training.optimizer_steps import parameter_groups
from saecore.training.trainer import Trainer, TrainerSettings
from tests.activations.fakes import CountingBackend
from tests.helpers import ListSource

ARCHITECTURES = {
    "topk": {"architecture": "topk", "k": 3},
    "standard": {
        "architecture": "standard",
        "l1_coefficient": 0.1,
        "l1_schedule": {"type": "constant", "warm_up_steps": 5},
    },
}


class NoisyBackend(CountingBackend):
    """Activations of size 8 that depend on token and position in a fixed way."""

    def d(self, hook):
        """One size."""
        return (8,)

    def activations(self, tokens, hooks):
        """Deterministic, dense activations."""
        phase = tokens[..., None] * torch.arange(1.0, 9.0) * 0.37
        return {hook: torch.sin(phase) + 0.1 * torch.cos(3 * phase) for hook in hooks}


def build(kind, table):
    """A component's object."""
    return structure_choice(kind, table).build()


def trainer(architecture, normalizer="none", source=None, optimizer="adam", **settings):
    """A small trainer with AuxK and a learning-rate schedule."""
    sae = structure_choice("architecture", ARCHITECTURES[architecture]).build(Shape(8, 8, 24))
    sae.initialize(generator(0, "init"), 0.1)
    if source is None:
        tokens = np.arange(600, dtype=np.int32).reshape(60, 10)
        window = MixingBufferSettings(
            site=HookSite(hooks=("h",)), fill_tokens=100, model_batch_size=4
        )
        source = MixingBuffer(NoisyBackend(), tokens, window)
    options = {"steps": 12, "batch_size": 32, "lr": 1e-2, "feature_sampling_window": 4, **settings}
    return Trainer(
        sae,
        source,
        structure_choice("optimizer", optimizer).build(parameter_groups(sae, 1e-2, {}), 1e-2),
        TrainerSettings(**options),
        lr_schedule=build("schedule", {"type": "cosineannealing", "warm_up_steps": 3}),
        normalizer=build("normalizer", normalizer),
        dead_latents=build("dead_latents", {"type": "auxk", "after_tokens": 40}),
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    "normalizer", ["none", {"type": "expected_average_only_in", "tokens": 100}]
)
def test_state_round_trip_in_mid_run(architecture, normalizer):
    """Saved and loaded in mid-run, in the middle of a metric window, training ends with the same
    bits, and logs the same figures.
    """
    whole = trainer(architecture, normalizer)
    whole.prepare()
    for _ in range(5):
        whole.step()
    state = copy.deepcopy(whole.state_dict())
    resumed = trainer(architecture, normalizer)
    resumed.load_state_dict(state)
    for _ in range(7):
        whole.step()
        resumed.step()
    for (name, ours), (_, other) in zip(
        resumed.sae.state_dict().items(), whole.sae.state_dict().items(), strict=True
    ):
        assert torch.equal(ours, other), name
    assert torch.equal(resumed.latents.since_fired, whole.latents.since_fired)
    assert torch.equal(resumed.latents.sparsity(), whole.latents.sparsity())
    assert resumed.read_metrics() == whole.read_metrics()


def test_training_reduces_the_loss():
    """A few hundred steps explain most of the variance."""
    tokens = np.random.default_rng(0).integers(0, 50, (2000, 10), dtype=np.int32)
    window = MixingBufferSettings(
        site=HookSite(hooks=("h",)), fill_tokens=2000, model_batch_size=32
    )
    one = trainer("topk", source=MixingBuffer(NoisyBackend(), tokens, window), steps=300)
    for _ in range(300):
        one.step()
    assert one.read_metrics()["metrics/l0"] <= 3
    one.step()
    assert one.read_metrics()["metrics/explained_variance"] > 0.8


def test_accumulation_changes_nothing():
    """A batch in four parts gives the gradients, counts and weights of the whole."""
    batches = [torch.randn(32, 8, generator=generator(0, "x", i)) for i in range(3)]
    whole = trainer("topk", source=ListSource(batches))
    parts = trainer("topk", source=ListSource(batches), accumulate=4)
    for _ in range(3):
        whole.step()
        parts.step()
    torch.testing.assert_close(parts.sae.W_dec, whole.sae.W_dec, rtol=1e-4, atol=1e-6)
    assert torch.equal(parts.latents.counts, whole.latents.counts)
    assert parts.read_metrics()["metrics/l0"] == pytest.approx(whole.read_metrics()["metrics/l0"])


def test_clipping():
    """The gradient norm is scaled down to clip_norm; 0 leaves it alone."""
    batches = [100 * torch.randn(32, 8, generator=generator(0, "x"))]
    for clip, expected in ((1.0, 1.0), (0.0, None)):
        one = trainer("topk", source=ListSource(batches), clip_norm=clip)
        one.step()
        norm = torch.stack([p.grad.norm() for p in one.sae.parameters()]).norm()
        before = one.read_metrics()["details/gradient_norm"]
        assert before > 100
        assert float(norm) == pytest.approx(expected or before, rel=1e-4)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_bad_numbers_stop(bad):
    """A value that is not finite stops the run at its step; the weights stay finite."""
    good, wrong = torch.randn(32, 8), torch.randn(32, 8)
    wrong[3, 2] = bad
    one = trainer("topk", source=ListSource([good, wrong]))
    one.step()
    before = one.sae.W_dec.detach().clone()
    with pytest.raises(NumericsError, match="step 1"):
        one.step()
    assert torch.equal(one.sae.W_dec, before)


def test_bad_numbers_skip():
    """With "skip" the step is left out and counted, and training goes on."""
    good, wrong = torch.randn(32, 8), torch.full((32, 8), float("nan"))
    one = trainer("standard", source=ListSource([good, wrong, good]), bad_numbers="skip")
    for _ in range(3):
        one.step()
    assert one.skipped == 1
    assert all(bool(torch.isfinite(p).all()) for p in one.sae.parameters())


def test_export_takes_raw_activations():
    """The exported SAE reconstructs raw activations as the training one does scaled ones."""
    one = trainer("topk", {"type": "expected_average_only_in", "tokens": 100})
    one.prepare()
    for _ in range(3):
        one.step()
    x = 5 * torch.randn(16, 8)
    factor = one.normalizer.factor
    scaled = one.normalizer.apply(Batch(x, x)).inputs
    torch.testing.assert_close(scaled, x * factor)
    exported = one.export()
    torch.testing.assert_close(exported(x), one.sae(scaled) / factor, rtol=1e-4, atol=1e-5)
    norms = exported.W_dec.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms))


def test_autocast_trains():
    """With autocast the weights stay float32 and the loss stays close to the float32 one."""
    batches = [torch.randn(32, 8, generator=generator(0, "x", i)) for i in range(2)]
    losses = []
    for autocast in (False, True):
        one = trainer("topk", source=ListSource(batches), autocast=autocast)
        one.step()
        one.step()
        assert one.sae.W_dec.dtype == torch.float32
        losses.append(one.read_metrics()["losses/mse_loss"])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def after_steps(steps, **options):
    """A trainer after some steps, and the weights after each of them."""
    batches = [torch.randn(32, 8, generator=generator(0, "x", i)) for i in range(steps)]
    one = trainer("topk", source=ListSource(batches), **options)
    seen = []
    for _ in range(steps):
        one.step()
        seen.append(one.sae.W_dec.detach().clone())
    return one, seen


def test_the_average_is_exported():
    """With `ema` the exported weights are the average, while training goes on from its own."""
    one, seen = after_steps(4, ema=0.5)
    plain, _ = after_steps(4)
    assert torch.equal(one.sae.W_dec, plain.sae.W_dec)
    powers = torch.tensor([0.5 ** (3 - i) for i in range(4)])
    average = sum(p * w for p, w in zip(powers, seen, strict=True)) / powers.sum()
    exported = one.export()
    torch.testing.assert_close(exported.W_dec.detach(), average / average.norm(dim=1, keepdim=True))
    assert torch.equal(one.sae.W_dec, seen[-1])


def test_constraints_hold_for_the_average(monkeypatch):
    """An average of unit rows is made of unit rows again before it is exported."""
    from saecore_plugins.architectures.topk.sae import TopK

    def unit_rows(sae):
        with torch.no_grad():
            sae.W_dec.div_(sae.W_dec.norm(dim=1, keepdim=True))

    monkeypatch.setattr(TopK, "after_step", unit_rows)
    monkeypatch.setattr(TopK, "fold_scale", lambda sae: None)
    one, _ = after_steps(4, ema=0.9)
    with one.average.averaged():
        assert not torch.allclose(one.sae.W_dec.norm(dim=1), torch.ones(24), atol=1e-5)
    torch.testing.assert_close(one.export().W_dec.norm(dim=1), torch.ones(24))


@pytest.mark.parametrize("optimizer", ["adam", "signum", "muon", "adam8bit"])
def test_round_trip_of_optimizers_and_averages(optimizer, tmp_path):
    """Through a checkpoint file in mid-run: the same weights, and the same exported ones."""
    if optimizer == "adam8bit":
        pytest.importorskip("bitsandbytes")
    options = {} if optimizer == "signum" else {"ema": 0.9}
    whole = trainer("topk", optimizer=optimizer, **options)
    for _ in range(5):
        whole.step()
    path = checkpoint.save(tmp_path, 5, whole.state_dict(), keep=2)
    resumed = trainer("topk", optimizer=optimizer, **options)
    resumed.load_state_dict(checkpoint.load(path))
    for one in (whole, resumed):
        for _ in range(5):
            one.step()
    for make in (lambda one: one.sae, lambda one: one.export()):
        for name, tensor in make(whole).state_dict().items():
            assert torch.equal(make(resumed).state_dict()[name], tensor), name


def test_factors_scale_the_learning_rate():
    """A group's factor multiplies what the schedule says, in every step."""
    one = trainer("topk")
    groups = parameter_groups(one.sae, 1e-2, {"b_dec": 0.0, "W_enc": 0.5})
    one.optimizer = torch.optim.SGD(groups)
    before = {name: p.detach().clone() for name, p in one.sae.named_parameters()}
    one.step()
    one.step()
    lr = 1e-2 * one.lr_schedule(1, 12)
    assert sorted(group["lr"] for group in one.optimizer.param_groups) == [0.0, lr / 2, lr]
    assert torch.equal(one.sae.b_dec, before["b_dec"])
    assert not torch.equal(one.sae.encoder, before["encoder"])
