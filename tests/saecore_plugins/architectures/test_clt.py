"""Cross-layer transcoders against loops over layers, in training and on disk."""

import copy
import json

import pytest
import torch

from saecore import SAE
from saecore.core.step import Batch, StepContext
from saecore.errors import ConfigError, ReleaseError
from saecore.randomness import generator
from saecore.testing.fakes import NoStrategy
from saecore.training.trainer import Trainer, TrainerSettings
from tests.saecore_plugins.architectures.dense import assert_same_gradients, build, gradients, step

L, D, D_OUT, WIDTH = 3, 4, 5, 6  # layers, sizes, latents of a layer
ACTIVATIONS = [
    {"type": "relu"},
    {"type": "jumprelu", "jumprelu_init_threshold": 0.2, "l0_coefficient": 0.0},
    {"type": "batchtopk", "k": 4},
]
by_activation = pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda one: one["type"])


def clt(**table):
    """A cross-layer transcoder in float64; what must be zero is."""
    table = {"l1_coefficient": 0.5, **table}
    sae = build(L * D, L * D_OUT, L * WIDTH, hooks=L, architecture="clt", **table)
    sae.after_step()  # the random numbers went everywhere
    if table.get("activation", {}).get("type") == "jumprelu":
        torch.nn.init.constant_(sae.activation.threshold, 0.2)
    return sae


def data(*shape, seed=1):
    """Random activations in float64."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def blocks(sae):
    """The decoder by source layer, latent and target layer `[L, WIDTH, L, D_OUT]`."""
    return sae.W_dec.view(L, WIDTH, L, D_OUT)


def looped_features(sae, x, activation):
    """The features `[N, L, WIDTH]` of `x [N, L, D]`, layer by layer."""
    encoders, biases = sae.encoder.view(L, WIDTH, D), sae.b_enc.view(L, WIDTH)
    pre = torch.stack([x[:, n] @ encoders[n].t() + biases[n] for n in range(L)], 1)
    if activation["type"] == "relu":
        return pre.relu()
    if activation["type"] == "jumprelu":
        return pre * (pre > 0.2)
    flat = pre.flatten()
    kept = torch.zeros_like(flat).scatter(0, flat.topk(4 * len(x)).indices, 1.0)
    return kept.view_as(pre) * pre.relu()


def looped_reconstruction(sae, features):
    """Every target `[N, L, D_OUT]` as the sum over its own and all earlier layers."""
    targets = []
    for m in range(L):
        sources = [features[:, n] @ blocks(sae)[n, :, m] for n in range(m + 1)]
        targets.append(sum(sources) + sae.b_dec.view(L, D_OUT)[m])
    return torch.stack(targets, 1)


@by_activation
def test_training_step(activation):
    """Reconstruction loss and penalty equal loops over layers, gradients included."""
    sae = clt(activation=activation)
    x, y = data(8, L, D), data(8, L, D_OUT, seed=2)
    features = looped_features(sae, x, activation)
    assert 0.05 < (features > 0).double().mean() < 0.95
    reconstruction = looped_reconstruction(sae, features)
    mse = sum((reconstruction[:, m] - y[:, m]).square().sum(1).mean() for m in range(L))
    norms = torch.stack(
        [
            torch.cat([blocks(sae)[n, i, m] for m in range(n, L)]).norm()
            for n in range(L)
            for i in range(WIDTH)
        ]
    )
    penalty = (features.flatten(1) * norms).sum(1).mean()
    ours = step(sae, x, y)
    torch.testing.assert_close(ours.codes.dense(), features.flatten(1))
    torch.testing.assert_close(ours.reconstruction, reconstruction.flatten(1))
    losses = {name: one for name, one in ours.losses.items() if name != "l0_loss"}
    threshold = "activation.threshold"  # learns through estimators, which the loop has not
    both = torch.stack(list(losses.values())).sum(), mse + 0.5 * penalty
    if activation["type"] == "jumprelu":
        torch.testing.assert_close(*both)
        ours_by_name, looped = (gradients(sae, one) for one in both)
        for name in set(looped) - {threshold}:
            torch.testing.assert_close(ours_by_name[name], looped[name])
    else:
        assert_same_gradients(sae, *both)


def test_threshold_gradients():
    """Thresholds learn by the straight-through estimator of JumpReLU, each layer's in its place."""
    activation = {"type": "jumprelu", "jumprelu_init_threshold": 0.2, "jumprelu_bandwidth": 1.0,
                  "l0_coefficient": 0.7}  # fmt: skip
    sae = clt(activation=activation, l1_coefficient=0.0)
    x, y = data(8, L, D), data(8, L, D_OUT, seed=2)
    output = step(sae, x, y)
    encoders = sae.encoder.view(L, WIDTH, D)
    pre = torch.stack([x[:, n] @ encoders[n].t() for n in range(L)], 1).flatten(1) + sae.b_enc
    error = 2 * (output.reconstruction - y.flatten(1)) / 8
    near = ((pre - 0.2).abs() < 0.5).double()
    expected = -((0.2 * (error @ sae.W_dec.t()) + 0.7 / 8) * near).sum(0)
    found = gradients(sae, output.total)["activation.threshold"]
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


def test_batch_topk_takes_the_best_of_all_layers():
    """A layer with large pre-activations takes most of k; ties go to the lowest token and latent;
    more than a layer has can be asked for.
    """
    sae = clt(activation={"type": "batchtopk", "k": 4})
    with torch.no_grad():
        sae.b_enc.view(L, WIDTH)[1] += 100.0
    x = data(8, L, D)
    per_latent = sae.train().encode_sparse(x).firing_counts().view(L, WIDTH).sum(1)
    assert per_latent.tolist() == [0, 32, 0]
    with torch.no_grad():
        sae.encoder.zero_()
        sae.b_enc.fill_(1.0)
    codes = sae.encoding(x).batch_topk(20)
    assert codes.rows.tolist() == [0] * 18 + [1] * 2
    assert codes.indices.tolist() == [*range(18), 0, 1]
    assert len(sae.encoding(x).batch_topk(8 * 18).values) == 8 * 18


def test_joined_and_by_hook():
    """Activations go in joined or by hook and come out the same way, with any leading size."""
    sae = clt().eval()
    x = data(2, 7, L, D)
    by_hook = sae(x)
    assert by_hook.shape == (2, 7, L, D_OUT)
    joined = x.flatten(-2)
    torch.testing.assert_close(sae(joined), by_hook.flatten(-2))
    torch.testing.assert_close(sae.encode(joined), sae.encode(x))
    torch.testing.assert_close(sae.decode(sae.encode(x)), sae(joined))
    torch.testing.assert_close(sae.decode(sae.encode_sparse(x)), sae(joined).flatten(0, 1))
    assert sae(x[:0]).shape == (0, 7, L, D_OUT)


def test_preactivations_in_any_order():
    """Some latents, of several layers, in the order in which they are asked for, one twice."""
    sae = clt()
    x = data(8, L, D)
    latents = torch.tensor([17, 0, 7, 6, 7])
    pre = torch.stack([x[:, one // WIDTH] @ sae.encoder[one] for one in latents.tolist()], 1)
    torch.testing.assert_close(sae.preactivations(x, latents), pre + sae.b_enc[latents])


def test_initial_weights():
    """Rows have the norm asked for; a decoder row has zeros before its layer and only there."""
    sae = clt()
    sae.initialize(generator(0, "init"), 0.1)
    torch.testing.assert_close(sae.decoder_norms(), torch.full((L * WIDTH,), 0.1).double())
    torch.testing.assert_close(sae.encoder.norm(dim=1), torch.full((L * WIDTH,), 0.1).double())
    for n in range(L):
        for m in range(L):
            assert bool((blocks(sae)[n, :, m] != 0).all()) == (m >= n)


class Source:
    """Random rows by hook, from any position."""

    position = 0

    def seek(self, position):
        """Go on from a position."""
        self.position = position

    def next(self, size):
        """The next rows, `[size, L, d]`."""
        self.position += size
        seed = self.position
        return Batch(data(size, L, D, seed=seed), data(size, L, D_OUT, seed=seed + 1))


def strategy(**table):
    """A dead-latents strategy."""
    from saecore.plugins.structure import structure_choice

    return structure_choice("dead_latents", table).build()


@pytest.mark.parametrize(
    ("optimizer", "copied", "unit"),
    [("adam", False, False), ("adam", True, False), ("muon", False, False), ("muon", False, True)],
)
def test_zeros_stay_zero(optimizer, copied, unit):
    """Whatever trains the decoder (AuxK uses whole rows, Muon mixes rows), no latent ever writes
    to a layer before its own; everything else moves.
    """
    from saecore.plugins.structure import structure_choice

    sae = clt(activation={"type": "batchtopk", "k": 2}).train()
    sae = copy.deepcopy(sae) if copied else sae
    before = blocks(sae).detach().clone()
    choice = structure_choice("optimizer", {"type": optimizer})
    trainer = Trainer(
        sae,
        Source(),
        choice.build([{"params": list(sae.parameters())}], 1e-2),
        TrainerSettings(steps=6, batch_size=16, lr=1e-2, accumulate=2, unit_decoder=unit),
        lr_schedule=lambda step, total: 1.0,
        normalizer=NoStrategy(),
        dead_latents=strategy(type="auxk", after_tokens=1),
    )
    trainer.latents.since_fired.fill_(100)
    for _ in range(6):
        trainer.step()
        trainer.latents.since_fired[::2] = 100
    if unit:
        torch.testing.assert_close(sae.decoder_norms(), torch.ones(L * WIDTH).double())
    figures = trainer.read_metrics()
    assert figures["losses/auxiliary_reconstruction_loss"] > 0
    after = blocks(sae).detach()
    for n in range(L):
        assert bool((after[n, :, :n] == 0).all())
        assert bool((after[n, :, n:] != before[n, :, n:]).all())


def test_auxk_against_dense():
    """The dead latents' loss equals the dense formula; its gradient spares what stays zero."""
    sae = clt(activation={"type": "batchtopk", "k": 4}, l1_coefficient=0.0)
    x, y = data(8, L, D), data(8, L, D_OUT, seed=2)
    dead = torch.arange(L * WIDTH) % 2 == 0
    output = step(sae, x, y, dead=dead)
    context = StepContext(
        step=0, scheduled={}, dead=dead, targets=y, generator=lambda stream: generator(0, stream, 0)
    )
    losses = strategy(type="auxk", after_tokens=1, k_aux=3).losses(
        sae, Batch(x, y), output, context
    )
    pre = torch.stack(
        [x[:, i // WIDTH] @ sae.encoder[i] + sae.b_enc[i] for i in range(L * WIDTH)], 1
    )
    ranked = pre.masked_fill(~dead, -torch.inf)
    best = torch.zeros_like(pre).scatter(1, ranked.topk(3, dim=1).indices, 1.0)
    guess = looped_reconstruction(sae, (best * pre).view(8, L, WIDTH)) - sae.b_dec.view(L, D_OUT)
    residual = (y - output.reconstruction.view(8, L, D_OUT)).detach()
    dense = (guess - residual).square().sum((1, 2)).mean()
    assert_same_gradients(sae, losses["auxiliary_reconstruction_loss"], dense)


@by_activation
def test_bfloat16(activation):
    """In bfloat16 a step has finite losses and gradients, and thresholds stay float32."""
    sae = clt(activation=activation).to(torch.bfloat16)
    output = step(sae, data(8, L, D).bfloat16(), data(8, L, D_OUT, seed=2).bfloat16())
    assert output.reconstruction.dtype == torch.bfloat16
    for name, one in gradients(sae, output.total).items():
        assert bool(one.isfinite().all()), name
    assert sae.activation.to_inference(L * WIDTH).state_dict().get(
        "threshold", torch.zeros(1)
    ).dtype == torch.float32  # fmt: skip


@by_activation
def test_saved_and_loaded(activation, tmp_path):
    """The published form computes the same after loading, and its file says what it is."""
    sae = clt(activation=activation)
    x = data(8, L, D)
    for number in range(3):
        step(sae, x, data(8, L, D_OUT), number=number)
    published = sae.eval().to_inference()
    published.save_model(tmp_path)
    loaded = SAE.load_from_disk(tmp_path)
    for name, tensor in published.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    assert torch.equal(loaded.encode(x), published.encode(x))
    assert torch.equal(loaded(x), published(x))
    torch.testing.assert_close(loaded(x), sae(x))
    cfg = json.loads((tmp_path / "cfg.json").read_text())
    name = "clt" if activation["type"] == "relu" else "jumprelu_clt"
    assert (cfg["architecture"], cfg["hooks"], cfg["d_in"], cfg["d_out"]) == (name, 3, 12, 15)


@pytest.mark.parametrize("by_hook", [False, True])
def test_scales_fold(by_hook):
    """Factors of inputs and targets, one number or one for each hook, go into the weights."""
    sae = clt().eval()
    x = data(5, L, D)
    factor, out = 2.0, 3.0
    inner, outer = torch.tensor(2.0).expand(L), torch.tensor(3.0).expand(L)
    if by_hook:
        inner, outer = torch.tensor([2.0, 0.5, 1.5]), torch.tensor([3.0, 0.1, 7.0])
        factor, out = inner.repeat_interleave(D), outer.repeat_interleave(D_OUT)
    scaled = sae(x * inner[:, None]) / outer[:, None]
    features = sae.encode(x * inner[:, None])
    sae.scale_input(factor, out)
    torch.testing.assert_close(sae(x), scaled)
    torch.testing.assert_close(sae.encode(x), features)


@pytest.mark.parametrize("activation", [{"type": "topk", "k": 3}, {"type": "groupmax", "k": 3}])
def test_other_activations_are_refused(activation):
    """An activation over one dictionary is refused by its key, with what works."""
    from saecore.plugins.problems import Problems

    with pytest.raises(Problems, match="activation") as found:
        clt(activation=activation)
    assert "works with relu, jumprelu, batchtopk, got" in str(found.value.items)


def test_latents_that_do_not_divide():
    """Layers have equally many latents; the message names two widths that fit."""
    with pytest.raises(ConfigError, match=r"sae.d_sae: .* 3 layers.*\(18 or 21\), got 20"):
        build(L * D, L * D_OUT, 20, hooks=L, architecture="clt")
    with pytest.raises(ConfigError, match=r"\(3 or 3\), got 2|\(3 .*got 2"):
        build(L * D, L * D_OUT, 2, hooks=L, architecture="clt")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hooks": 0}, "hooks: expected a positive integer, got 0"),
        ({"hooks": "x"}, "hooks: expected a positive integer, got 'x'"),
        ({"hooks": 4}, r"d_sae: expected a multiple of the 4|W_enc is \[4, 18\]"),
        ({"hooks": 6}, r"W_enc is \[4, 18\]|W_enc"),
    ],
)
def test_contradictory_files(changes, reason, tmp_path):
    """A file whose number of hooks does not fit is refused in one line."""
    clt().to_inference().save_model(tmp_path)
    file = tmp_path / "cfg.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    with pytest.raises(ReleaseError, match=reason) as found:
        SAE.load_from_disk(tmp_path)
    assert "\n" not in str(found.value)


def test_file_whose_latents_write_backwards_is_refused(tmp_path):
    """Entries that the reconstruction would leave out are an error, not a silent difference."""
    sae = clt()
    sae.save_model(tmp_path)
    assert isinstance(SAE.load_from_disk(tmp_path), SAE)
    with torch.no_grad():
        blocks(sae)[2, 3, 0, 1] = 0.5
    sae.save_model(tmp_path)
    with pytest.raises(ReleaseError, match="latents of layer 2 write to an earlier layer"):
        SAE.load_from_disk(tmp_path)
