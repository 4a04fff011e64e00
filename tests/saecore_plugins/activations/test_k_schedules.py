"""k follows its schedule, step by step."""

import pytest

from saecore.core.step import Batch
from tests.saecore_plugins.architectures.build import context, inputs, make
from tests.saecore_plugins.architectures.test_pca import trainer

FALLING = {"type": "linear", "start": 8.0, "end": 1.0}


@pytest.mark.parametrize("architecture", ["topk", "abstopk", "batchtopk", "matryoshka_batchtopk"])
def test_linear_from_8k_to_k(architecture):
    """As many latents are selected as the schedule says for the step."""
    sae = make(architecture, d_sae=40, k=4, k_schedule=FALLING)
    x = inputs(10)
    entries = []
    for step in range(9):
        output = sae.training_step(Batch(x, x), context(sae, x, step=step, total=8))
        entries.append(len(output.codes.values))
    # Scheduled values follow one step behind, and begin with the first value twice.
    wanted = [32, 32, 28.5, 25, 21.5, 18, 14.5, 11, 7.5]
    if "batch" in architecture:
        assert entries == [10 * k for k in wanted]
    else:
        assert entries == [10 * round(k) for k in wanted]


def test_never_more_than_there_are():
    """A schedule above d_sae gives all latents; one that rounds to none gives one."""
    sae, x = make("topk", k=4, k_schedule=FALLING), inputs(10)
    assert len(sae.training_step(Batch(x, x), context(sae, x)).codes.values) == 10 * 20
    sae = make("topk", k=1, k_schedule={"type": "linear", "start": 0.1})
    assert len(sae.training_step(Batch(x, x), context(sae, x)).codes.values) == 10


def test_evaluation_uses_k():
    """Outside training steps k is the final one."""
    sae = make("topk", d_sae=40, k=4, k_schedule=FALLING)
    assert len(sae.encode_sparse(inputs(10)).values) == 40


def test_the_trainer_follows_it():
    """In a run, the k that is used and logged falls with the schedule."""
    batches = [inputs(40, seed=step) + 5 for step in range(4)]
    one = trainer(make("topk", d_sae=40, k=4, k_schedule=FALLING), batches)
    logged = []
    for _ in batches:
        one.step()
        logged.append(one.read_metrics()["details/k"])
    assert logged == [32, 32, 25, 18]
