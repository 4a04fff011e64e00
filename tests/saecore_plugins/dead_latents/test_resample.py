"""Resampling: what dead latents become, and what stays."""

import copy

import attrs
import pytest
import torch

from saecore.core.step import Batch
from saecore.errors import ConfigError
from saecore.plugins.problems import Problems
from saecore.randomness import generator
from tests.saecore_plugins.dead_latents.cases import (
    ARCHITECTURES,
    D_SAE,
    D,
    context,
    inputs,
    make,
    strategy,
)

DEAD = [2, 5, 11]


def stepped(sae, batch, dead=DEAD, **settings):
    """Two steps of Adam, then a resampling; the SAE's state before, the optimizer, the mask."""
    adam = torch.optim.Adam(sae.parameters(), 1e-3)
    around = context(batch, dead, sae)
    for _ in range(2):
        adam.zero_grad()
        sae.training_step(batch, around).total.backward()
        adam.step()
    before = {name: one.detach().clone() for name, one in sae.named_parameters()}
    moments = {p: adam.state[p]["exp_avg"].clone() for p in sae.parameters() if p in adam.state}
    resample = strategy({"type": "resample", "every_steps": 10, **settings})
    revived = resample.after_step(sae, adam, batch, around)
    return before, moments, adam, revived


def drawn(sae, batch, before, power):
    """The tokens that must have been drawn, from a loop over tokens with the weights before."""
    old = make_like(sae, before)
    with torch.no_grad():
        x_hat = torch.cat([old(x[None]) for x in batch.inputs]) if row_by_row(sae) else None
        if x_hat is None:
            x_hat = old.reconstruct(old.select(batch.inputs), batch.inputs)
    losses = [
        sum(float(a - b) ** 2 for a, b in zip(got, wanted, strict=True))
        for got, wanted in zip(x_hat, batch.targets, strict=True)
    ]
    weights = torch.tensor([(one / max(losses)) ** power for one in losses])
    return weights.multinomial(len(DEAD), generator=generator(3, "resample", 9)).tolist()


def row_by_row(sae):
    """Whether a token's features do not depend on the others of its batch."""
    return "batchtopk" not in sae.architecture


def make_like(sae, state):
    """A copy of the SAE with older weights."""
    old = copy.deepcopy(sae)
    old.load_state_dict({**old.state_dict(), **state})
    return old


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("probability", ["squared_loss", "loss"])
def test_new_weights(name, probability):
    """Encoder and decoder rows of dead latents are the directions of the drawn tokens at their
    norms, biases 0, and everything else (thresholds too) keeps its bits.
    """
    sae, batch = make(name), inputs()
    before, _, _, revived = stepped(sae, batch, probability=probability)
    assert revived.nonzero().flatten().tolist() == DEAD
    rows = drawn(sae, batch, before, 2 if probability == "squared_loss" else 1)
    living = [i for i in range(D_SAE) if i not in DEAD]
    after = dict(sae.named_parameters())
    for latent, row in zip(DEAD, rows, strict=True):
        x = batch.inputs[row]
        direction = x if name == "no_b_dec" else x - before["b_dec"]
        direction = direction / direction.square().sum().sqrt()
        for matrix, scale in (("encoder", 0.2), ("W_dec", 1.0)):
            if matrix in before:
                norm = sum(float(before[matrix][i].norm()) for i in living) / len(living)
                torch.testing.assert_close(after[matrix][latent], scale * norm * direction)
    for key, old in before.items():
        if key.startswith("activation.") or key == "b_dec":
            assert torch.equal(after[key], old), key
            continue
        assert torch.equal(after[key][living], old[living]), key
        if old.dim() == 1:
            assert after[key][DEAD].tolist() == [0.0] * len(DEAD), key


@pytest.mark.parametrize("name", ["standard", "gated", "jumprelu", "matching_pursuit"])
def test_optimizer_forgets(name):
    """The moments of what was changed are zero; those of other rows, b_dec and thresholds stay."""
    sae, batch = make(name), inputs()
    before, moments, adam, _ = stepped(sae, batch)
    living = [i for i in range(D_SAE) if i not in DEAD]
    for key, parameter in sae.named_parameters():
        if parameter not in moments:
            continue
        now, old = adam.state[parameter]["exp_avg"], moments[parameter]
        if key == "b_dec" or key.startswith("activation."):
            assert torch.equal(now, old), key
        else:
            assert not now[DEAD].any(), key
            assert not adam.state[parameter]["exp_avg_sq"][DEAD].any(), key
            assert torch.equal(now[living], old[living]), key
    assert set(before) == {key for key, _ in sae.named_parameters()}


def test_revived_latents_fire():
    """A revived latent of a standard SAE fires on the token whose direction it took."""
    sae, batch = make("standard"), inputs()
    before, _, _, _ = stepped(sae, batch)
    features = sae.encode(batch.inputs)
    rows = drawn(sae, batch, before, 2)
    assert all(float(features[row, latent]) > 0 for latent, row in zip(DEAD, rows, strict=True))


def test_another_target():
    """Where another hook is reconstructed, the decoder row points along the target − b_dec."""
    sae, x = make("standard"), inputs()
    batch = Batch(x.inputs, x.inputs.flip(1) + 1)
    before, _, _, _ = stepped(sae, batch)
    rows = drawn(sae, batch, before, 2)
    for latent, row in zip(DEAD, rows, strict=True):
        wanted = batch.targets[row] - before["b_dec"]
        got = sae.W_dec[latent]
        assert float(torch.nn.functional.cosine_similarity(got, wanted, dim=0)) > 1 - 1e-6


def test_the_loss_is_that_of_raw_activations():
    """With a normalization token by token, losses are compared where the SAE reconstructs."""
    sae, batch = make("standard"), inputs()
    around = attrs.evolve(
        context(batch, DEAD, sae),
        targets=batch.targets,
        restore=lambda x_hat: torch.where(torch.arange(20)[:, None] == 4, 1e4, batch.targets),
    )
    adam = torch.optim.Adam(sae.parameters())
    strategy({"type": "resample", "every_steps": 1}).after_step(sae, adam, batch, around)
    direction = batch.inputs[4] - sae.b_dec
    cosines = torch.nn.functional.cosine_similarity(sae.encoder[DEAD], direction[None])
    assert float(cosines.max()) > 1 - 1e-6


def test_more_dead_latents_than_tokens():
    """As many are revived as there are tokens, each from another; the rest stays dead."""
    sae, batch = make("topk"), inputs(n=4)
    _, _, _, revived = stepped(sae, batch, dead=range(1, 10))
    assert revived.nonzero().flatten().tolist() == [1, 2, 3, 4]


def test_all_dead_and_perfect_reconstructions():
    """With no latent alive and no loss anywhere, finite weights come out."""
    sae, batch = make("standard"), inputs()
    around = attrs.evolve(context(batch, range(D_SAE), sae), restore=lambda x_hat: batch.targets)
    adam = torch.optim.Adam(sae.parameters())
    before = sae.encoder.norm(dim=1).mean()
    resample = strategy({"type": "resample", "every_steps": 1})
    assert resample.after_step(sae, adam, batch, around).all()
    assert all(bool(one.isfinite().all()) for one in sae.parameters())
    torch.testing.assert_close(sae.encoder.norm(dim=1), (0.2 * before).expand(D_SAE))


def test_none_dead():
    """Nothing changes while all are alive."""
    sae, batch = make("gated"), inputs()
    before, _, _, revived = stepped(sae, batch, dead=[])
    assert not revived.any()
    assert all(torch.equal(one, before[key]) for key, one in sae.named_parameters())


def test_when_it_acts():
    """After every `every_steps` steps, up to and with `until_step`."""
    resample = strategy({"type": "resample", "every_steps": 3, "until_step": 6})
    assert [step for step in range(12) if resample.acts(step)] == [2, 5]
    forever = strategy({"type": "resample", "every_steps": 5})
    assert [step for step in range(12) if forever.acts(step)] == [4, 9]


def test_the_draw_belongs_to_the_step():
    """Two resamplings of the same step draw the same: a resumed run repeats it bit by bit."""
    states = []
    for _ in range(2):
        sae = make("jumprelu")
        stepped(sae, inputs())
        states.append(sae.state_dict())
    assert all(torch.equal(one, states[1][key]) for key, one in states[0].items())


def test_bad_settings():
    """every_steps is needed, and positive."""
    with pytest.raises(Problems, match="every_steps"):
        strategy("resample")
    with pytest.raises(Problems, match="at least 1, got 0"):
        strategy({"type": "resample", "every_steps": 0})


def test_rows_that_do_not_fit():
    """Activations of another size than the rows are refused in one line."""
    sae, batch = make("no_b_dec"), inputs()
    wrong = Batch(batch.inputs, torch.randn(20, D + 1))
    sae.b_dec = torch.nn.Parameter(torch.zeros(D + 1))
    around = attrs.evolve(
        context(wrong, DEAD, sae), restore=lambda x_hat: wrong.targets, targets=wrong.targets
    )
    sae.reconstruct = lambda codes, x: x
    with pytest.raises(ConfigError, match=r"sae\.dead_latents: resample needs"):
        strategy({"type": "resample", "every_steps": 1}).after_step(
            sae, torch.optim.Adam(sae.parameters()), wrong, around
        )
