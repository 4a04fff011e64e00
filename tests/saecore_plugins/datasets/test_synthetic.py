"""Synthetic activations: one stream however it is cut, firing as the settings say."""

import pytest
import torch

from saecore.errors import ConfigError
from saecore.plugins.problems import Problems
from saecore.plugins.structure import structure_choice


def make(seed=0, **settings):
    """The stream of a synthetic dataset."""
    table = {"type": "synthetic", "features": 12, "d_in": 6, "active": 2.0, "device": "cpu"}
    return structure_choice("dataset", {**table, **settings}).build(seed)


def problem(**settings):
    """The one problem of settings that are refused."""
    with pytest.raises(Problems) as caught:
        make(**settings)
    ((key, message),) = caught.value.items
    return f"{key}: {message}"


CORRELATION = {"rank": 1, "strength": 0.8}
TREE = {"parents": 2, "children": 3, "child_probability": 0.3}
EXCLUSIVE = {**TREE, "exclusive": True}
KINDS = [{}, {"correlation": CORRELATION}, {"hierarchy": EXCLUSIVE}]


@pytest.mark.parametrize("settings", KINDS)
def test_rows_do_not_depend_on_how_they_are_cut(settings):
    """Any sizes of batches, and any position to begin from, give the rows of one read."""
    whole = make(**settings).next(3000).inputs
    source, parts = make(**settings), []
    for size in (1, 1022, 3, 1500, 474):
        parts.append(source.next(size).inputs)
    assert torch.equal(torch.cat(parts), whole)
    assert source.position == 3000
    source.seek(1000)
    assert torch.equal(source.next(100).inputs, whole[1000:1100])


def test_seeds_and_sides_have_rows_of_their_own():
    """Another seed has other directions; held-out rows are other rows of the same directions."""
    first, other = make(), make(seed=1)
    held_out = first.held_out()
    assert not torch.equal(first.directions, other.directions)
    assert torch.equal(first.directions, held_out.directions)
    assert not torch.equal(first.next(50).inputs, held_out.next(50).inputs)
    assert held_out.position == first.position == 50
    assert len({make().fingerprint, make(seed=1).fingerprint, make(active=1.0).fingerprint}) == 3


def test_rows_are_their_features_times_unit_directions():
    """Rows are a D, with rows of D of norm 1 and a the features given out at these positions."""
    source = make()
    x = source.next(200).inputs
    source.seek(0)
    features = source.next_features(200)
    torch.testing.assert_close(x, features @ source.directions)
    torch.testing.assert_close(source.directions.norm(dim=1), torch.ones(12))
    assert bool((features >= 0).all())


@pytest.mark.parametrize(
    ("settings", "ratio"),
    [
        ({"firing": "constant"}, 1.0),
        ({"firing": "zipf", "zipf_exponent": 0.5}, 12**0.5),
        ({"firing": "linear"}, 12.0),
        ({"correlation": CORRELATION}, 1.0),
        ({"correlation": {"rank": 3, "strength": 0.5}, "firing": "linear"}, 12.0),
    ],
)
def test_features_fire_as_often_as_they_shall(settings, ratio):
    """`active` features fire on average, each with its probability, whatever their correlation;
    the first fires `ratio` times as often as the last.
    """
    source = make(**settings)
    p = source.probabilities
    assert float(p.sum()) == pytest.approx(2.0, rel=1e-5)
    assert float(p[0] / p[-1]) == pytest.approx(ratio, rel=1e-4)
    share = (source.next_features(40_000) > 0).double().mean(0)
    assert bool(((share - p).abs() < 5 * (p * (1 - p) / 40_000).sqrt() + 1e-9).all())


def test_rows_without_features_are_zero():
    """Where nothing fires there is nothing, also in a whole block of such rows."""
    source = make(active=1e-9)
    assert not source.next(2000).inputs.any()
    source.seek(0)
    assert source.next_features(2000).shape == (2000, 12)


def test_magnitudes_are_rectified_normals():
    """Active features have the mean and deviation asked for; none is negative."""
    features = make(magnitude_mean=3.0, magnitude_std=0.5).next_features(20_000)
    active = features[features > 0]
    assert float(active.mean()) == pytest.approx(3.0, abs=0.02)
    assert float(active.std()) == pytest.approx(0.5, abs=0.02)
    often_zero = make(magnitude_mean=0.1, magnitude_std=1.0).next_features(20_000)
    assert float((often_zero > 0).sum()) / 20_000 == pytest.approx(2 * 0.5398, abs=0.03)


def test_correlation_follows_the_copula():
    """With one common cause of strength s, two features fire together as two normals of
    correlation ± s do: checked against a Monte Carlo of those normals.
    """
    fires = make(correlation=CORRELATION).next_features(40_000) > 0
    together = (fires[:, 0] & fires[:, 1:].t()).double().mean(1)  # [11]
    limit = torch.special.ndtri(torch.tensor(2 / 12))
    torch.manual_seed(0)
    u, v = torch.randn(2, 400_000)
    expected = [
        float(((u < limit) & (sign * 0.8 * u + 0.6 * v < limit)).double().mean())
        for sign in (1, -1)
    ]
    for share in together.tolist():
        assert min(abs(share - value) for value in expected) < 0.006
    assert expected[0] > 2 * (2 / 12) ** 2 > expected[1]


@pytest.mark.parametrize("tree", [TREE, EXCLUSIVE])
def test_children_need_their_parents(tree):
    """A child fires with `child_probability` where its parent does and never elsewhere; of
    exclusive children at most one does; marginals stay those that are promised.
    """
    source = make(hierarchy=tree)
    fires = source.next_features(40_000) > 0
    for parent in range(2):
        children = fires[:, 2 + 3 * parent : 5 + 3 * parent]
        assert not bool(children[~fires[:, parent]].any())
        firing = children[fires[:, parent]].double()
        torch.testing.assert_close(
            firing.mean(0), torch.full((3,), 0.3).double(), atol=0.03, rtol=0
        )
        together = int(firing.sum(1).max())
        assert together == 1 if tree is EXCLUSIVE else together > 1
    share = fires.double().mean(0)
    torch.testing.assert_close(share, source.probabilities.double(), atol=0.01, rtol=0)
    assert float(share.sum()) == pytest.approx(2.0, abs=0.05)


def test_impossible_settings_are_refused():
    """Probabilities above 1, too large a tree, exclusive children that would exclude too much."""
    assert problem(active=13.0).startswith("active: expected firing probabilities of at most 1")
    assert "got 4 · (1 + 3) = 16" in problem(hierarchy={"parents": 4, "children": 3})
    line = problem(hierarchy={**EXCLUSIVE, "child_probability": 0.5})
    assert line.startswith("hierarchy.child_probability: expected at most 1 / 3")
    assert problem(device="gpu").startswith('device: expected "auto"')


def test_a_missing_device_is_named():
    """A device that this machine does not have is refused under the dataset's key."""
    if torch.cuda.is_available():
        pytest.skip("needs a machine without CUDA")
    with pytest.raises(ConfigError, match=r"dataset\.device: this machine has no cuda"):
        make(device="cuda")
