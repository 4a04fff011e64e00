"""Attributions against finite differences and against ablation."""

import pytest
import torch

from saecore import attribute, splice
from saecore.models.huggingface import HuggingFaceBackend
from tests.models.tiny import tokenizer
from tests.splicing.models import HOOK, MLP, MLP_IN, TOKENS, hooked, plain, random_sae, recorded

TRANSCODER = {"table": {"architecture": "skip_transcoder"}, "hook_name": MLP_IN,
              "hook_name_out": MLP}  # fmt: skip


def difference(logits):
    """A logit difference at the last token."""
    return (logits[:, -1, 3] - logits[:, -1, 7]).sum()


@pytest.mark.parametrize("name", ["resid", "z", "transcoder"])
def test_finite_differences(name):
    """Gradients are central differences of the spliced run with an error term, in float64; scores
    are those times the features.
    """
    model = plain().double()
    sae = random_sae(**TRANSCODER) if name == "transcoder" else recorded(name)
    sae = sae.double()
    ((hook, found),) = attribute(model, sae, TOKENS, difference).items()
    gradients = found.gradients.dense().reshape(found.dense().shape)
    spliced, step = splice(model, sae, use_error_term=True), 1e-5
    places = (gradients * found.features.dense().view_as(gradients)).nonzero()
    for b, t, latent in places[:: max(1, len(places) // 10)].tolist():

        def moved(by, place=(b, t, latent)):
            def function(features):
                features[place] += by

            with torch.no_grad():
                run = spliced.run(TOKENS, hooks={f"{hook}.hook_sae_acts_post": function})
            return difference(run)

        numeric = (moved(step) - moved(-step)) / (2 * step)
        torch.testing.assert_close(gradients[b, t, latent], numeric, atol=1e-6, rtol=1e-5)
    features = found.features.dense().view_as(gradients)
    torch.testing.assert_close(found.dense(), gradients * features)
    torch.testing.assert_close(found.total(), (gradients * features).sum((0, 1)))


@torch.no_grad()
def test_exact_where_the_metric_is_linear():
    """Behind the last norm logits are linear: a feature's score is what its ablation takes away,
    and the error's score what leaving out the error takes away.
    """
    model, hook = plain().double(), "transformer.ln_f"
    table = {"architecture": "topk", "k": 6}
    sae = random_sae(table, hook_name=hook).double()
    found = attribute(model, sae, TOKENS, difference)[hook]
    whole = difference(model(TOKENS).logits)
    for latent in found.total().abs().topk(3).indices.tolist():
        without = difference(splice(model, sae, ablate=[latent]).run(TOKENS))
        torch.testing.assert_close(found.total()[latent], whole - without)
    without = difference(splice(model, sae).run(TOKENS))
    torch.testing.assert_close(found.error.sum(), whole - without)


def test_several_saes_and_models():
    """Each SAE gets the scores that it gets alone; bridge, model and backend agree; the model's
    parameters get no gradients, and need none.
    """
    model, saes = plain(), [recorded("resid"), recorded("mlp"), recorded("z")]
    together = attribute(model, saes, TOKENS, difference)
    for sae, (hook, found) in zip(saes, together.items(), strict=True):
        alone = attribute(model, sae, TOKENS, difference)[hook]
        torch.testing.assert_close(found.dense(), alone.dense())
        torch.testing.assert_close(found.error, alone.error)
        assert found.error.shape == TOKENS.shape
        assert found.dense().shape == (*TOKENS.shape, 72)
    assert all(one.grad is None for one in model.parameters())
    for other in (hooked(), HuggingFaceBackend(plain(), tokenizer(), "recorded", {})):
        again = attribute(other, saes, TOKENS, difference)
        for hook, found in together.items():
            torch.testing.assert_close(again[hook].dense(), found.dense(), atol=1e-4, rtol=1e-3)


def test_tokens_left_out():
    """Where the model keeps its own activations, features have no scores."""
    sae = random_sae({"architecture": "topk", "k": 6}, hook_name=HOOK, seqpos_slice=[4, None])
    scores = attribute(plain(), sae, TOKENS, difference)[HOOK].dense()
    assert (scores[:, :4] == 0).all()
    assert (scores[:, 4:] != 0).any()


def test_refusals():
    """A metric must be one number that depends on the logits."""
    for metric in (lambda logits: logits[0, 0], lambda logits: logits.detach().sum()):
        with pytest.raises(ValueError, match="expected one number computed from the logits"):
            attribute(plain(), recorded("resid"), TOKENS, metric)
