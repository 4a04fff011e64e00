"""The catalogue: complete, consistent, small, and quick to open."""

import gzip
import json

from saecore.plugins.host import current_host
from saecore.releases import catalogue
from saecore.releases.resolve import resolve
from saecore_plugins.catalogues.published import FILE, make

FORMATS = {
    "connor_rob_hook_z": 12, "deepseek_r1": 1, "dictionary_learning": 838, "gemma_scope": 2833,
    "gemma_scope_2": 8784, "gemma_scope_transcoders": 26, "goodfire": 2, "llama_scope": 192,
    "llama_scope_r1_distill": 96, "mntss": 26, "mwhanna": 208, "qwen_scope": 544, "saelens": 292,
    "temporal": 3,
}  # fmt: skip
"""Number of SAEs by the plugin that reads them."""


def test_every_sae_resolves():
    """13,857 of 13,857: a plugin, a repository, a path, a hook and a model, without a network."""
    entries = list(catalogue.everything())
    counts = dict.fromkeys(FORMATS, 0)
    for one in entries:
        counts[one.source] += 1
        place = resolve(one.facts.release, one.facts.sae_id)
        assert (place.files.name, place.path) == (one.repository, one.path)
        assert place.source == one.source
        assert place.facts == one.facts
        assert one.facts.hook == "hook_embed" or one.layer is not None
        assert one.facts.model
    assert counts == FORMATS
    assert set(FORMATS) <= set(current_host().names("release"))
    assert sum(counts.values()) == 13857
    assert len({one.facts.release for one in entries}) == 170
    assert len({(one.facts.release, one.facts.sae_id) for one in entries}) == 13857


def test_small():
    """The data take less than 200 kB in the wheel, and hold facts only."""
    assert FILE.stat().st_size < 200_000
    rows = [json.loads(line) for line in gzip.decompress(FILE.read_bytes()).splitlines()]
    assert {key for row in rows for key in row} == {
        "release", "repository", "model", "source", "overrides", "saes"
    }  # fmt: skip
    assert {key for row in rows for key in row["saes"]} == {
        "id", "path", "hook", "width", "l0", "variance_explained", "norm_scaling_factor",
        "neuronpedia",
    }  # fmt: skip


def test_hooks_of_each_format():
    """Hooks that the list of releases does not have follow by the rule of each format."""
    for release, sae_id, hook, width in (
        ("gemma-scope-2b-pt-res", "embedding/width_4k/average_l0_6", "hook_embed", 4096),
        ("gemma-scope-2b-pt-res", "layer_25/width_65k/average_l0_93",
         "blocks.25.hook_resid_post", 65536),
        ("gemma-scope-9b-pt-att", "layer_9/width_131k/average_l0_511",
         "blocks.9.attn.hook_z", 131072),
        ("gemma-scope-2b-pt-transcoders", "layer_0/width_16k/average_l0_76",
         "blocks.0.ln2.hook_normalized", 16384),
        ("gemma-scope-2-4b-pt-att", "layer_17_width_262k_l0_big", "blocks.17.attn.hook_z", 262144),
        ("gemma-scope-2-4b-pt-transcoders-all", "layer_9_width_262k_l0_small_affine",
         "blocks.9.hook_mlp_in", 262144),
        ("gpt2-small-hook-z-kk", "blocks.11.hook_z", "blocks.11.attn.hook_z", 24576),
        ("gpt2-small-res-jb-feature-splitting", "blocks.8.hook_resid_pre_98304",
         "blocks.8.hook_resid_pre", 98304),
        ("llama_scope_lxa_32x", "l31a_32x", "blocks.31.hook_attn_out", 131072),
        ("llama_scope_r1_distill", "l0r_800m_slimpajama", "blocks.0.hook_resid_post", 32768),
        ("mntss-gemma-2-2b-2.5m-clt-as-per-layer", "layer_25", "blocks.25.hook_resid_mid", None),
        ("mwhanna-qwen3-4b-transcoders", "layer_35", "blocks.35.mlp.hook_in", None),
        ("qwen-scope-3.5-27b-w80k-l50", "layer63", "blocks.63.hook_resid_post", 81920),
        ("sae_bench_gemma-2-2b_topk_width-2pow14_date-1109",
         "blocks.5.hook_resid_post__trainer_5_step_46322", "blocks.5.hook_resid_post", 16384),
        ("goodfire-llama-3.3-70b-instruct", "layer_50", "blocks.50.hook_resid_post", 65536),
    ):  # fmt: skip
        found = catalogue.entry(release, sae_id)
        assert (found.facts.hook, found.width) == (hook, width), release


def test_the_malformed_entry_is_reported(capsys):
    """An SAE of the list with keys that are not an SAE's is kept without them, and named."""
    saes = [
        {"id": "blocks.2.hook_resid_pre", "path": "2-res"},
        {"id": "blocks.10.hook_resid_pre", "path": "10-res", "saes": [], "model": "x"},
    ]
    release = {"conversion_func": None, "repo_id": "a/b", "model": "m", "saes": saes}
    row = make.line("name", release)
    assert row["saes"]["hook"] == [one["id"] for one in saes]
    assert set(row["saes"]) == {"id", "path", "hook"}
    said = "name/blocks.10.hook_resid_pre: ignored: model, saes"
    assert said in capsys.readouterr().err
