"""Steering and ablation, in both kinds of model."""

import pytest
import torch

from saecore import Codes, splice
from saecore.errors import ConfigError
from saecore.splicing.interventions import Interventions
from tests.splicing.models import HOOK, MLP, TOKENS, hooked, plain, recorded

POST = f"{HOOK}.hook_sae_acts_post"


def test_apply():
    """Held features have their values in every row, others and gradients stay; zero is absence."""
    generator = torch.Generator().manual_seed(0)
    dense = torch.randn(7, 9, generator=generator) * (torch.rand(7, 9, generator=generator) < 0.4)
    dense.requires_grad_()
    interventions = Interventions(torch.tensor([3, 0, 5]), torch.tensor([2.0, 0.0, -1.0]))
    changed = interventions.apply(Codes.from_dense(dense))
    expected = dense.clone()
    expected[:, [3, 0, 5]] = interventions.values
    assert torch.equal(changed.dense(), expected)
    assert torch.equal(changed.offsets[1:] - changed.offsets[:-1], (expected != 0).sum(1))
    changed.values.sum().backward()
    kept = (dense != 0) & (torch.arange(9) != 3) & (torch.arange(9) != 0) & (torch.arange(9) != 5)
    assert torch.equal(dense.grad != 0, kept)


@torch.no_grad()
def test_both_fronts_equal_a_function():
    """Steering and ablation are what a function at the features does, on both models; the error
    term is there unless it is refused.
    """
    model, bridge, sae = plain(), hooked(), recorded("resid")
    active = int(splice(model, sae).run_with_cache(TOKENS, [POST])[1][POST].sum((0, 1)).argmax())

    def function(features):
        features[..., [2, active]] = torch.tensor([4.0, 0.0])

    for error in (True, False):
        options = {"steer": {2: 4.0}, "ablate": [active]}
        if not error:
            options["use_error_term"] = False
        by_hand = splice(model, sae, use_error_term=error).run(TOKENS, hooks={POST: function})
        ours = splice(model, sae, **options).run(TOKENS)
        torch.testing.assert_close(ours, by_hand, atol=1e-5, rtol=1e-5)
        theirs = bridge.run_with_saes(TOKENS, saes=[sae], **options)
        torch.testing.assert_close(theirs, by_hand, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(ours, splice(model, sae).run(TOKENS), atol=1e-2)


@torch.no_grad()
def test_several_saes():
    """Features are named by hook; one SAE is left as it is."""
    model, saes = plain(), [recorded("resid"), recorded("mlp")]
    names = [POST, f"{MLP}.hook_sae_acts_post"]
    spliced = splice(model, saes, steer={MLP: {1: 3.0}}, ablate={HOOK: [0, 5]})
    cache = spliced.run_with_cache(TOKENS, names)[1]
    assert (cache[names[1]][..., 1] == 3).all()
    assert (cache[names[0]][..., [0, 5]] == 0).all()
    assert (cache[names[0]] != 0).any()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"steer": {72: 1.0}}, "steer: feature 72 of blocks.1.hook_resid_pre: expected an integer"),
        ({"ablate": [-1]}, "ablate: feature -1 of"),
        ({"ablate": [1.5]}, "ablate: feature 1.5 of"),
        ({"steer": {1: float("nan")}}, "expected a finite number, got nan"),
        ({"steer": {1: 2.0}, "ablate": [1]}, "it is already steered"),
        ({"ablate": {MLP: [1]}}, f"ablate: no SAE at '{MLP}' .SAEs at {HOOK}"),
    ],
)
def test_refusals(options, said):
    """A feature or hook that there is not, and contradictions."""
    with pytest.raises(ConfigError, match=said):
        splice(plain(), recorded("resid"), **options)
    with pytest.raises(ConfigError, match="there are 2 SAEs; expected"):
        splice(plain(), [recorded("resid"), recorded("mlp")], ablate=[1])
