"""First-letter absorption finds planted absorption, and gives a reason when it cannot measure."""

import pytest
import torch

from saecore import Shape
from saecore_plugins.evaluators.absorption import spelling as task
from tests.saecore_plugins.architectures.build import choice
from tests.saecore_plugins.evaluators.planted import Planted, Words, run, spelling, values


def test_planted_absorption():
    """Exactly the absorbed words are found."""
    model, sae, hidden = spelling()
    result = run("absorption", sae, model, words=120)
    prompts = task.prompts(model.tokenizer, 120, 8, 0)
    words = [model.tokenizer.pieces[i] for i in prompts.tokens[:, prompts.position].tolist()]
    tested = [word for word in words[4::5] if word[1] == "a"]
    share = sum(word in hidden for word in tested) / len(tested)
    assert 0 < share < 1
    vectors = result.vectors["absorption"]
    assert vectors["full_absorption_rate"].labels == ("A", "B", "C", "D")
    for name in ("full_absorption_rate", "mean_absorption_fraction"):
        assert vectors[name].values.tolist() == pytest.approx([share, 0, 0, 0]), name
    assert values(result)["mean_full_absorption_score"] == pytest.approx(share / 4)
    assert values(result)["spelling_accuracy"] == 1.0


def test_without_absorption():
    """An SAE whose letter latents always fire shows no absorption, whatever its other latents."""
    model, sae, _ = spelling()
    with torch.no_grad():
        sae.encoder[0, 4:] = 0.0
        sae.W_dec[4:, 0] = 0.0
    result = values(run("absorption", sae, model, words=120))
    assert result["mean_full_absorption_score"] == result["mean_absorption_fraction_score"] == 0
    assert result["mean_num_split_features"] == 1


def test_partial_absorption_by_hand():
    """If a main latent and another latent carry half of the letter each, the fraction is 0.5."""
    from saecore.ops.codes import Codes
    from saecore_plugins.evaluators.absorption.evaluator import absorbed

    rows = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    x = torch.tensor([[1.0, 0.0]]).expand(3, 2)
    dense = torch.tensor([[0.5, 0.5 / 0.8, 0.0], [0.9, 0.1 / 0.8, 0.0], [0.0, 1.0, 1.0]])
    scores = absorbed(x, Codes.from_dense(dense), torch.tensor([0]), rows, torch.tensor([1.0, 0]))
    # The second carries 0.1, below the least share; in the third the main latent is silent.
    assert scores[0].tolist() == pytest.approx([0.5, 0.0, 1.0])
    assert scores[1].tolist() == [0, 0, 1]


def test_reasons():
    """A model that cannot spell, a tokenizer without words, and a transcoder are skipped."""
    model, sae, _ = spelling(knows=False)
    reason = run("absorption", sae, model, words=120).skipped["absorption"]
    assert "cannot spell: it names 0% of first letters" in reason
    letters = [" ", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    few = Planted(Words(letters), torch.zeros(28, 4))
    reason = run("absorption", sae, few).skipped["absorption"]
    assert "no single tokens for letters" in reason
    assert "no tokenizer" in task.prompts(None, 100, 8, 0).reason
    reason = run(
        "absorption", choice("architecture", "transcoder").build(Shape(4, 4, 8)), model
    ).skipped["absorption"]
    assert "another hook" in reason
