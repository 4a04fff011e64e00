"""Every format: the recorded repositories are recognized, and read as they must be."""

import pytest
import torch

from saecore.plugins.host import current_host
from saecore.releases.build import weights
from saecore.releases.load import detect_format, load
from tests.releases.cases import cases

pytestmark = pytest.mark.oracle

CLOSE = {"rtol": 1e-4, "atol": 1e-5}

RUNTIME = ("dtype", "device")
"""Of the loading, not of the file."""

OURS = {
    "finetuning_scaling_factor": "means nothing to an SAE that is trained",
    "neuronpedia_id": "SAELens leaves it at the top of version 6's files, where nobody reads it",
    "select_by_decoder_norm": "our architecture's name says it",
    "activation": "our activations are tables",
}
"""Keys of the recorded configuration that ours lacks or says differently."""

DISTILL = "deepseek-ai/DeepSeek-R1-Distill-Llama-8B"

OTHERWISE = {
    ("gemma_3/att", "reshape_activations"): "hook_z",  # SAELens cannot read `[..., h, d]`
    ("llama_scope/without_yaml_factor", "normalize_activations"): "none",  # hyperparams.json has it
    ("llama_scope_r1_distill/l15r", "model_name"): DISTILL,  # the repository's, not its base's
    ("llama_scope_r1_distill/non_unit_decoder", "model_name"): DISTILL,
    ("llamascopium/topk_dataset_wise", "architecture"): "ranked_topk",  # select_by_decoder_norm
    # the input of the module, so after the norm
    ("sparsify/skip_transcoder_bf16", "hook_name"): "blocks.5.mlp.hook_in",
}
"""Values that are wrong in the recording, and the right ones."""


def pytest_generate_tests(metafunc):
    """One test a case."""
    if "case" in metafunc.fixturenames:
        found = cases(metafunc.config.getoption("--oracle"))
        if metafunc.definition.name == "test_standardized":
            found = [one for one in found if "standardized/W_E" in one.record["tensors"]]
        metafunc.parametrize("case", found, ids=lambda one: one.name)


def test_recognized_by_one_format(case):
    """Exactly one format takes each repository for its own, and it lists the SAE."""
    files = case.files()
    host = current_host()
    built = {one: host.component("release", one) for one in host.names("release")}
    sources = {name: one.make(one.config()) for name, one in built.items()}
    found = [name for name, one in sources.items() if one.recognize(files, case.path)]
    assert found == [case.plugin]
    assert case.path in sources[case.plugin].list(files)
    assert detect_format(files, case.path)[0] == case.plugin


def check_configuration(case, loaded):
    """The configuration says what the recorded one says."""
    expected = dict(case.record["cfg_dict"])
    metadata = expected.pop("metadata")
    for key, value in expected.items():
        if key not in RUNTIME and key not in OURS:
            value = OTHERWISE.get((case.name, key), value)
            default = loaded.cfg_dict["d_in"] if key == "d_out" else None
            if key == "k" and "activation" in loaded.cfg_dict:  # of a transcoder
                default = loaded.cfg_dict["activation"]["k"]
            assert loaded.cfg_dict.get(key, default) == value, key
    for key, value in metadata.items():
        if value is not None and key != "sae_lens_version":
            value = OTHERWISE.get((case.name, key), value)
            got = loaded.cfg_dict["metadata"].get(key)
            assert loaded.sae.cfg.metadata[key] == got
            if key == "model_name" and case.plugin == "dictionary_learning":
                got = got.split("/")[-1]  # SAELens loses the organization
            assert got == value, key


def test_values(case):
    """Weights, features, reconstructions and configuration are those of the recording."""
    expected = case.tensors()
    loaded = load(case.files(), case.path, facts=case.facts, dtype="float32")
    sae, x = loaded.sae, expected["x"]

    state = {name: one for name, one in expected.items() if name.startswith("state/")}
    if state:
        assert {f"state/{name}" for name in weights(sae)} == set(state)
    for name, tensor in weights(sae).items():
        # Rows of norm 1 have not quite norm 1 in bfloat16, which SAELens leaves out of thresholds.
        rounded = (case.name, name) == ("llama_scope/l8r_8x", "threshold")
        if state:
            close = {"rtol": 2**-8, "atol": 0} if rounded else CLOSE
            torch.testing.assert_close(tensor, state[f"state/{name}"], **close)

    with torch.no_grad():
        plain = case.record["expected_from"] != "SAELens"
        if plain and "decode" in expected:  # of features alone, without an input to scale back to
            torch.testing.assert_close(sae.decode(expected["encode"]), expected["decode"], **CLOSE)
        torch.testing.assert_close(sae.encode(x), expected["encode"], **CLOSE)
        if not plain and "decode" in expected:
            torch.testing.assert_close(sae.decode(expected["encode"]), expected["decode"], **CLOSE)
        torch.testing.assert_close(sae(x), expected["forward"], **CLOSE)
        if "x_heads" in expected:
            heads = expected["x_heads"]
            torch.testing.assert_close(sae.encode(heads), expected["encode"], **CLOSE)
            torch.testing.assert_close(sae(heads), expected["forward_heads"], **CLOSE)
        if "predicted" in expected:
            codes, predicted = sae.encode_with_predictions(x)
            torch.testing.assert_close(codes, expected["encode"], **CLOSE)
            torch.testing.assert_close(predicted, expected["predicted"], **CLOSE)

    if "log_sparsity" in expected:
        torch.testing.assert_close(loaded.sparsity, expected["log_sparsity"], **CLOSE)
    else:
        assert loaded.sparsity is None
    check_configuration(case, loaded)


def test_standardized(case):
    """Features of llamascopium at the scale of raw activations are a choice of latent scale."""
    expected = case.tensors()
    sae = load(case.files(), case.path, facts=case.facts, dtype="float32").sae
    ours = weights(sae)
    scale = (ours["W_enc"] / expected["standardized/W_E"]).median()
    sae.scale_latents(torch.full((sae.cfg.d_sae,), 1 / float(scale)))
    for theirs, name in {"W_E": "W_enc", "b_E": "b_enc", "W_D": "W_dec", "b_D": "b_dec"}.items():
        torch.testing.assert_close(weights(sae)[name], expected[f"standardized/{theirs}"], **CLOSE)
