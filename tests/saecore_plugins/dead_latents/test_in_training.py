"""Strategies inside the training loop."""

import copy

import pytest
import torch

from tests.saecore_plugins.dead_latents.cases import strategy
from tests.training.test_trainer import trainer

STRATEGIES = {
    "resample": {"type": "resample", "every_steps": 3, "after_tokens": 40},
    "ghost_grads": {"type": "ghost_grads", "after_tokens": 40},
    "auxk": {"type": "auxk", "after_steps": 1, "rectify": True, "normalize": True},
}


def made(name):
    """A trainer of a standard SAE with a strategy, where half of the latents never fire."""
    one = trainer("standard")
    one.dead_latents = strategy(STRATEGIES[name])
    with torch.no_grad():
        one.sae.b_enc[::2] = -100
    return one


@pytest.mark.parametrize("name", STRATEGIES)
def test_state_round_trip(name):
    """Saved in mid-run and loaded, training ends with the same bits, across resamplings too."""
    whole = made(name)
    for _ in range(4):
        whole.step()
    state = copy.deepcopy(whole.state_dict())
    resumed = made(name)
    resumed.load_state_dict(state)
    for _ in range(6):
        whole.step()
        resumed.step()
    ours, other = resumed.sae.state_dict(), whole.sae.state_dict()
    assert all(torch.equal(one, other[key]) for key, one in ours.items())
    assert resumed.read_metrics() == whole.read_metrics()


def test_resampled_latents_count_as_alive():
    """After a resampling no latent is dead, and the dead ones have new biases."""
    one = made("resample")
    for _ in range(2):
        one.step()
    assert int(one.latents.dead(one.dead_after).sum()) == 12
    one.step()
    assert not one.latents.dead(one.dead_after).any()
    assert float(one.sae.b_enc.min()) > -1


def test_ghost_gradients_reach_dead_latents():
    """Decoder rows of dead latents move under ghost gradients, and do not without."""
    moved = []
    for name in ("ghost_grads", "none"):
        one = made("auxk") if name == "none" else made(name)
        if name == "none":
            one.dead_latents = strategy({"type": "none", "after_tokens": 40})
        for _ in range(3):
            one.step()
        before = one.sae.W_dec.detach().clone()
        one.step()
        moved.append(bool((one.sae.W_dec - before)[::2].any()))
    assert moved == [True, False]
