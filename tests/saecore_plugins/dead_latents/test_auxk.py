"""AuxK in every variant against a dense loop over tokens and latents."""

import pytest
import torch

from saecore.plugins.problems import Problems
from tests.saecore_plugins.dead_latents.cases import (
    ARCHITECTURES,
    D,
    context,
    inputs,
    make,
    strategy,
)

DEAD = [1, 3, 5, 8, 11, 14]
RECTIFIED = {"rectify": True}
OPENAI = {"rectify": True, "normalize": True, "coefficient": 1 / 32}


def dense_loss(sae, batch, reconstruction, dead, settings):
    """The loss of the formula for the latents `dead` against one reconstruction."""
    if not dead:
        return torch.zeros((), dtype=batch.inputs.dtype)
    wanted = settings.get("k_aux") or D // 2
    k = min(wanted, len(dead))
    bias = getattr(sae, "b_gate", None)
    bias = getattr(sae, "b_enc", torch.zeros(sae.cfg.d_sae)) if bias is None else bias
    scale = sae.latent_scale()
    residuals = (batch.targets - reconstruction).detach()
    errors = []
    for x, r in zip(batch.inputs, residuals, strict=True):
        x = x if sae.center is None else x - sae.center
        pre = {i: x @ sae.W_enc[:, i] + bias[i] for i in dead}
        if settings.get("rectify"):
            pre = {i: one.relu() for i, one in pre.items()}

        def rank(i, pre=pre):
            value = float(pre[i].detach()) * (1 if scale is None else float(scale[i]))
            return abs(value) if sae.architecture == "abstopk" else value

        best = sorted(dead, key=rank, reverse=True)[:k]
        errors.append((sum(pre[i] * sae.W_dec[i] for i in best) - r).square().sum())
    error = sum(errors) / len(errors)
    if settings.get("normalize"):
        mean = sum(residuals) / len(residuals)
        error = error / (sum((r - mean).square().sum() for r in residuals) / len(residuals))
    return settings.get("coefficient", 1.0) * min(len(dead) / wanted, 1.0) * error


def compare(name, dead=DEAD, **settings):
    """Loss and gradients of plugin and loop agree; returns the loss."""
    sae, batch = make(name, torch.float64), inputs(torch.float64)
    around = context(batch, dead, sae)
    output = sae.training_step(batch, around)
    auxk = strategy({"type": "auxk", **settings})
    ours = auxk.losses(sae, batch, output, around)["auxiliary_reconstruction_loss"]
    if settings.get("per_level") and name == "matryoshka":
        assert [(one.start, one.stop) for one in output.levels] == [(0, 4), (4, 10), (10, 16)]
        features = output.codes.dense().detach()
        wanted = sum(
            dense_loss(
                sae,
                batch,
                (features[:, :stop] @ sae.W_dec[:stop] + sae.b_dec).detach(),
                [i for i in dead if start <= i < stop],
                settings,
            )
            for start, stop in ((0, 4), (4, 10), (10, 16))
        )
    else:
        wanted = dense_loss(sae, batch, output.reconstruction, dead, settings)
    torch.testing.assert_close(ours, wanted)
    if dead:
        parameters = list(sae.parameters())
        got = torch.autograd.grad(ours, parameters, allow_unused=True, retain_graph=True)
        expected = torch.autograd.grad(wanted, parameters, allow_unused=True)
        for (key, _), one, other in zip(sae.named_parameters(), got, expected, strict=True):
            assert (one is None) == (other is None), key
            if one is not None:
                torch.testing.assert_close(one, other, msg=key)
    return float(ours.detach())


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize(
    "settings",
    [{}, RECTIFIED, {"normalize": True}, OPENAI, {"k_aux": 2}, {"k_aux": 50}],
    ids=["reference", "rectify", "normalize", "openai", "k_aux", "k_aux_above_dead"],
)
def test_variants(name, settings):
    """Every option, for every architecture: value and all gradients."""
    assert compare(name, **settings) > 0


@pytest.mark.parametrize("settings", [{}, OPENAI, {"k_aux": 1}])
@pytest.mark.parametrize("dead", [DEAD, [5, 14], [2]])
def test_per_level(settings, dead):
    """With nested dictionaries: a loss for the new latents of each level, one without dead latents
    left out, each scaled by its own number of dead latents.
    """
    assert compare("matryoshka", dead, per_level=True, **settings) > 0


def test_per_level_without_levels():
    """An SAE that is not nested has one level: the whole."""
    assert compare("topk", per_level=True) == compare("topk")


def test_none_dead():
    """Zero while all latents are alive."""
    assert compare("topk", dead=[]) == 0


def test_the_residual_is_fixed():
    """No gradient reaches what the living latents do: their rows and, uncentered, b_dec."""
    sae, batch = make("no_b_dec", torch.float64), inputs(torch.float64)
    around = context(batch, DEAD, sae)
    output = sae.training_step(batch, around)
    loss = strategy("auxk").losses(sae, batch, output, around)["auxiliary_reconstruction_loss"]
    encoder, decoder, b_dec = torch.autograd.grad(
        loss, [sae.encoder, sae.W_dec, sae.b_dec], allow_unused=True
    )
    living = [i for i in range(16) if i not in DEAD]
    assert not encoder[living].any()
    assert not decoder[living].any()
    assert b_dec is None


def test_dead_by_tokens_or_steps():
    """after_tokens counts tokens, after_steps batches; the default is 10 million tokens."""
    assert strategy({"type": "auxk", "after_tokens": 300}).after_tokens(32) == 300
    assert strategy({"type": "auxk", "after_steps": 5}).after_tokens(32) == 160
    assert strategy("auxk").after_tokens(32) == 10_000_000
    with pytest.raises(Problems, match="expected only one of after_tokens and after_steps"):
        strategy({"type": "auxk", "after_tokens": 1, "after_steps": 1})
