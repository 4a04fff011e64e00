"""Formats, where the reference reads them wrongly or not at all: checked against the raw files."""

import numpy
import pytest
import torch
from safetensors.torch import load_file, save_file

from saecore.core.release import CatalogueFacts
from saecore.releases.resolve import resolve
from tests.releases.repositories import Copy

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def close(found, expected):
    """Assert that tensors are equal within rounding."""
    torch.testing.assert_close(found, expected, **CLOSE)


@pytest.fixture(autouse=True)
def no_gradients():
    """Values only."""
    with torch.no_grad():
        yield


def test_gemma_scope_embedding(tmp_path):
    """An SAE of embeddings reads sqrt(d) times what it was trained on, and gives as much back."""
    files = Copy("gemma_2/embedding", tmp_path)
    raw = {name: torch.from_numpy(one) for name, one in numpy.load(files.file(".npz")).items()}
    sae, root = files.load().sae, 16**0.5
    pre = files.x / root @ raw["W_enc"] + raw["b_enc"]
    features = torch.where(pre > raw["threshold"], pre.relu(), 0.0)
    close(sae.encode(files.x), features)
    close(sae(files.x), root * (features @ raw["W_dec"] + raw["b_dec"]))


def test_gemma_scope_name(tmp_path):
    """What an SAE reads is said by the repository's name, wherever it stands in the path."""
    files = Copy("gemma_2/res", tmp_path)
    place = tmp_path / "models--google--gemma-scope-9b-it-mlp" / "snapshots" / "abc"
    place.mkdir(parents=True)
    folder = files.root.rename(place / "repo") / files.case.path
    loaded = resolve(folder).load()
    assert loaded.sae.cfg.hook_name == "blocks.20.hook_mlp_out"
    assert loaded.sae.cfg.model_name == "gemma-2-9b-it"
    assert loaded.sae.cfg.metadata.l0 == 71


def test_gemma_scope_2_heads(tmp_path):
    """SAEs of attention take the heads of hook_z apart or joined."""
    files = Copy("gemma_3/att", tmp_path)
    sae = files.load().sae
    heads = files.x.unflatten(-1, (4, 4))
    close(sae.encode(heads), sae.encode(files.x))
    close(sae(heads), sae(files.x).unflatten(-1, (4, 4)))


def test_gemma_scope_2_clt(tmp_path):
    """A layer of a cross-layer transcoder has its features; a warning says what it has not."""
    files = Copy("gemma_3/clt", tmp_path)
    raw = load_file(files.file(".safetensors"))
    with pytest.warns(UserWarning, match="one layer of a cross-layer transcoder"):
        loaded = files.load()
    pre = files.x @ raw["w_enc"] + raw["b_enc"]
    close(loaded.sae.encode(files.x), torch.where(pre > raw["threshold"], pre.relu(), 0.0))
    assert loaded.sae.cfg.metadata.hf_hook_name == (
        "model.layers.3.pre_feedforward_layernorm.output"  # {all} in config.json
    )
    assert loaded.sae.cfg.metadata.l0 == 150


def scaled_jumprelu(files, raw, s_in, s_out, theta):
    """What OpenMOSS' SAEs make of the recorded activations: features and reconstruction."""
    raw = {name: one.float() for name, one in raw.items()}
    norms = raw["decoder.weight"].norm(dim=0)
    pre = s_in * files.x @ raw["encoder.weight"].t() + raw["encoder.bias"]
    features = torch.where(pre * norms > theta, pre.relu(), 0.0)
    return features, (features @ raw["decoder.weight"].t() + raw["decoder.bias"]) / s_out


@pytest.mark.parametrize("case", ["non_unit_decoder", "without_yaml_factor", "l8r_8x"])
def test_llama_scope(tmp_path, case):
    """Thresholds count decoder norms, and the scale is in the file, whatever a catalogue has."""
    files = Copy(f"llama_scope/{case}", tmp_path)
    table, s = files.table("hyperparams.json"), 8**0.5 / 1.5
    features, out = scaled_jumprelu(
        files, load_file(files.file(".safetensors")), s, s, table["jump_relu_threshold"] * s
    )
    sae = files.load(facts=CatalogueFacts()).sae
    close(sae.encode(files.x), features)
    close(sae(files.x), out)


def test_llama_scope_transcoders(tmp_path):
    """Transcoders scale what they read and what they reconstruct by factors of their own."""
    files = Copy("llama_scope/non_unit_decoder", tmp_path)
    files.change(
        "hyperparams.json",
        hook_point_out="blocks.8.hook_mlp_out",
        dataset_average_activation_norm={"in": 1.5, "out": 4.0},
    )
    s_in, theta = 8**0.5 / 1.5, files.table("hyperparams.json")["jump_relu_threshold"]
    features, out = scaled_jumprelu(
        files, load_file(files.file(".safetensors")), s_in, 8**0.5 / 4, theta * s_in
    )
    sae = files.load().sae
    assert sae.cfg.architecture == "transcoder"
    assert sae.cfg.metadata.hook_name_out == "blocks.8.hook_mlp_out"
    close(sae.encode(files.x), features)
    close(sae(files.x), out)


@pytest.mark.parametrize("case", ["non_unit_decoder", "l15r"])
def test_llama_scope_r1_distill(tmp_path, case):
    """Thresholds count decoder norms, and the scale is in the file."""
    files = Copy(f"llama_scope_r1_distill/{case}", tmp_path)
    raw = load_file(files.file(".safetensors"))
    theta, s = raw["log_jumprelu_threshold"].exp(), 8**0.5 / 1.5
    features, out = scaled_jumprelu(files, raw, s, s, theta)
    sae = files.load(facts=CatalogueFacts()).sae
    close(sae.encode(files.x), features)
    close(sae(files.x), out)


def test_llama_scope_r1_distill_factors(tmp_path):
    """The catalogue's factor stands in for a missing norm, and wins over one that differs."""
    files = Copy("llama_scope_r1_distill/l15r", tmp_path)
    right = files.load().sae(files.x)
    with pytest.warns(UserWarning, match="the catalogue's is used"):
        other = files.load(facts=CatalogueFacts(norm_scaling_factor=2.5)).sae
    assert not torch.allclose(other(files.x), right)
    raw = load_file(files.file(".safetensors"))
    norm = next(name for name in raw if name.startswith("dataset_average"))
    del raw[norm]
    save_file(raw, files.file(".safetensors"))
    close(files.load().sae(files.x), right)


def test_llamascopium_token_wise(tmp_path):
    """Every activation is scaled to norm sqrt(d), and back."""
    files = Copy("llamascopium/relu_inference", tmp_path)
    raw, right = load_file(files.file(".safetensors")), files.load().sae
    files.change("config.json", norm_activation="token-wise")
    factor = 8**0.5 / files.x.norm(dim=-1, keepdim=True)
    sae = files.load().sae
    close(sae(files.x), right(files.x * factor) / factor)
    assert "b_D" not in raw
    assert not sae.b_dec.any()


@pytest.mark.parametrize("name", ["sae_weights.pt", "checkpoints/final.safetensors"])
def test_llamascopium_other_files(tmp_path, name):
    """Weights may be in a .pt file, or those of a checkpoint."""
    files = Copy("llamascopium/topk_dataset_wise", tmp_path)
    right, file = files.load().sae(files.x), files.file(".safetensors")
    new = file.parent / name
    new.parent.mkdir(exist_ok=True)
    if name.endswith(".pt"):
        torch.save({"sae": load_file(file), "version": "2.0.0"}, new)
        file.unlink()
    else:
        file.rename(new)
    close(files.load().sae(files.x), right)


def test_openai_tied(tmp_path):
    """A tied decoder is the encoder's transpose."""
    files = Copy("openai/v1_relu", tmp_path)
    raw = torch.load(files.file("6.pt"), weights_only=True)
    raw["decoder.linear.weight"] = raw["encoder.weight"]
    del raw["decoder.weight"]
    torch.save(raw, files.file("6.pt"))
    sae = files.load().sae
    close(sae.W_dec.t(), sae.W_enc)
    features = ((files.x - raw["pre_bias"]) @ raw["encoder.weight"].t() + raw["latent_bias"]).relu()
    close(sae(files.x), features @ raw["encoder.weight"] + raw["pre_bias"])


def test_facts(tmp_path):
    """What a catalogue knows is kept with the SAE; where it knows nothing, the file's own is."""
    files = Copy("sae_lens/v6_standard", tmp_path)
    facts = CatalogueFacts(
        model="gemma",
        l0=12.5,
        variance_explained=0.9,
        neuronpedia="gemma-2-2b/3-x",
        overrides={"dataset_path": "some/text", "normalize_activations": "layer_norm"},
    )
    cfg = files.load(facts=facts).sae.cfg
    assert (cfg.metadata.l0, cfg.metadata.variance_explained) == (12.5, 0.9)
    assert cfg.metadata.neuronpedia_id == "gemma-2-2b/3-x"
    assert cfg.metadata.dataset_path == "some/text"
    assert cfg.normalize_activations == "layer_norm"
    assert cfg.model_name == "gemma-2-2b"


@pytest.mark.parametrize("activation", ["relu", "topk"])
def test_saelens_run_configuration(tmp_path, activation):
    """The oldest files hold a whole run's settings; those that count are found."""
    files = Copy("sae_lens/pre6_old_names", tmp_path)
    right = files.load().sae
    kwargs = {"k": 4} if activation == "topk" else {}
    files.change("cfg.json", activation_fn_str=activation, activation_fn_kwargs=kwargs)
    sae = files.load().sae
    features = sae.encode(files.x)
    assert sae.cfg.architecture == {"relu": "standard", "topk": "topk"}[activation]
    assert sae.cfg.hook_name == "blocks.8.hook_resid_pre"
    if activation == "topk":
        best = right.encode(files.x).topk(4)
        close(features, torch.zeros_like(features).scatter(-1, best.indices, best.values))
    else:
        close(features, right.encode(files.x))


def test_saelens_scaling_factor(tmp_path):
    """A fine-tuning factor of ones means nothing."""
    files = Copy("sae_lens/pre6_topk_layer_norm", tmp_path)
    right, file = files.load().sae(files.x), files.file("sae_weights.safetensors")
    save_file({**load_file(file), "scaling_factor": torch.ones(40)}, file)
    close(files.load().sae(files.x), right)
