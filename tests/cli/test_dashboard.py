"""`saecore dashboard`: what it is given, and what it refuses."""

import json

import pytest

from saecore.analysis.text import open_sae_with_text
from saecore.cli import main
from saecore.cli.dashboard import parse_features
from saecore.errors import SaecoreError
from tests.analysis.small import small_sae
from tests.faults.small import tables, write_text

HOOK = "blocks.0.hook_resid_post"
SYNTHETIC = [f"--set=dataset.{one}" for one in ("type=synthetic", "features=9", "d_in=4")]


def test_numbers():
    """Numbers and ranges, each feature once; the first 64 if nothing is said."""
    assert parse_features("3, 17,100-102,17", 200) == [3, 17, 100, 101, 102]
    assert parse_features(None, 200) == list(range(64))
    assert parse_features(None, 20) == list(range(20))
    for wrong in ("", "a", "1-", "-1", "9-3", "200", "190-200"):
        with pytest.raises(SaecoreError, match="--features"):
            parse_features(wrong, 200)


def test_a_run(tmp_path):
    """A run says its model and text; settings are laid over both, the hook's included."""
    run = tmp_path / "runs" / "small" / "20260101-000000-abcd"
    small_sae().save_model(run / "sae")
    record = {"experiment": tables(write_text(tmp_path / "text"), tmp_path)}
    (run / "experiment.json").write_text(json.dumps(record))
    found = open_sae_with_text(
        run, settings=["dataset.context_size=64", "model.hook=blocks.1.hook_mlp_out"]
    )
    assert found.name == "small/20260101-000000-abcd"
    assert found.sae.cfg.hook_name == "blocks.1.hook_mlp_out"
    text = found.text()
    assert text.backend.name == "tiny_lm"
    assert text.contexts.context_size == 64


def test_an_sae_without_a_run(tmp_path):
    """It says its model and hook; the text is named."""
    meta = {"hook_name": HOOK, "model_name": "tiny_lm", "context_size": 16}
    small_sae(**meta).save_model(tmp_path / "sae")
    text = write_text(tmp_path / "text")
    found = open_sae_with_text(tmp_path / "sae", dataset=str(text))
    assert found.name == str(tmp_path / "sae")
    assert found.sae.cfg.hook_name == HOOK
    assert found.text().contexts.context_size == 16


@pytest.mark.parametrize(
    ("given", "settings", "message"),
    [
        ("nowhere", [], "nowhere: no such directory"),
        ("unfinished", [], "unfinished: the run has not ended, so it has no SAE"),
        ("sae", [], "dataset: the SAE does not say on what text it was trained; give --dataset"),
        ("sae", ["--set", "sae.k=3"], "--set sae: expected a key of model or dataset"),
        ("sae", SYNTHETIC, "dataset: synthetic gives activations, not text"),
        ("sae", ["--features", "40"], "expected features from 0 to 39, got 40"),
        ("sae", ["--out", "page.txt"], "expected a file that ends in .html"),
    ],
)
def test_errors(given, settings, message, tmp_path, monkeypatch, capsys):
    """Each is one line with what to do."""
    monkeypatch.chdir(tmp_path)
    small_sae(hook_name=HOOK, model_name="tiny_lm").save_model(tmp_path / "sae")
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "experiment.json").write_text('{"experiment": {"name": "small"}}')
    with pytest.raises(SystemExit) as ended:
        main(["dashboard", given, *settings])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
