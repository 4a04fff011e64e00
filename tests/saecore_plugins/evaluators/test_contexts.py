"""SAEs that read contexts are evaluated on contexts; densities equal a count by hand."""

import attrs
import pytest
import torch

from saecore import SAE
from saecore.core.sae_config import Metadata
from saecore.evaluation.batches import HeldOut, HookReader
from saecore.testing.fakes import Backend, plain_sae, rows
from tests.conftest import DATA
from tests.saecore_plugins.datasets.test_synthetic import make
from tests.saecore_plugins.evaluators.planted import run, run_on, values


class Contexts(Backend):
    """The test kit's model, with activations of the size that the recorded temporal SAE takes."""

    def __init__(self, d):
        super().__init__()
        self.embedding = rows("embedding", self.vocab_size, d, dtype=torch.float32)
        self.unembed = rows("unembed", d, self.vocab_size, dtype=torch.float32)


@pytest.fixture
def temporal():
    """A temporal SAE that does not read the first position and token 5."""
    sae = SAE.load_from_disk(DATA / "temporal" / "tied_topk")
    metadata = {"hook_name": "h", "seqpos_slice": [1, None], "exclude_special_tokens": [5]}
    sae.cfg = attrs.evolve(sae.cfg, metadata=Metadata(metadata))
    return sae


def test_temporal(temporal):
    """Metrics are those of whole contexts; tokens that are not read still serve as context."""
    model = Contexts(temporal.cfg.d_in)
    tokens = torch.arange(60).reshape(6, 10) % 23
    result = run("reconstruction", temporal, model, tokens, batch_size=4)
    x = model.activations(tokens, ["h"])["h"]
    used = HookReader.of(temporal, model).used(tokens)
    assert not used[:, 0].any()
    assert used.sum() < 54
    with torch.no_grad():
        error = (temporal(x) - x)[used].square().sum(1)
        l0 = (temporal.encode(x)[used] != 0).sum(1)
    figures = values(result)
    assert figures["mse"] == pytest.approx(float(error.mean()), rel=1e-5)
    assert figures["l0"] == pytest.approx(float(l0.float().mean()))
    assert result.figures["reconstruction"]["mse"].tokens == int(used.sum())
    loss = values(run("loss_recovered", temporal, model, tokens, batch_size=4))
    with torch.no_grad():
        spliced = torch.where(used[..., None], temporal(x), x) @ model.unembed
    chosen = spliced.log_softmax(-1)[:, :-1].gather(-1, tokens[:, 1:, None])
    assert loss["ce_loss_with_sae"] == pytest.approx(-float(chosen.mean()), rel=1e-5)


def test_a_stream_has_no_contexts(temporal):
    """On a dataset of rows the evaluator is skipped, with a reason."""
    result = run_on(HeldOut(stream=make(), rows=100), "reconstruction", temporal)
    assert "reads contexts" in result.skipped["reconstruction"]
    assert result.tables() == {"reconstruction": {}}


def test_missing_data_is_a_reason():
    """An evaluator that asks for data that are not there is skipped; it does not raise."""
    sae = plain_sae(torch.float32).eval()
    result = run_on(HeldOut(stream=make(), rows=100), "loss_recovered", sae)
    assert "needs a language model" in result.skipped["loss_recovered"]
    result = run("ground_truth", sae, Backend(), torch.zeros(1, 4, dtype=torch.int64))
    assert "needs the true features" in result.skipped["ground_truth"]
    assert "language model" in run("reconstruction", sae).skipped["reconstruction"]


def test_parts_are_what_others_read():
    """Contexts are numbered across batches, and inputs equal the model's, bit by bit."""
    sae, model = plain_sae(torch.float32), Backend()
    tokens = torch.arange(50).reshape(5, 10)
    parts = list(HeldOut(model=model, contexts=tokens).parts(sae, 2))
    assert torch.cat([part.context for part in parts]).tolist() == [i // 10 for i in range(50)]
    read = [HookReader.of(sae, model).activations(model, rows) for rows in tokens.split(2)]
    pairs = zip(parts, [(x.flatten(0, 1), y) for x, y in read], strict=True)
    assert all(torch.equal(part.inputs, x) and part.whole is None for part, (x, _) in pairs)


def test_density_and_featurewise_by_hand():
    """Shares, histogram and consistency equal counts over all tokens at once."""
    sae, model = plain_sae(torch.float32).eval(), Backend()
    with torch.no_grad():
        sae.b_enc[3] = -1e3
    tokens = torch.arange(120).reshape(12, 10) % 31
    with torch.no_grad():
        fires = sae.encode(model.activations(tokens, ["h"])["h"]) != 0
    density = fires.flatten(0, 1).double().mean(0)
    result = run("density", sae, model, tokens, batch_size=5, bins_per_decade=1)
    figures = values(result)
    assert figures["frac_alive"] == pytest.approx(float((density > 0).double().mean()))
    for percent in (1, 10):
        often = density > percent / 100
        assert figures[f"freq_over_{percent}_percent"] == pytest.approx(
            float(often.double().mean())
        )
        share = float(density[often].sum() / density.sum())
        assert figures[f"normalized_freq_over_{percent}_percent"] == pytest.approx(share)
    histogram = result.vectors["density"]["density_histogram"]
    assert histogram.labels == ("dead", "-8", "-7", "-6", "-5", "-4", "-3", "-2", "-1")
    alive = density[density > 0].log10()
    low, high = int((alive < -1).sum()), int((alive >= -1).sum())
    assert histogram.values.tolist() == [len(density) - len(alive), 0, 0, 0, 0, 0, 0, low, high]
    each = run("featurewise", sae, model, tokens, batch_size=5).vectors["featurewise"]
    torch.testing.assert_close(each["feature_density"].values.double(), density, rtol=1e-6, atol=0)
    contexts = fires.any(1).sum(0)
    consistent = fires.flatten(0, 1).sum(0) / contexts
    got = each["consistent_activation_heuristic"].values
    torch.testing.assert_close(got, consistent, equal_nan=True)
    assert torch.isnan(got[3])


def test_groups_can_be_switched_off():
    """Groups of metrics and intervals can be switched off; the rest does not change."""
    sae, model = plain_sae(torch.float32).eval(), Backend()
    tokens = torch.arange(120).reshape(12, 10) % 31
    every = run("reconstruction", sae, model, tokens)
    some = run("reconstruction", sae, model, tokens, shrinkage=False, quality=False,
               intervals=False)  # fmt: skip
    assert set(values(some)) == {"l0", "l1", "dead_fraction", "dense_fraction"}
    assert all(metric.interval is None for metric in some.figures["reconstruction"].values())
    assert values(some).items() <= values(every).items()
    low, high = every.figures["reconstruction"]["mse"].interval
    assert low < every.figures["reconstruction"]["mse"].value < high
    ce = run("loss_recovered", sae, model, tokens, kl=False)
    assert set(values(ce)) == {
        "ce_loss_score", "ce_loss_with_sae", "ce_loss_without_sae", "ce_loss_with_ablation"
    }  # fmt: skip
