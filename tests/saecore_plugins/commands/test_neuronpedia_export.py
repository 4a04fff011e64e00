"""`saecore neuronpedia export`: the layout of the import, and figures that are those of the SAE."""

import gzip
import json

import attrs
import pytest
import torch

from saecore import SAE
from saecore.core.sae_config import Metadata
from saecore.errors import ReleaseError
from saecore_plugins.commands.neuronpedia import dashboards
from saecore_plugins.models import tiny_lm
from tests.releases.sample import HOOK, text, tiny_lm_sae  # noqa: F401 (text is a fixture)
from tests.saecore_plugins.commands.test_neuronpedia import run

CPU = torch.device("cpu")


def rows(file):
    """The rows of a table."""
    data = file.read_bytes()
    content = gzip.decompress(data) if file.suffix == ".gz" else data
    return [json.loads(line) for line in content.splitlines()]


def test_export(text, tmp_path):  # noqa: F811
    """The layout of the import: four tables, features and examples; every example has the values
    that the SAE gives, strongest first, and the density is counted.
    """
    tiny_lm_sae().save_model(tmp_path / "sae")
    out = tmp_path / "out"
    run(
        "export",
        tmp_path / "sae",
        out,
        "--set",
        "res-me",
        "--creator",
        "me",
        "--title",
        "T",
        "--dataset",
        text,
        "--tokens",
        512,
        "--features",
        "3-6",
        "--repo",
        "me/saes",
        "--id",
        "x",
    )
    place = out / "tiny_lm" / "1-res-me"
    (source,) = rows(place / "source.jsonl")
    assert (source["id"], source["modelId"], source["setName"]) == ("1-res-me", "tiny_lm", "res-me")
    assert (source["hfRepoId"], source["dataset"]) == ("me/saes", "text.txt")
    assert (source["num_prompts"], source["num_tokens_in_prompt"]) == (8, 64)
    assert (
        rows(place / "sourceset.jsonl")[0]["releaseName"]
        == rows(place / "release.jsonl")[0]["name"]
    )
    features = rows(place / "features/batch-0.jsonl.gz")
    assert [one["index"] for one in features] == ["3", "4", "5", "6"]
    shown = rows(place / "activations/batch-0.jsonl.gz")
    for feature in features:
        own = [one for one in shown if one["index"] == feature["index"]]
        tops = [one["maxValue"] for one in own]
        assert tops == sorted(tops, reverse=True)
        assert tops[0] == pytest.approx(feature["maxActApprox"], abs=1e-3)
        assert all(one["values"][one["maxValueTokenIndex"]] == one["maxValue"] for one in own)
        assert all(len(one["tokens"]) == len(one["values"]) == 64 for one in own)
        assert len(feature["pos_str"]) == len(feature["neg_values"]) == 10
        active = feature["frac_nonzero"] * 512
        assert sum(feature["freq_hist_data_bar_heights"]) == pytest.approx(active)
    assert SAE.load_from_disk(out / "sae").cfg.hook_name == HOOK
    with pytest.raises(ReleaseError, match="out: already exists"):
        run("export", tmp_path / "sae", out, "--set", "s", "--creator", "me", "--title", "T")


def test_export_refused(tmp_path):
    """What Neuronpedia cannot show is refused before the model is read."""
    sae = tiny_lm_sae()
    words = ("--set", "s", "--creator", "me", "--title", "T")
    sae.save_model(tmp_path / "one")
    with pytest.raises(ReleaseError, match="features: expected a range within 0 to 31"):
        run("export", tmp_path / "one", tmp_path / "out", *words, "--features", "30-32")
    embed = {**sae.cfg.metadata, "hook_name": "hook_embed"}
    sae.cfg = attrs.evolve(sae.cfg, metadata=Metadata(embed))
    sae.save_model(tmp_path / "two")
    with pytest.raises(ReleaseError, match="expected a hook in a layer"):
        run("export", tmp_path / "two", tmp_path / "out", *words)
    assert not (tmp_path / "out").exists()


def test_what_is_collected():
    """Densities and examples are those of the SAE's features on the same contexts, also where the
    SAE reads only some positions.
    """
    sae, model = tiny_lm_sae(seqpos_slice=[1, 12]), tiny_lm.build(None, CPU, torch.float32)
    contexts = torch.randint(0, 500, (7, 16), generator=torch.Generator().manual_seed(0))
    found = dashboards.collect(sae, model, contexts, batch_size=3)
    with torch.no_grad():
        acts = sae.encode(model.activations(contexts, [HOOK])[HOOK])  # [7, 16, 32]
    acts[:, 0] = acts[:, 12:] = 0.0
    assert found.tokens == 7 * 11
    for feature in range(32):
        values, _ = found.of(feature)
        assert len(values) == int((acts[:, :, feature] != 0).sum())
        shown = list(dashboards.examples(found, feature, 4))
        strongest = acts[:, :, feature].amax(1)
        assert len(shown) == min(4, int((strongest > 0).sum()))
        for context, row in shown:
            torch.testing.assert_close(torch.tensor(row), acts[context, :, feature], atol=1e-3,
                                       rtol=0)  # fmt: skip
        tops = torch.stack([strongest[context] for context, _ in shown]) if shown else values
        torch.testing.assert_close(tops, strongest.sort(descending=True).values[: len(shown)])


def test_histogram():
    """Bars cover the values from least to largest; no values, no bars."""
    heights, bars = dashboards.histogram(torch.tensor([1.0, 1.0, 5.0]))
    assert (heights[0], heights[-1], sum(heights), len(bars)) == (2.0, 1.0, 3.0, dashboards.BARS)
    assert bars[0] == 1.05
    assert dashboards.histogram(torch.zeros(0)) == ([], [])
