"""First weights: directions, bias and norm from activations, a saved SAE to start from."""

import tomllib

import numpy as np
import pytest
import torch

from saecore import SAE
from saecore.activations.mixing_buffer import MixingBuffer, MixingBufferSettings
from saecore.config import structure_experiment
from saecore.config.training import InitTable
from saecore.errors import ConfigError
from saecore.models.hook_site import HookSite
from saecore.plugins.structure import structure_choice
from saecore.randomness import generator
from saecore.runs.build import build_sae
from saecore.runs.run import run
from saecore.training.initialization import Start, geometric_median, search_norm
from tests.helpers import MINIMAL
from tests.runs.test_run import cache, tables, text  # noqa: F401 (fixtures)
from tests.saecore_plugins.dead_latents.cases import ARCHITECTURES, make
from tests.training.test_trainer import NoisyBackend, trainer


def rows(n=400, d=6, seed=0):
    """Activations around a point far from 0, with a few outliers."""
    x = torch.randn(n, d, generator=generator(seed, "rows")) + 3 * torch.arange(d)
    x[:5] += 1000
    return x


def test_geometric_median():
    """The sum of distances grows in every direction from the point; outliers do not move it."""
    x = rows().double()
    point = geometric_median(x)

    def total(at):
        return sum(float((row - at).norm()) for row in x)

    for step in torch.randn(20, 6, generator=generator(0, "steps")).double():
        assert total(point) < total(point + 1e-3 * step)
    assert float((point - x[5:].mean(0)).norm()) < 0.3
    assert float((x.mean(0) - x[5:].mean(0)).norm()) > 10


def test_geometric_median_of_equal_rows():
    """Rows that are all the same point give that point."""
    x = torch.ones(10, 4).double() * 2.5
    assert torch.equal(geometric_median(x), x[0])


@pytest.mark.parametrize("kind", ["independent", "tied"])
def test_directions(kind):
    """Every row has the decoder norm; the encoder is the decoder, or has nothing to do with it."""
    sae = make("standard", d_sae=200)
    sae.initialize(generator(0, "init"), 0.25, kind == "tied")
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.full((200,), 0.25))
    torch.testing.assert_close(sae.encoder.norm(dim=1), torch.full((200,), 0.25))
    cosines = torch.nn.functional.cosine_similarity(sae.encoder, sae.W_dec)
    assert bool((cosines > 0.999).all()) == (kind == "tied")
    assert abs(float(cosines.mean())) < 0.15 or kind == "tied"


@pytest.mark.parametrize(
    ("kind", "tied"), [("tied", True), ("independent", False), ("search", True)]
)
def test_types_of_an_experiment(kind, tied):
    """`sae.init` decides the directions; what needs activations waits for them."""
    tables = tomllib.loads(MINIMAL)
    tables["sae"]["init"] = {"type": kind, "decoder_norm": 0.3}
    sae = build_sae(structure_experiment(tables), 16, 16, torch.device("cpu"))
    assert torch.equal(sae.encoder, sae.W_dec) == (kind != "independent")
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.full((64,), 0.3))


@pytest.mark.parametrize("name", [one for one in ARCHITECTURES if one != "matching_pursuit"])
def test_search(name):
    """The norm found is at least as good as any of a grid a loop tries; rows stay tied."""
    sae = make(name, d_sae=64)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.zero_()
    sae.initialize(generator(0, "init"), 0.1)
    x = 4 * torch.randn(200, 6, generator=generator(0, "x"))
    directions = sae.W_dec.detach() / 0.1
    found = search_norm(sae, x, x, 0.1)
    torch.testing.assert_close(sae.W_dec, found * directions)
    torch.testing.assert_close(sae.encoder, found * directions)

    def loss(norm):
        with torch.no_grad():
            sae.encoder.copy_(norm * directions)
            sae.W_dec.copy_(norm * directions)
            return float((sae.reconstruct(sae.select(x), x) - x).square().sum(1).mean())

    best = loss(found)
    assert all(best <= 1.01 * loss(norm) for norm in np.geomspace(0.001, 5, 60))
    assert best < 0.9 * loss(0.1)


def test_search_without_a_norm():
    """Matching pursuit has unit rows: refused by the key."""
    with pytest.raises(ConfigError, match=r"sae\.init\.type: matching_pursuit has no norm"):
        search_norm(make("matching_pursuit"), rows(), rows(), 0.1)


def started(init, normalizer="none"):
    """A trainer over a stream, prepared."""
    tokens = np.random.default_rng(0).integers(0, 50, (100, 10), dtype=np.int32)
    settings = MixingBufferSettings(
        site=HookSite(hooks=("h",)), fill_tokens=200, model_batch_size=32
    )
    one = trainer("standard", normalizer, source=MixingBuffer(NoisyBackend(), tokens, settings))
    one.start = Start(InitTable(**init))
    one.prepare()
    return one


@pytest.mark.parametrize("normalizer", ["none", "expected_average_only_in", "layer_norm"])
def test_bias_from_the_beginning_of_the_stream(normalizer):
    """b_dec is the mean of the first activations as the SAE sees them; the stream then begins at
    its beginning, and nothing else has changed.
    """
    table = {"type": normalizer}
    if normalizer == "expected_average_only_in":
        table["tokens"] = 100
    one, plain = started({"b_dec": "mean", "tokens": 70}, table), started({}, table)
    raw = plain.source.next(32), plain.source.next(32), plain.source.next(32)
    seen = torch.cat([plain.normalizer.apply(part).targets for part in raw])
    torch.testing.assert_close(one.sae.b_dec, seen.mean(0), rtol=1e-5, atol=1e-6)
    assert one.source.position == 0
    assert torch.equal(one.source.next(32).inputs, raw[0].inputs)
    assert torch.equal(one.sae.W_dec, plain.sae.W_dec)
    assert not plain.sae.b_dec.any()


def test_every_start_trains_better_from_the_first_step():
    """The first loss falls from zero bias to a mean, and further with a searched norm."""
    losses = []
    for init in ({}, {"b_dec": "mean"}, {"b_dec": "mean", "type": "search"}):
        one = started({**init, "tokens": 200})
        one.step()
        losses.append(one.read_metrics()["losses/mse_loss"])
    assert losses[0] > losses[1] > losses[2]


@pytest.mark.parametrize("normalizer", ["none", "expected_average_only_in", "layer_norm"])
def test_fine_tuning(text, tmp_path, normalizer):  # noqa: F811
    """Before its first step, a run from a saved SAE has that SAE's function on raw activations,
    whatever the normalizer; then it trains on.
    """
    base = tables(text, tmp_path)
    base["training"]["tokens"] = 2048
    base["sae"]["normalizer"] = normalizer
    base["evaluation"] = {"tokens": 0}
    if normalizer == "expected_average_only_in":
        base["sae"]["normalizer"] = {"type": normalizer, "tokens": 2048}
    first = run(structure_experiment(base))
    base["sae"]["init_from"] = str(first.directory / "sae")
    base["training"]["lr"] = 1e-12
    same = run(structure_experiment(base)).sae
    saved = SAE.load_from_disk(first.directory / "sae")
    for name, tensor in saved.state_dict().items():
        torch.testing.assert_close(same.state_dict()[name], tensor, rtol=1e-4, atol=1e-6)
    base["training"]["lr"] = 1e-3
    on = run(structure_experiment(base))
    assert on.metrics["losses/mse_loss"] < first.metrics["losses/mse_loss"]


def test_fine_tuning_refused(text, tmp_path):  # noqa: F811
    """Another architecture, another normalization, settings of a start that is not made: one line
    each, with the key.
    """
    sae = structure_choice("architecture", {"architecture": "standard"}).build(_shape())
    sae.to_inference().save_model(tmp_path / "standard")
    base = tables(text, tmp_path)
    base["sae"]["init_from"] = str(tmp_path / "standard")
    with pytest.raises(ConfigError, match=r'standard SAE, .*set sae\.architecture = "standard"'):
        run(structure_experiment(base))
    base["sae"] = {
        "architecture": "standard",
        "d_sae": 512,
        "normalizer": "layer_norm",
        "init_from": str(tmp_path / "standard"),
    }
    with pytest.raises(ConfigError, match=r'by "none", .*set sae\.normalizer = "none"'):
        run(structure_experiment(base))
    base["sae"]["normalizer"] = "covariance_whitening"
    with pytest.raises(ConfigError, match="covariance_whitening cannot start"):
        run(structure_experiment(base))
    base["sae"]["init"] = {"b_dec": "mean"}
    with pytest.raises(ConfigError, match=r"sae\.init: has no effect with init_from"):
        structure_experiment(base)


def _shape():
    from saecore.core.sae_config import Shape

    return Shape(256, 256, 512)
