"""dictionary_learning: every class, and files that contradict each other."""

import json

import pytest
import torch

from saecore.errors import ReleaseError
from tests.releases.repositories import Copy

FORMAT = "dictionary_learning_1"


def copy(tmp_path, case, tensors=None, buffer=None, **trainer):
    """A recorded SAE with other settings of its trainer and other tensors; None leaves them out."""
    made = Copy(f"{FORMAT}/{case}", tmp_path)
    table = made.table("config.json")
    table["trainer"].update(trainer)
    table["buffer"].update(buffer or {})
    made.file("config.json").write_text(json.dumps(table))
    state = {**torch.load(made.file("ae.pt"), weights_only=True), **(tensors or {})}
    kept = {key: one for key, one in state.items() if one is not None}
    torch.save(kept, made.file("ae.pt"))
    return made


def test_autoencoder_new(tmp_path):
    """AutoEncoderNew has a decoder with a bias that is not subtracted from the input."""
    bias = torch.load(Copy(f"{FORMAT}/standard", tmp_path / "a").file("ae.pt"), weights_only=True)
    changed = {"bias": None, "decoder.bias": bias["bias"]}
    made = copy(tmp_path / "b", "standard", changed, dict_class="AutoEncoderNew")
    sae, x = made.load().sae, made.x
    pre = x @ bias["encoder.weight"].T + bias["encoder.bias"]
    wanted = pre.relu() @ bias["decoder.weight"].T + bias["bias"]
    torch.testing.assert_close(sae(x), wanted, rtol=1e-5, atol=1e-5)


def test_threshold_that_was_not_learned(tmp_path):
    """A threshold of -1 means ReLU."""
    made = copy(tmp_path, "batchtopk", {"threshold": torch.tensor(-1.0)})
    sae = made.load().sae
    pre = (made.x - sae.b_dec) @ sae.W_enc + sae.b_enc
    torch.testing.assert_close(sae.encode(made.x), pre.relu(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("case", "tensors", "settings", "message"),
    [
        ("topk", {}, {"dict_class": "AutoEncoder"}, "is AutoEncoder, but these .* AutoEncoderTopK"),
        ("gated", {}, {"dict_class": "AutoEncoder"}, "the tensors of GatedAutoEncoder"),
        ("topk", {}, {"dict_class": "AutoEncoderTopk"}, 'did you mean "AutoEncoderTopK"'),
        ("topk", {}, {"dict_class": None}, r"trainer\.dict_class: missing"),
        ("topk", {}, {"k": 7}, r"tensor k: got 6, expected config\.json's trainer\.k = 7"),
        ("topk_2024", {}, {"k": None}, r"trainer\.k: missing; expected an integer"),
        ("topk_2024", {}, {"k": "6"}, r"trainer\.k: expected an integer, got '6'"),
        ("topk_2024", {}, {"k": 41}, "at most d_sae = 40, got 41"),
        ("topk", {}, {"dict_size": 41}, r"got 40, expected config\.json's trainer\.dict_size = 41"),
        ("topk", {}, {"activation_dim": 11}, r"got 12, expected .*activation_dim = 11"),
        ("batchtopk", {"threshold": None}, {}, "tensor threshold is missing"),
        ("jumprelu", {"threshold": torch.ones(39)}, {}, r"threshold is \[39\], which does not fit"),
        ("standard", {"bias": None}, {}, "tensor bias is missing"),
        ("standard", {"bias": torch.full((12,), torch.inf)}, {}, "not finite"),
        ("standard", {"decoder.weight": torch.ones(12, 39)}, {}, "which does not fit"),
        ("standard", {"surprise": torch.ones(3)}, {}, r"unexpected tensor surprise \[3\]"),
    ],
)
def test_refused(tmp_path, case, tensors, settings, message):
    """Wrong shapes, missing tensors, unknown classes, TopK weights under a ReLU class, numbers that
    are not finite: each is named.
    """
    made = copy(tmp_path, case, tensors, **settings)
    with pytest.raises(ReleaseError, match=message) as caught:
        made.load()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("submodule", "io", "hook"),
    [
        ("resid_post_layer_7", "out", "blocks.7.hook_resid_post"),
        ("mlp_out_layer_3", "out", "blocks.3.hook_mlp_out"),
        ("attention_out_layer_3", "out", "blocks.3.hook_attn_out"),
        ("blocks.2.attn.hook_z", "out", "blocks.2.attn.hook_z"),
        ("resid_post_layer_7", "in", None),
        ("embeddings", "out", None),
        (None, "out", "blocks.12.hook_resid_post"),
    ],
)
def test_hook(tmp_path, submodule, io, hook):
    """The submodule says the hook; one that is not known leaves it open rather than wrong."""
    made = copy(tmp_path, "topk", buffer={"io": io}, submodule_name=submodule)
    assert made.load().cfg_dict["metadata"]["hook_name"] == hook
