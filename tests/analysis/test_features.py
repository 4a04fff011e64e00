"""`saecore.features` against a pass that keeps everything."""

import attrs
import numpy as np
import pytest
import torch

import saecore
from saecore import SAE, Shape
from saecore.analysis.dashboard.data import payload
from saecore.analysis.examples import uniform_scores
from saecore.core.sae_config import Metadata
from saecore.errors import DataError
from saecore.plugins.structure import structure_choice
from saecore.randomness import generator
from saecore.testing.fakes import D_IN, rows
from tests.analysis.small import D_SAE, LENGTH, backend, contexts, small_sae
from tests.conftest import DATA

TABLES = [
    {"architecture": "topk", "k": 3},
    {"architecture": "abstopk", "k": 3},
    {"architecture": "standard"},
]


def everything(sae, tokens):
    """All activations `[contexts, T, d_sae]`."""
    with torch.no_grad():
        return sae.encode(backend().activations(tokens, ["h"])["h"]).numpy()


def ranked(scores, order):
    """Contexts by falling score, of equal ones the first in `order`; those of score −inf left."""
    best = sorted(order, key=lambda one: -scores[one])
    return [one for one in best if scores[one] > -np.inf]


@pytest.mark.parametrize("table", TABLES, ids=lambda one: one["architecture"])
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_equals_a_brute_force_pass(table, batch_size):
    """Contexts, maxima, counts and means are those of all activations, whatever the batches."""
    sae, tokens = small_sae(table), contexts()
    full = everything(sae, tokens)
    found = saecore.features(
        sae, backend(), tokens, top=6, bands=2, samples=2, batch_size=batch_size
    )
    size = np.where(np.abs(full).max(1) > 0, np.abs(full).max(1), -np.inf)  # [contexts, d_sae]
    lot = uniform_scores(np.arange(D_SAE), np.arange(len(tokens))).T
    for latent in range(D_SAE):
        best = ranked(size[:, latent], range(len(tokens)))[:6]
        drawn = ranked(np.where(size > 0, lot, -np.inf)[:, latent], range(len(tokens)))[:4]
        drawn = ranked(size[:, latent], sorted(drawn))
        for examples, wanted in ((found.top, best), (found.sampled, drawn)):
            kept = examples.contexts[latent][examples.contexts[latent] >= 0]
            assert kept.tolist() == wanted
            assert np.array_equal(examples.tokens[latent, : len(kept)], tokens[wanted])
            np.testing.assert_allclose(
                examples.values[latent, : len(kept)], full[wanted, :, latent], rtol=1e-5
            )
        fires = full[:, :, latent][full[:, :, latent] != 0]
        assert found.fired[latent] == len(fires)
        np.testing.assert_allclose(
            found.means[latent], fires.mean() if len(fires) else 0, rtol=1e-4
        )
        counts, edges = found.histogram(latent)
        assert counts.sum() == len(fires)
        if len(fires):
            assert edges[0] <= fires.min() <= fires.max() < edges[-1]
    assert found.tokens == tokens.numel()
    active = (full != 0).reshape(-1, D_SAE).astype(int)
    assert np.array_equal(found.together, active.T @ active)
    assert not np.diag(found.overlap()).any()


def test_histogram_is_that_of_the_last_width():
    """Bins that were joined on the way hold what a histogram of all values in them holds."""
    sae, tokens = small_sae({"architecture": "abstopk", "k": 3}), contexts()
    full = everything(sae, tokens)
    found = saecore.features(sae, backend(), tokens, batch_size=1)
    for latent in range(D_SAE):
        fires = full[:, :, latent][full[:, :, latent] != 0]
        counts, edges = found.histogram(latent)
        wanted, _ = np.histogram(fires, edges) if len(fires) else ([0], None)
        assert np.array_equal(counts, wanted)


def test_some_latents():
    """Asking for some latents gives what asking for all gives of them, samples too."""
    sae, tokens = small_sae(), contexts()
    everyone = saecore.features(sae, backend(), tokens)
    some = saecore.features(sae, backend(), tokens, latents=[17, 3])
    assert some.latents.tolist() == [17, 3]
    for name in ("contexts", "tokens", "values"):
        for kind in ("top", "sampled"):
            got, all_of_them = (getattr(getattr(one, kind), name) for one in (some, everyone))
            assert np.array_equal(got, all_of_them[[17, 3]])
    assert np.array_equal(some.density, everyone.density[[17, 3]])
    assert np.array_equal(some.together, everyone.together[[17, 3]])


def test_equal_contexts_come_in_the_order_of_the_text():
    """Of two contexts of the same tokens the first read stands first, and wins the last place."""
    sae, tokens = small_sae(), contexts()
    found = saecore.features(sae, backend(), tokens, top=1, batch_size=4)
    assert (found.top.contexts != len(tokens) // 2).all()  # its tokens are those of context 0
    assert (found.top.contexts == 0).any()


def test_tokens_left_out():
    """Tokens that the SAE's metadata leave out are not counted and show no activation."""
    sae = small_sae(exclude_special_tokens=[3], seqpos_slice=[2, None])
    tokens = contexts()
    found = saecore.features(sae, backend(), tokens)
    used = tokens != 3
    used[:, :2] = False
    assert found.tokens == int(used.sum())
    assert not found.top.values[:, :, :2].any()
    assert not found.top.values[found.top.tokens == 3].any()
    assert found.fired.sum() <= 3 * found.tokens


def test_frame():
    """The frame has one row a context, with the token at its peak as text."""
    sae, tokens = small_sae(), contexts()
    found = saecore.features(sae, backend(), tokens, latents=[17, 5], top=3, bands=2, samples=2)
    frame = found.frame()
    tops = frame[frame.kind == "top"]
    assert len(tops) == (found.top.contexts >= 0).sum()
    first = tops.iloc[0]
    assert first.latent == 5
    assert first["rank"] == 0
    row = found.latents.tolist().index(5)
    assert first.activation == found.top.values[row, 0].max()
    assert first.token == found.tokenizer.decode([int(first.tokens[first.position])])
    assert set(frame[frame.kind == "sample"].band) <= {1, 2}
    assert len(first.activations) == LENGTH


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"latents": [D_SAE]}, f"from 0 to {D_SAE - 1}, got {D_SAE}"),
        ({"latents": [1, 1]}, "got one twice"),
        ({"tokens": 1000}, "a model and contexts"),
        ({"tokens": torch.zeros(0, 8, dtype=torch.int64)}, "no context of 8 tokens"),
    ],
)
def test_errors(arguments, message):
    """What cannot be looked at is said in one line."""
    with pytest.raises(DataError, match=message):
        saecore.features(small_sae(), backend(), **{"tokens": contexts(), **arguments})


def test_an_sae_that_reads_contexts():
    """Contexts go through it whole; tokens that are left out count as context only."""
    sae = SAE.load_from_disk(DATA / "temporal" / "tied_topk")
    meta = {"hook_name": "h", "seqpos_slice": [1, None], "exclude_special_tokens": [5]}
    sae.cfg = attrs.evolve(sae.cfg, metadata=Metadata(meta))
    model, tokens = backend(), contexts(9)
    model.embedding = rows("embedding", model.vocab_size, sae.cfg.d_in, dtype=torch.float32)
    with torch.no_grad():
        full = sae.encode(model.activations(tokens, ["h"])["h"])
    full[:, 0] = 0
    full[tokens == 5] = 0
    found = saecore.features(sae, model, tokens, batch_size=4)
    assert np.array_equal(found.fired, (full != 0).sum((0, 1)))
    largest = full.abs().amax((0, 1))
    np.testing.assert_allclose(np.abs(found.top.peaks[:, 0]), largest, rtol=1e-4, atol=1e-6)


def test_several_hooks():
    """A crosscoder reads its hooks together."""
    choice = structure_choice(
        "architecture", {"architecture": "crosscoder", "activation": {"type": "topk", "k": 3}},
    )  # fmt: skip
    sae = choice.build(Shape(2 * D_IN, 2 * D_IN, D_SAE, hooks=2))
    sae.initialize(generator(0, "small"), 1.0)
    sae.cfg = attrs.evolve(sae.cfg, metadata=Metadata({"hook_names": ["h", "h2"]}))
    tokens = contexts()
    x = backend().activations(tokens, ["h"])["h"]
    with torch.no_grad():
        full = sae.encode(torch.stack([x, x], 2))
    found = saecore.features(sae, backend(), tokens)
    assert np.array_equal(found.fired, (full != 0).sum((0, 1)))
    assert payload(found, sae, backend())["logits"] is False
