"""Evaluators of weights equal brute force, and detect planted structure."""

import pytest
import torch

from tests.saecore_plugins.evaluators.planted import run, sae_of, values


def random_rows(n, d, seed=0):
    """Rows with different norms `[n, d]`."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=draw) * (1 + torch.rand(n, 1, generator=draw))


def test_geometry_equals_brute_force(monkeypatch):
    """Cosines and norms equal brute force, however the computation is split."""
    monkeypatch.setattr("saecore.evaluation.geometry.CELLS", 100)
    encoder, decoder = random_rows(30, 8), random_rows(30, 8, 1)
    decoder[7] = 2 * decoder[3]
    result = run("geometry", sae_of(encoder, decoder))
    for name, rows in (("encoder", encoder), ("decoder", decoder)):
        unit = rows / rows.norm(dim=1, keepdim=True)
        largest = (unit @ unit.t() - 2 * torch.eye(30)).max(1).values
        vector = result.vectors["geometry"][f"max_{name}_cosine_sim"].values
        torch.testing.assert_close(vector, largest)
        mean = values(result)[f"average_max_{name}_cosine_sim"]
        assert mean == pytest.approx(float(largest.mean()))
        assert values(result)[f"{name}_norm"] == pytest.approx(float(rows.norm(dim=1).mean()))
    assert values(result)["duplicate_fraction"] >= 2 / 30
    cosine = torch.nn.functional.cosine_similarity(encoder, decoder).mean()
    assert values(result)["encoder_decoder_cosine"] == pytest.approx(float(cosine), abs=1e-6)


def test_stability(tmp_path):
    """The same SAE in another order scores 1 everywhere; another SAE scores as by brute force."""
    rows = random_rows(20, 16)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    sae_of(rows, 3 * rows[order]).save_model(tmp_path / "same")
    sae = sae_of(rows, rows)
    same = values(run("stability", sae, other=str(tmp_path / "same")))
    for name in ("mcc", "mean_max_cosine", "shared_fraction", "matched_fraction"):
        assert same[name] == pytest.approx(1.0), name
    others = random_rows(12, 16, 2)
    sae_of(others, others).save_model(tmp_path / "other")
    result = values(run("stability", sae, other=str(tmp_path / "other"), max_latents=15))
    cosines = torch.nn.functional.cosine_similarity(rows[:, None], others[None], dim=2)
    assert result["mean_max_cosine"] == pytest.approx(float(cosines.max(1).values.mean()), abs=1e-6)
    back = float(cosines.max(0).values.mean())
    assert result["other_mean_max_cosine"] == pytest.approx(back, abs=1e-6)
    assert "mcc" not in result  # over max_latents
    sae_of(torch.eye(3), torch.eye(3)).save_model(tmp_path / "small")
    skipped = run("stability", sae, other=str(tmp_path / "small")).skipped["stability"]
    assert "of size 3, this SAE of 16" in skipped


def test_meta_sees_common_parts():
    """Rows that are sums of a few common directions are explained, random rows are not; results are
    repeatable.
    """
    draw = torch.Generator().manual_seed(0)
    parts = torch.linalg.qr(torch.randn(24, 24, generator=draw))[0][:16]
    chosen = torch.rand(128, 16, generator=draw).argsort(1)[:, :2]
    rows = parts[chosen].sum(1)
    settings = {"ratio": 0.125, "k": 2, "steps": 200, "batch_size": 128, "lr": 3e-3}
    planted = values(run("meta", sae_of(rows, rows), **settings))
    noise = random_rows(128, 24)
    random = values(run("meta", sae_of(noise, noise), **settings))
    key = "meta_explained_variance"
    assert planted[key] > random[key] + 0.25
    assert values(run("meta", sae_of(rows, rows), **settings)) == planted
    result = run("meta", sae_of(torch.eye(4), torch.eye(4)))
    assert "fewer than k" in result.skipped["meta"]


def test_no_text_is_needed():
    """Evaluators of weights need no model, and report 0 tokens."""
    rows = random_rows(10, 4)
    result = run("geometry", sae_of(rows, rows))
    assert all(metric.tokens == 0 for metric in result.figures["geometry"].values())
