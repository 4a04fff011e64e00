"""sparsify, and the formats of single layers: variants that were not recorded, and refusals."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from saecore.errors import ReleaseError
from tests.releases.repositories import Copy

SKIP, PLAIN = "sparsify/skip_transcoder_bf16", "sparsify/default_layers_3"


def weights(made):
    """The tensors of a copy, in float32."""
    return {key: one.float() for key, one in load_file(made.file(".safetensors")).items()}


def test_signed(tmp_path):
    """Files of 2024 with `signed` keep the k largest in absolute value, signs and all."""
    made = Copy("sparsify/old_num_latents_mlp", tmp_path)
    made.change("cfg.json", signed=True)
    own = weights(made)
    pre = (made.x - own["b_dec"]) @ own["encoder.weight"].T + own["encoder.bias"]
    best = pre.abs().topk(6).indices
    wanted = torch.zeros_like(pre).scatter(-1, best, pre.gather(-1, best))
    assert (wanted < 0).any()
    torch.testing.assert_close(made.load().sae.encode(made.x), wanted, rtol=1e-4, atol=1e-5)


def test_transcoder_of_2024(tmp_path):
    """Without the key `transcode`, a skip transcoder subtracts b_dec, and reads the input."""
    made = Copy(SKIP, tmp_path)
    made.change("cfg.json", transcode=None)
    own, loaded = weights(made), made.load()
    pre = (made.x - own["b_dec"]) @ own["encoder.weight"].T + own["encoder.bias"]
    best = pre.relu().topk(6)
    wanted = torch.zeros_like(pre).scatter(-1, best.indices, best.values)
    torch.testing.assert_close(loaded.sae.encode(made.x), wanted, rtol=1e-4, atol=1e-5)
    out = wanted @ own["W_dec"] + own["b_dec"] + made.x @ own["W_skip"].T
    torch.testing.assert_close(loaded.sae(made.x), out, rtol=1e-4, atol=1e-4)
    assert loaded.cfg_dict["metadata"]["hook_name"] == "blocks.5.mlp.hook_in"


@pytest.mark.parametrize(
    ("module", "model", "hook"),
    [
        ("h.4", "gpt2", "blocks.4.hook_resid_post"),
        ("h.4.mlp", "gpt2", "blocks.4.hook_mlp_out"),
        ("h.4.attn", "gpt2", "blocks.4.hook_attn_out"),
        ("layers.4.attention", "EleutherAI/pythia-70m", "blocks.4.hook_attn_out"),
        ("layers.4.self_attn", "HuggingFaceTB/SmolLM2-135M", "blocks.4.hook_attn_out"),
        ("layers.4.mlp", "google/gemma-2-2b", "model.layers.4.mlp"),
        ("embed_tokens", "meta-llama/Llama-3.2-1B", "hook_embed"),
        ("layers.4.mlp.gate", "some/model", None),
    ],
)
def test_modules(tmp_path, module, model, hook):
    """The folder's name is the module's, in the spelling of the model."""
    made = Copy(PLAIN, tmp_path)
    (made.root / "layers.3").rename(made.root / module)
    root = json.loads((made.root / "config.json").read_text())
    (made.root / "config.json").write_text(json.dumps({**root, "model": model}))
    metadata = made.load(module).cfg_dict["metadata"]
    assert (metadata["hook_name"], metadata["sparsify_hookpoint"]) == (hook, module)


@pytest.mark.parametrize(
    ("case", "settings", "message"),
    [
        (PLAIN, {"num_latents": 50}, r"got 48, expected cfg\.json's num_latents = 50"),
        (PLAIN, {"expansion_factor": 5}, r"got 48, expected d_in \* expansion_factor = 60"),
        (PLAIN, {"d_in": 13}, r"got 12, expected cfg\.json's d_in = 13"),
        (PLAIN, {"activation": "relu"}, r"activation: expected .topk. or .groupmax., got .relu."),
        (PLAIN, {"k": None}, "k: missing; expected an integer"),
        (PLAIN, {"k": 49}, "at most d_sae = 48, got 49"),
        (PLAIN, {"skip_connection": True}, "tensor W_skip is missing"),
        ("sparsify/groupmax", {"k": 7}, "a divisor of d_sae = 48"),
        ("sparsify/groupmax", {"signed": True}, "signed: expected false"),
        (SKIP, {"skip_connection": False}, "unexpected tensor W_skip"),
    ],
)
def test_refused(tmp_path, case, settings, message):
    """Sizes that differ, activations that are not known, a linear part that is not announced."""
    made = Copy(case, tmp_path)
    (file,) = made.root.rglob("cfg.json")
    table = {**json.loads(file.read_text()), **settings}
    file.write_text(json.dumps({key: one for key, one in table.items() if one is not None}))
    with pytest.raises(ReleaseError, match=message) as caught:
        made.load()
    assert "\n" not in str(caught.value)


def changed(made, end, **tensors):
    """Add tensors to a file, or change them."""
    file = made.file(end)
    save_file({**load_file(file), **tensors}, file)


@pytest.mark.filterwarnings("ignore:mntss")
def test_mntss_thresholds(tmp_path):
    """Cross-layer transcoders with thresholds are JumpReLU ones."""
    made = Copy("mntss_clt_layer_transcoder/layer3", tmp_path)
    theta = torch.linspace(0.0, 1.0, 40)
    before = made.load().sae.encode(made.x)
    changed(made, "W_enc_3.safetensors", threshold_3=theta)
    after = made.load().sae.encode(made.x)
    torch.testing.assert_close(after, before * (before > theta))
    assert (after != before).any()


def test_mntss_says_that_it_does_not_reconstruct(tmp_path):
    """One layer of several has a decoder that means nothing by itself: a warning says it."""
    made = Copy("mntss_clt_layer_transcoder/layer3", tmp_path)
    with pytest.warns(UserWarning, match="its features are correct, its reconstruction is not"):
        made.load()


def test_mwhanna_refused(tmp_path):
    """Transcoders with thresholds, another activation or other sizes are not ReLU ones."""
    made = Copy("mwhanna_transcoder/qwen3_4b_layer10", tmp_path)
    settings = made.file("wandb-config.yaml")
    text = settings.read_text()
    for old, new, message in (
        ("value: relu", "value: topk", r'act_fn: expected "relu", got "topk"'),
        ("value: 40", "value: 41", r"got 40, expected wandb-config\.yaml's d_feature = 41"),
    ):
        assert old in text
        settings.write_text(text.replace(old, new))
        with pytest.raises(ReleaseError, match=message):
            made.load()
    settings.write_text(text)
    changed(made, "layer_10.safetensors", threshold=torch.ones(40))
    with pytest.raises(ReleaseError, match=r"unexpected tensor threshold \[40\]"):
        made.load()


def test_qwen_scope_without_its_configuration(tmp_path):
    """Model and k come from the repository's name where config.json is missing; one that differs is
    refused.
    """
    made = Copy("qwen_scope/layer5", tmp_path)
    wanted = made.load().cfg_dict
    made.change("config.json", d_sae=49)
    with pytest.raises(ReleaseError, match=r"got 48, expected config\.json's d_sae = 49"):
        made.load()
    made.file("config.json").unlink()
    assert made.load().cfg_dict == wanted


def test_temporal_layers(tmp_path):
    """A number of layers that is not that of the weights is refused before any is made."""
    made = Copy("temporal/tied_topk", tmp_path)
    file = made.file("conf.yaml")
    file.write_text(file.read_text().replace("n_attn_layers: 1", "n_attn_layers: 1000000000"))
    with pytest.raises(ReleaseError, match=r"got 1, expected sae\.n_attn_layers = 1000000000"):
        made.load()
