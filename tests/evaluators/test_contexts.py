"""SAEs that read contexts are evaluated on contexts, and density is counted as by hand."""

import attrs
import pytest
import torch

from saecore import SAE
from saecore.evaluation import Reading, activations, held_out_parts
from saecore.sae_config import Metadata
from saecore.testing.fakes import Backend, plain_sae, rows
from tests.conftest import DATA
from tests.datasets.test_synthetic import make
from tests.evaluators.planted import run, values


class Contexts(Backend):
    """The kit's model with activations of the recorded temporal SAE's size."""

    def __init__(self, d):
        super().__init__()
        self.embedding = rows("embedding", self.vocab_size, d, dtype=torch.float32)
        self.unembed = rows("unembed", d, self.vocab_size, dtype=torch.float32)


@pytest.fixture
def temporal():
    """A temporal SAE that leaves out the first position and token 5."""
    sae = SAE.load_from_disk(DATA / "temporal" / "tied_topk")
    metadata = {"hook_name": "h", "seqpos_slice": [1, None], "exclude_special_tokens": [5]}
    sae.cfg = attrs.evolve(sae.cfg, metadata=Metadata(metadata))
    return sae


def test_temporal(temporal):
    """Reconstruction and loss are those of whole contexts; tokens left out are still context."""
    model = Contexts(temporal.cfg.d_in)
    tokens = torch.arange(60).reshape(6, 10) % 23
    found = run("reconstruction", temporal, model, tokens, batch_size=4)
    x = model.activations(tokens, ["h"])["h"]
    used = Reading.of(temporal, model).used(tokens)
    assert not used[:, 0].any()
    assert used.sum() < 54
    with torch.no_grad():
        error = (temporal(x) - x)[used].square().sum(1)
        l0 = (temporal.encode(x)[used] != 0).sum(1)
    figures = values(found)
    assert figures["mse"] == pytest.approx(float(error.mean()), rel=1e-5)
    assert figures["l0"] == pytest.approx(float(l0.float().mean()))
    assert found.figures["reconstruction"]["mse"].tokens == int(used.sum())
    loss = values(run("loss_recovered", temporal, model, tokens, batch_size=4))
    with torch.no_grad():
        spliced = torch.where(used[..., None], temporal(x), x) @ model.unembed
    chosen = spliced.log_softmax(-1)[:, :-1].gather(-1, tokens[:, 1:, None])
    assert loss["ce_loss_with_sae"] == pytest.approx(-float(chosen.mean()), rel=1e-5)


def test_a_stream_has_no_contexts(temporal):
    """Over a dataset of rows it is skipped, with the reason."""
    found = run("reconstruction", temporal, make(), 100)
    assert "reads contexts" in found.skipped["reconstruction"]
    assert found.tables() == {"reconstruction": {}}


def test_parts_are_what_others_read():
    """Contexts of parts are numbered through, and inputs are those of `activations`, bit by bit."""
    sae, model = plain_sae(torch.float32), Backend()
    tokens = torch.arange(50).reshape(5, 10)
    parts = list(held_out_parts(sae, model, tokens, 2))
    assert torch.cat([one.context for one in parts]).tolist() == [i // 10 for i in range(50)]
    pairs = zip(parts, activations(sae, model, tokens, 2), strict=True)
    assert all(torch.equal(one.inputs, x) and one.whole is None for one, (x, _) in pairs)


def test_density_and_featurewise_by_hand():
    """Shares, histogram and consistency equal counts over all features at once."""
    sae, model = plain_sae(torch.float32).eval(), Backend()
    with torch.no_grad():
        sae.b_enc[3] = -1e3
    tokens = torch.arange(120).reshape(12, 10) % 31
    with torch.no_grad():
        fires = sae.encode(model.activations(tokens, ["h"])["h"]) != 0
    density = fires.flatten(0, 1).double().mean(0)
    found = run("density", sae, model, tokens, batch_size=5, bins_per_decade=1)
    figures = values(found)
    assert figures["frac_alive"] == pytest.approx(float((density > 0).double().mean()))
    for percent in (1, 10):
        often = density > percent / 100
        assert figures[f"freq_over_{percent}_percent"] == pytest.approx(
            float(often.double().mean())
        )
        share = float(density[often].sum() / density.sum())
        assert figures[f"normalized_freq_over_{percent}_percent"] == pytest.approx(share)
    histogram = found.vectors["density"]["density_histogram"]
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
    """Each group of figures, and the intervals, are left out when asked; the rest stays equal."""
    sae, model = plain_sae(torch.float32).eval(), Backend()
    tokens = torch.arange(120).reshape(12, 10) % 31
    every = run("reconstruction", sae, model, tokens)
    some = run("reconstruction", sae, model, tokens, shrinkage=False, quality=False,
               intervals=False)  # fmt: skip
    assert set(values(some)) == {"l0", "l1", "dead_fraction", "dense_fraction"}
    assert all(one.interval is None for one in some.figures["reconstruction"].values())
    assert values(some).items() <= values(every).items()
    low, high = every.figures["reconstruction"]["mse"].interval
    assert low < every.figures["reconstruction"]["mse"].value < high
    ce = run("loss_recovered", sae, model, tokens, kl=False)
    assert set(values(ce)) == {
        "ce_loss_score", "ce_loss_with_sae", "ce_loss_without_sae", "ce_loss_with_ablation"
    }  # fmt: skip
