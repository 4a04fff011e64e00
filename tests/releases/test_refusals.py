"""What cannot be read for certain is refused, with the file and the key in one line."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from saecore.core.release import CatalogueFacts
from saecore.errors import ReleaseError
from tests.releases.repositories import Copy

SETTINGS = [
    (
        "sae_lens/pre6_topk_layer_norm",
        "cfg.json",
        {"activation_fn_str": "tanh-relu"},
        "activation_fn",
    ),
    (
        "sae_lens/pre6_topk_layer_norm",
        "cfg.json",
        {"activation_fn_kwargs": {}},
        r"kwargs\.k: missing",
    ),
    (
        "sae_lens/pre6_topk_layer_norm",
        "cfg.json",
        {"architecture": "gated"},
        "activation_fn: 'topk'",
    ),
    ("sae_lens/v6_topk", "cfg.json", {"architecture": "standard"}, "unknown key 'k'"),
    ("sae_lens/v6_topk", "cfg.json", {"k": 41}, "sae.k: expected at most d_sae"),
    (
        "sae_lens/v6_jumprelu_skip_transcoder",
        "cfg.json",
        {"apply_b_dec_to_input": True},
        "apply_b_dec_to_input: a transcoder",
    ),
    ("connor_rob_hook_z/layer0", "cfg.json", {"act_size": 13}, "act_size = 13"),
    ("connor_rob_hook_z/layer0", "cfg.json", {"dict_size": 13}, "dict_size = 13"),
    ("connor_rob_hook_z/layer0", "cfg.json", {"act_name": None}, "act_name: missing"),
    ("gemma_3/res", "config.json", {"architecture": "topk"}, 'architecture: expected "jump_relu"'),
    ("gemma_3/res", "config.json", {"hf_hook_point_in": "lm_head"}, "is not a hook"),
    ("gemma_3/transcoder", "config.json", {"affine_connection": True}, "no affine_skip_connection"),
    ("gemma_3/transcoder_affine", "config.json", {"affine_connection": False}, "unexpected affine"),
    ("llama_scope/l8r_8x", "hyperparams.json", {"act_fn": "topk"}, "act_fn: expected 'jumprelu'"),
    (
        "llama_scope/l8r_8x",
        "hyperparams.json",
        {"use_glu_encoder": True},
        "use_glu_encoder: expected",
    ),
    (
        "llama_scope/l8r_8x",
        "hyperparams.json",
        {"norm_activation": "token-wise"},
        "norm_activation",
    ),
    ("llama_scope/l8r_8x", "hyperparams.json", {"d_sae": 65}, "d_sae = 65"),
    (
        "llama_scope/l8r_8x",
        "hyperparams.json",
        {"dataset_average_activation_norm": {"in": 0.0, "out": 1.0}},
        r"dataset_average_activation_norm\.in: expected a positive number",
    ),
    (
        "llama_scope_r1_distill/l15r",
        "config.json",
        {"act_fn": "relu"},
        "act_fn: expected 'jumprelu'",
    ),
    ("llama_scope_r1_distill/l15r", "config.json", {"hook_point_out": "x"}, "hook_point_out"),
    ("llamascopium/relu_inference", "config.json", {"use_glu_encoder": True}, "use_glu_encoder"),
    ("llamascopium/relu_inference", "config.json", {"act_fn": "batchtopk"}, "act_fn"),
    ("llamascopium/relu_inference", "config.json", {"sae_type": "clt"}, "sae_type: expected 'sae'"),
    ("llamascopium/relu_inference", "config.json", {"norm_activation": "batch-wise"}, "norm_act"),
    (
        "llamascopium/relu_inference",
        "config.json",
        {"expansion_factor": 4},
        "expansion_factor = 32",
    ),
    ("llamascopium/topk_dataset_wise", "config.json", {"act_fn": "jumprelu"}, "log_jumprelu_thres"),
    ("llamascopium/jumprelu_dataset_wise", "config.json", {"act_fn": "relu"}, "unexpected tensor"),
    (
        "llamascopium/jumprelu_dataset_wise",
        "config.json",
        {"hook_point_in": "x"},
        "norm.x: missing",
    ),
    (
        "llamascopium/topk_dataset_wise",
        "config.json",
        {"norm_activation": "inference", "hook_point_out": "blocks.3.hook_mlp_out"},
        "sparsity_include_decoder_norm: not read",
    ),
]
"""A case, a file, what is changed in it, and what the error says."""


@pytest.mark.parametrize(("case", "file", "settings", "message"), SETTINGS)
def test_settings(tmp_path, case, file, settings, message):
    """A setting that contradicts the weights, or that means what we cannot express."""
    files = Copy(case, tmp_path)
    files.change(file, **settings)
    with pytest.raises(ReleaseError, match=message) as error:
        files.load()
    assert files.case.record["repo_id"] in str(error.value)


OBJECTS = [
    ("v5_topk", {"activation": "Identity"}, "activation: expected ReLU or TopK"),
    ("v5_topk", {"activation_state_dict": {"k": 6, "postact_fn": "Identity"}}, "postact_fn"),
    ("v5_topk", {"activation_state_dict": {"postact_fn": "ReLU"}}, r"state\.k: missing"),
    ("v5_topk", {"activation_state_dict": 3}, "state"),
    ("v1_relu", {"decoder.weight": None}, "tensor decoder.weight is missing"),
    ("v1_relu", {"surprise": torch.ones(3)}, "unexpected tensor surprise"),
]


@pytest.mark.parametrize(("case", "objects", "message"), OBJECTS)
def test_openai(tmp_path, case, objects, message):
    """What OpenAI's files say of the activation is understood wholly or refused."""
    files = Copy(f"openai/{case}", tmp_path)
    content = torch.load(files.file("6.pt"), weights_only=True) | objects
    torch.save({key: one for key, one in content.items() if one is not None}, files.file("6.pt"))
    with pytest.raises(ReleaseError, match=message):
        files.load()


def test_openai_place(tmp_path):
    """A file that has left its place has lost its hook."""
    files = Copy("openai/v1_relu", tmp_path)
    files.file("6.pt").rename(files.root / "6.pt")
    with pytest.raises(ReleaseError, match="no known format"):
        files.load("6.pt")
    with pytest.raises(ReleaseError, match="comes from the path"):
        files.load("6.pt", source="openai")


def test_gemma_scope_without_its_name(tmp_path):
    """The same files could be of residual stream, MLP, attention or a transcoder."""
    files = Copy("gemma_2/res", tmp_path)
    files.case.record["repo_id"], name = "mine/copy", files.case.record["repo_id"]
    try:
        with pytest.raises(ReleaseError, match="any of gemma_scope, gemma_scope_transcoders"):
            files.load()
        with pytest.raises(ReleaseError, match="repository's name"):
            files.load(source="gemma_scope")
        known = CatalogueFacts(hook="blocks.20.hook_resid_post", model="gemma-2-2b")
        assert files.load(source="gemma_scope", facts=known).sae.cfg.model_name == "gemma-2-2b"
    finally:
        files.case.record["repo_id"] = name


def test_saelens_without_its_factor(tmp_path):
    """An SAE of scaled activations is nothing without the scale."""
    with pytest.raises(ReleaseError, match="neither in the file nor in a catalogue"):
        Copy("sae_lens/pre6_norm_fold", tmp_path).load(facts=CatalogueFacts())


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("sae_weights", {"scaling_factor": torch.full((40,), 2.0)}, "scaling_factor: not 1"),
        ("sae_weights", {"threshold": torch.ones(40)}, "unexpected tensor 'threshold'"),
        ("sae_weights", {"b_enc": torch.ones(40, dtype=torch.int32)}, "floating-point"),
        ("sparsity", {"sparsity": torch.ones(39)}, "sparsity: expected 40 numbers"),
    ],
)
def test_saelens_tensors(tmp_path, name, tensor, message):
    """Tensors that the configuration does not account for."""
    files = Copy("sae_lens/v6_standard", tmp_path)
    file = files.file(f"{name}.safetensors")
    save_file(load_file(file) | tensor, file)
    with pytest.raises(ReleaseError, match=message):
        files.load()
