"""Transcoders and crosscoders against dense autograd, and on disk."""

import json

import pytest
import torch

from saecore import SAE
from tests.saecore_plugins.architectures.dense import assert_same_gradients, build, step

ACTIVATIONS = [
    {"type": "relu"},
    {"type": "topk", "k": 3},
    {"type": "batchtopk", "k": 3},
    {"type": "jumprelu", "jumprelu_init_threshold": 0.2},
]


def data(*shape, seed=1):
    """Random activations in float64."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def dense_features(sae, x, activation):
    """The features of `x` by dense tensors."""
    pre = x @ sae.W_enc + sae.b_enc
    if activation["type"] == "relu":
        return pre.relu()
    if activation["type"] == "jumprelu":
        return pre * (pre > 0.2)
    flat = pre.flatten() if activation["type"] == "batchtopk" else pre
    n = 3 * len(x) if activation["type"] == "batchtopk" else 3
    kept = torch.zeros_like(flat).scatter(-1, flat.topk(n, dim=-1).indices, 1.0)
    return kept.view_as(pre) * pre.relu()


@pytest.mark.parametrize("activation", ACTIVATIONS[:3], ids=lambda one: one["type"])
@pytest.mark.parametrize("architecture", ["transcoder", "skip_transcoder"])
def test_training_step(architecture, activation):
    """Reconstruction loss and penalty equal the dense formula, gradients included."""
    sae = build(6, 4, architecture=architecture, activation=activation, l1_coefficient=0.5)
    x, y = data(8, 6), data(8, 4, seed=2)
    features = dense_features(sae, x, activation)
    y_hat = features @ sae.W_dec + sae.b_dec
    if architecture == "skip_transcoder":
        y_hat = y_hat + x @ sae.W_skip.t()
    penalty = (features * sae.W_dec.norm(dim=1)).sum(1).mean()
    dense = (y_hat - y).square().sum(1).mean() + 0.5 * penalty
    assert_same_gradients(sae, step(sae, x, y).total, dense)


@pytest.mark.parametrize("activation", ACTIVATIONS[:3], ids=lambda one: one["type"])
def test_crosscoder_training_step(activation):
    """Hooks are read together, reconstructed together, and weigh by their own decoder norms."""
    sae = build(
        12, 12, hooks=3, architecture="crosscoder", activation=activation, l1_coefficient=0.5
    )
    x = data(8, 3, 4)
    features = dense_features(sae, x.flatten(1), activation)
    W_dec = sae.W_dec.view(10, 3, 4)
    x_hat = torch.einsum("ns,shd->nhd", features, W_dec) + sae.b_dec.view(3, 4)
    penalty = (features * W_dec.norm(dim=2).sum(1)).sum(1).mean()
    dense = (x_hat - x).square().sum((1, 2)).mean() + 0.5 * penalty
    assert_same_gradients(sae, step(sae, x).total, dense)
    torch.testing.assert_close(sae.eval()(x).view_as(x_hat).shape, x_hat.shape)


def test_penalty_is_there_by_default_only_with_relu():
    """ReLU alone is not sparse, so it comes with a penalty; TopK is, so it comes without."""
    relu = build(architecture="transcoder")
    topk = build(architecture="transcoder", activation={"type": "topk", "k": 3})
    assert set(step(relu, data(4, 6)).losses) == {"mse_loss", "l1_loss"}
    assert set(step(topk, data(4, 6)).losses) == {"mse_loss"}


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda one: one["type"])
@pytest.mark.parametrize("architecture", ["transcoder", "skip_transcoder", "crosscoder"])
def test_saved_and_loaded(architecture, activation, tmp_path):
    """The published form computes the same after loading."""
    hooks = 3 if architecture == "crosscoder" else 1
    sae = build(6, 6 if hooks > 1 else 4, hooks=hooks, architecture=architecture,
                activation=activation)  # fmt: skip
    x = data(8, 6)
    for number in range(3):
        step(sae, x, x if hooks > 1 else data(8, 4), number=number)
    published = sae.eval().to_inference()
    published.save_model(tmp_path)
    loaded = SAE.load_from_disk(tmp_path)
    torch.testing.assert_close(loaded.encode(x), published.encode(x))
    torch.testing.assert_close(loaded(x), published(x))
    if activation["type"] != "batchtopk":  # whose threshold is a feature of this very batch
        torch.testing.assert_close(published.encode(x), sae.encode(x))


@pytest.mark.parametrize(
    ("architecture", "activation", "name"),
    [
        ("transcoder", {"type": "relu"}, "transcoder"),
        ("skip_transcoder", {"type": "relu"}, "skip_transcoder"),
        ("transcoder", {"type": "batchtopk", "k": 3}, "jumprelu_transcoder"),
        ("skip_transcoder", {"type": "jumprelu"}, "jumprelu_skip_transcoder"),
        ("transcoder", {"type": "topk", "k": 3}, "topk_transcoder"),
    ],
)
def test_name_in_the_file(architecture, activation, name, tmp_path):
    """The file carries the reference's name where there is one, and never one that would be read
    as a plain ReLU.
    """
    sae = build(6, 4, architecture=architecture, activation=activation).to_inference()
    sae.save_model(tmp_path)
    cfg = json.loads((tmp_path / "cfg.json").read_text())
    assert cfg["architecture"] == name
    assert cfg["d_out"] == 4
    assert cfg["apply_b_dec_to_input"] is False
    assert ("activation" in cfg) == (name == "topk_transcoder")


def test_skip_weights_are_outside_decode():
    """`decode` gives the part of the features, `forward` adds the linear part."""
    sae = build(6, 4, architecture="skip_transcoder").eval()
    x = data(5, 6)
    torch.testing.assert_close(sae(x), sae.decode(sae.encode(x)) + x @ sae.W_skip.t())


@pytest.mark.parametrize("architecture", ["transcoder", "skip_transcoder"])
def test_scales_of_input_and_target_fold(architecture):
    """A published transcoder takes raw activations and gives raw ones, whatever scaled them."""
    sae = build(6, 4, architecture=architecture).eval()
    x = data(5, 6)
    scaled = sae(x * 2.0) / 3.0
    sae.scale_input(2.0, 3.0)
    torch.testing.assert_close(sae(x), scaled)
