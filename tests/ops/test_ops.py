"""The sparse operations equal dense autograd in float64, on the gather and on the dense path."""

import pytest
import torch

from saecore import ops
from saecore.ops import chunks, reference
from saecore.ops.codes import Codes

N, D, M, K = 23, 9, 31, 4


@pytest.fixture(params=["gathered", "multiplied"])
def path(request, monkeypatch):
    """Both ways of walking entries, in chunks of a few rows."""
    monkeypatch.setattr(reference, "DENSE", 2.0 if request.param == "gathered" else -1.0)
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 8 * M * 5)
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 1)
    return request.param


@pytest.fixture
def weights():
    """x, encoder (latent-major), b_enc, W_dec, b_dec, all requiring gradients, in float64."""
    g = torch.Generator().manual_seed(0)
    sizes = ((N, D), (M, D), (M,), (M, D), (D,))
    tensors = [torch.randn(s, generator=g, dtype=torch.float64) for s in sizes]
    return [one.requires_grad_() for one in tensors]


def dense_pre(x, encoder, b_enc, center):
    """Pre-activations as everyone writes them."""
    return (x - center) @ encoder.t() + b_enc


def check_gradients(ours, dense, weights):
    """Two scalars have the same value and the same gradient for every weight."""
    torch.testing.assert_close(ours, dense, rtol=1e-12, atol=1e-12)
    mine = torch.autograd.grad(ours, weights, allow_unused=True)
    theirs = torch.autograd.grad(dense, weights, allow_unused=True)
    for a, b in zip(mine, theirs, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def loss(codes_or_dense, W_dec, b_dec):
    """A loss that uses values, decoder and a factor per latent, its decoder norm."""
    scale = W_dec.norm(dim=1)
    if isinstance(codes_or_dense, Codes):
        codes = codes_or_dense
        out = ops.decode(codes, W_dec, b_dec)
        penalty = codes.sum_per_row((codes.values * codes.per_latent(scale)).abs()).mean()
    else:
        out = codes_or_dense @ W_dec + b_dec
        penalty = (codes_or_dense * scale).abs().sum(1).mean()
    return out.square().sum(1).mean() + 0.3 * penalty


def mask_of(codes):
    """The dense mask of the entries."""
    return codes.with_values(torch.ones_like(codes.values)).dense().bool()


@pytest.mark.parametrize("by", ["value", "abs"])
@pytest.mark.parametrize("scaled", [False, True])
def test_select_topk(path, weights, by, scaled):
    """The k largest by pre · scale; values, decode and every gradient equal the dense ones."""
    x, encoder, b_enc, W_dec, b_dec = weights
    scale = W_dec.detach().norm(dim=1) if scaled else None
    codes = ops.select_topk(x, encoder.t(), b_enc, K, center=b_dec, scale=scale, by=by)
    pre = dense_pre(x, encoder, b_enc, b_dec)
    rank = pre if scale is None else pre * scale
    best = (rank.abs() if by == "abs" else rank).topk(K, dim=1).indices
    mask = torch.zeros_like(pre, dtype=torch.bool).scatter(1, best, True)
    assert torch.equal(mask_of(codes), mask)
    ours = loss(codes.with_values(codes.values.relu()), W_dec, b_dec)
    check_gradients(ours, loss((pre * mask).relu(), W_dec, b_dec), weights)


def test_select_batch_topk(path, weights):
    """The n largest of the whole batch, with the gradients of the dense computation."""
    x, encoder, b_enc, W_dec, b_dec = weights
    n = K * N
    codes = ops.select_batch_topk(x, encoder.t(), b_enc, n, center=b_dec)
    pre = dense_pre(x, encoder, b_enc, b_dec)
    mask = torch.zeros(N * M, dtype=torch.bool)
    mask[pre.flatten().topk(n).indices] = True
    mask = mask.view(N, M)
    assert torch.equal(mask_of(codes), mask)
    check_gradients(loss(codes, W_dec, b_dec), loss(pre * mask, W_dec, b_dec), weights)


@pytest.mark.parametrize("per_latent", [False, True])
def test_select_above(path, weights, per_latent):
    """Every entry above a threshold, one for all or one per latent."""
    x, encoder, b_enc, W_dec, b_dec = weights
    threshold = torch.linspace(-1, 1, M, dtype=torch.float64) if per_latent else 0.5
    codes = ops.select_above(x, encoder.t(), b_enc, threshold, center=b_dec)
    pre = dense_pre(x, encoder, b_enc, b_dec)
    mask = pre > threshold
    assert torch.equal(mask_of(codes), mask)
    check_gradients(loss(codes, W_dec, b_dec), loss(pre * mask, W_dec, b_dec), weights)


def test_preactivations(weights):
    """Pre-activations of some latents, with gradients, also for a latent asked for twice."""
    x, encoder, b_enc, _, b_dec = weights
    latents = torch.tensor([3, 30, 3, 0])
    ours = ops.preactivations(x, encoder.t(), b_enc, latents, center=b_dec)
    dense = dense_pre(x, encoder, b_enc, b_dec)[:, latents]
    check_gradients(ours.square().sum(), dense.square().sum(), [x, encoder, b_enc, b_dec])


def test_decode_prefixes(path, weights):
    """Reconstructions from the first w latents for each width, with gradients."""
    x, encoder, b_enc, W_dec, b_dec = weights
    widths = [5, 12, M]
    codes = ops.select_above(x, encoder.t(), b_enc, 0.0)
    ours = ops.decode_prefixes(codes, W_dec, b_dec, widths)
    features = (x @ encoder.t() + b_enc).relu()
    dense = torch.stack([features[:, :w] @ W_dec[:w] + b_dec for w in widths])
    weight = torch.arange(1.0, 4.0, dtype=torch.float64)[:, None, None]
    check_gradients((ours.square() * weight).sum(), (dense.square() * weight).sum(), weights)


def test_ties_go_to_the_lowest_latent():
    """Equal values are taken in the order of latents; in a batch first in the order of tokens."""
    x = torch.ones(3, 1)
    encoder = torch.tensor([[1.0], [2.0], [1.0], [1.0], [2.0], [1.0]])
    zeros = torch.zeros(6)
    codes = ops.select_topk(x, encoder.t(), zeros, 3)
    assert mask_of(codes).tolist() == [[True, True, False, False, True, False]] * 3
    batch = ops.select_batch_topk(x, encoder.t(), zeros, 8)
    assert mask_of(batch).tolist() == [
        [True, True, True, False, True, False],
        [False, True, False, False, True, False],
        [False, True, False, False, True, False],
    ]


@pytest.mark.parametrize("width", [1024, 1088, 1100])
@pytest.mark.parametrize("values", ["normal", "few values", "one block"])
def test_block_maxima_find_the_same(values, width):
    """Few of many are found by way of the maxima of blocks: as a stable sort finds them, whatever
    is tied and however many stand in one block.
    """
    g = torch.Generator().manual_seed(1)
    pre = torch.randn(50, width, generator=g)
    if values == "few values":
        pre = pre.mul(2).round()
    if values == "one block":
        pre[:, 64:128] += 10
    k = 4
    best = pre.argsort(dim=1, descending=True, stable=True)[:, :k].sort().values
    eye, zeros = torch.eye(width), torch.zeros(width)
    values, pattern = reference.select_topk(pre, eye, zeros, k, None, None, by_abs=False)
    found = pattern.indices.view(50, k)
    assert torch.equal(values.view(50, k), pre.gather(1, found))
    assert torch.equal(found.sort().values, best)


def test_k_equal_to_width():
    """All latents are taken where k is d_sae."""
    x, encoder = torch.randn(4, 3), torch.randn(5, 3)
    codes = ops.select_topk(x, encoder.t(), torch.zeros(5), 5)
    torch.testing.assert_close(codes.dense(), x @ encoder.t())


def test_empty_rows():
    """Rows without an entry decode to the bias and get no gradient."""
    x, encoder, W_dec = torch.randn(4, 3), torch.randn(5, 3), torch.randn(5, 3, requires_grad=True)
    codes = ops.select_above(x, encoder.t(), torch.zeros(5), 1e9)
    out = ops.decode(codes, W_dec, torch.ones(3))
    assert torch.equal(out, torch.ones(4, 3))
    out.sum().backward()
    assert torch.equal(W_dec.grad, torch.zeros(5, 3))
