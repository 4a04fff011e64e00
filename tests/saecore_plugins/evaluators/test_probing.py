"""Probes on labeled texts find planted features, and latents can be ablated."""

import json

import pytest
import torch

from saecore.errors import DataError
from saecore.evaluation.labeled_texts import encode_texts, in_order, pooled, read_labeled
from saecore.evaluation.probing import Probe
from tests.saecore_plugins.evaluators.planted import Planted, Words, run, sae_of, values

NOUNS = ("cat", "dog", "fish", "he", "she", "x", "y", "z")


@pytest.fixture
def model():
    """A model of eight words with a feature each, and noise."""
    tokenizer = Words([*NOUNS, " "])
    features = torch.zeros(len(tokenizer.pieces), 10)
    for i, word in enumerate(NOUNS):
        features[tokenizer.ids[word], i] = 1.0
    features[tokenizer.ids[" "], 8:] = 0.3
    features[0] = 100.0  # BOS is not read
    return Planted(tokenizer, features)


@pytest.fixture
def texts(tmp_path):
    """A file of texts that name an animal and an author, among random letters."""
    draw = torch.Generator().manual_seed(0)

    def number(n):
        return int(torch.randint(n, (), generator=draw))

    lines = []
    for i in range(240):
        animal, author = NOUNS[i % 3], ("he", "she")[number(2)]
        words = [NOUNS[5 + number(3)] for _ in range(1 + number(4))]
        text = " ".join([*words, author, animal])
        lines.append({"text": text, "label": animal, "by": author, "cat": animal == "cat"})
    file = tmp_path / "labeled.jsonl"
    file.write_text("\n".join(json.dumps(line) for line in lines))
    return str(file)


def test_pooling_is_the_mean_over_tokens(model, texts):
    """Means equal those of each text by itself, in the order of the texts; no text is padded."""
    sae = sae_of(torch.eye(10), torch.eye(10))
    data = read_labeled(texts, "text", "label", None, 40, 0)
    encoded = encode_texts(sae, model, data.texts, 128)
    parts = list(pooled(sae, model, encoded, 7))
    latents = torch.tensor([3, 0])
    chosen = in_order(list(pooled(sae, model, encoded, 16, latents)), "features")
    for i, text in enumerate(data.texts):
        x = model.features[model.tokenizer.encode(text)]
        features = sae.encode(x).mean(0)
        torch.testing.assert_close(in_order(parts, "inputs")[i], x.mean(0))
        torch.testing.assert_close(in_order(parts, "features")[i], features)
        torch.testing.assert_close(chosen[i], features[latents])
    assert max(rows for rows, _ in model.batches) <= 16


def test_probe_equals_its_definition():
    """The penalized loss has no gradient at the probe's weights; scaling x changes nothing."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(60, 4, generator=draw, dtype=torch.float64) * torch.tensor([1.0, 5, 0.1, 1])
    y = (x[:, 0] + 0.3 * torch.randn(60, generator=draw, dtype=torch.float64)) > 0
    probe = Probe(x, y, penalty=0.1)
    z = (x - x.mean(0)) / x.std(0, correction=0)
    w = (probe.direction * x.std(0, correction=0)).requires_grad_()
    b = (probe.logits(x) - (z @ w)).mean().detach().requires_grad_()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(z @ w + b, y.double())
    (loss + 0.05 * w.square().sum()).backward()
    assert max(float(w.grad.abs().max()), float(b.grad.abs())) < 1e-5
    shifted = Probe(3 * x + 7, y, penalty=0.1)
    torch.testing.assert_close(shifted.logits(3 * x + 7), probe.logits(x), rtol=1e-4, atol=1e-5)


def test_sparse_probing_finds_planted_features(model, texts):
    """With a latent per animal one latent is enough; without, it is not."""
    full = values(run("sparse_probing", sae_of(torch.eye(10), torch.eye(10)), model, dataset=texts))
    assert full["sae_top_1_test_accuracy"] == full["llm_test_accuracy"] == 1.0
    without = torch.eye(10)[3:]
    less = values(run("sparse_probing", sae_of(without, without), model, dataset=texts, k=[1, 3]))
    assert less["sae_top_1_test_accuracy"] < 0.8
    assert less["llm_test_accuracy"] == 1.0
    two = run("sparse_probing", sae_of(torch.eye(10), torch.eye(10)), model, dataset=texts,
              label="cat")  # fmt: skip
    assert values(two)["sae_top_1_test_accuracy"] == 1.0


def test_tpp_of_planted_features(model, texts):
    """Ablating an animal's latent breaks only its probe; a shared latent breaks all probes."""
    sae = sae_of(torch.eye(10), torch.eye(10))
    result = values(run("scr_tpp", sae, model, dataset=texts, n=[1]))
    assert result["tpp_threshold_1_intended_diff_only"] > 0.3
    assert abs(result["tpp_threshold_1_unintended_diff_only"]) < 0.1
    total = result["tpp_threshold_1_total_metric"]
    difference = (
        result["tpp_threshold_1_intended_diff_only"]
        - result["tpp_threshold_1_unintended_diff_only"]
    )
    assert total == pytest.approx(difference)
    mixed = torch.eye(10)[2:]
    mixed[0, :3] = 1.0  # one latent for all three animals
    worse = values(run("scr_tpp", sae_of(mixed, mixed), model, dataset=texts, n=[1]))
    assert worse["tpp_threshold_1_total_metric"] < 0.5 * total


def test_scr_of_planted_features(model, texts):
    """Ablating the author's latents restores the accuracy of a biased probe of the animal."""
    sae = sae_of(torch.eye(10), torch.eye(10))
    settings = {"dataset": texts, "label": "cat", "confound": "by", "n": [2]}
    result = values(run("scr_tpp", sae, model, **settings))
    assert result["scr_biased_accuracy"] < result["scr_oracle_accuracy"] == 1.0
    assert result["scr_metric_threshold_2"] > 0.9
    without = torch.eye(10)[5:]
    none = values(run("scr_tpp", sae_of(without, without), model, **settings))
    assert none["scr_metric_threshold_2"] < 0.3


def test_reasons(model, texts, tmp_path):
    """Evaluators that cannot measure give a reason; an error in a file names its line."""
    sae = sae_of(torch.eye(10), torch.eye(10))
    result = run("scr_tpp", sae, model, dataset=texts, label="cat")
    assert "SCR needs confound" in result.skipped["scr_tpp"]
    result = run("scr_tpp", sae, model, dataset=texts, confound="by")
    assert "SCR needs a label with two values" in result.skipped["scr_tpp"]
    with pytest.raises(DataError, match=r"line 1: no key 'topic' \(it has: by, cat, label, text\)"):
        run("sparse_probing", sae, model, dataset=texts, label="topic")
    file = tmp_path / "few.jsonl"
    file.write_text('{"text": "x", "label": 1}\n{"text": "y", "label": 0}\n')
    with pytest.raises(DataError, match="too few texts with label"):
        run("sparse_probing", sae, model, dataset=str(file))
    with pytest.raises(DataError, match="expected a JSON object a line"):
        run("sparse_probing", sae, model, dataset=str(tmp_path / "none.jsonl"))
