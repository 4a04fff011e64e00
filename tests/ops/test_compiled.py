"""The compiled kernels choose what plain torch chooses, and their sums are the dense ones."""

import pytest
import torch

from saecore import ops
from saecore.ops import dispatch, reference

compiled = pytest.importorskip("saecore.ops.cpu")
int8_search = compiled.int8_search

SHAPES = {"rows": (40, 12, 1000, 8), "screened": (300, 128, 2048, 16)}
"""N, d_in, d_sae, k; the second is large enough for the product in integers."""


def tensors(n, d, m, dtype=torch.float32, whole=False):
    """x, encoder, b_enc; of small whole numbers, whose products are exact and often equal."""
    g = torch.Generator().manual_seed(0)
    made = [torch.randn(size, generator=g, dtype=dtype) for size in ((n, d), (m, d), (m,))]
    return [one.round() for one in made] if whole else made


def both(operation, *arguments, **settings):
    """The codes of plain and of compiled."""
    with ops.forced("reference"):
        theirs = getattr(ops, operation)(*arguments, **settings)
    with ops.forced("cpu"):
        return getattr(ops, operation)(*arguments, **settings), theirs


def cells(codes):
    """Entries as sorted cell numbers."""
    return (codes.rows * codes.d_sae + codes.indices).sort().values


def assert_same(mine, theirs):
    """The same entries, values but for rounding (NaN is equal to NaN)."""
    assert torch.equal(cells(mine), cells(theirs))
    torch.testing.assert_close(mine.dense(), theirs.dense(), rtol=1e-4, atol=1e-4, equal_nan=True)


@pytest.fixture
def proved(monkeypatch):
    """Fail when the screened product leaves a row to the dense one."""
    if not int8_search.exact():
        pytest.skip("this processor has no exact fast product of 8-bit integers")

    def refuse(*_):
        raise AssertionError("a row was not proved")

    monkeypatch.setattr(compiled, "_topk", refuse)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("by", ["value", "abs"])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_topk(shape, whole, by, scaled):
    """The same set as plain, many ties or none, ranked as it stands, by size or scaled."""
    n, d, m, k = SHAPES[shape]
    x, encoder, b_enc = tensors(n, d, m, whole=whole)
    scale = (torch.arange(m) % 3 + 1.0) if scaled else None
    assert_same(*both("select_topk", x, encoder.t(), b_enc, k, scale=scale, by=by))


@pytest.mark.parametrize("whole", [False, True])
def test_screened_topk_is_proved(proved, whole):
    """Ordinary rows need no dense product, ties or not."""
    n, d, m, k = SHAPES["screened"]
    x, encoder, b_enc = tensors(n, d, m, whole=whole)
    with ops.forced("cpu"):
        codes = ops.select_topk(x, encoder.t(), b_enc, k)
    best = (x @ encoder.t() + b_enc).topk(k, dim=1).values.sum(1)
    torch.testing.assert_close(codes.sum_per_row(), best, rtol=1e-5, atol=1e-4)


def test_screened_batch_topk_is_proved():
    """The best of a batch, the lowest of equals, without a dense product."""
    n, d, m, k = SHAPES["screened"]
    for whole in (False, True):
        x, encoder, b_enc = tensors(n, d, m, whole=whole)
        with ops.forced("reference"):
            theirs = ops.select_batch_topk(x, encoder.t(), b_enc, k * n, center=x[0])
        with ops.forced("cpu"), pytest.MonkeyPatch.context() as patch:
            if int8_search.exact():
                patch.setattr(reference, "select_batch_topk", None)
            mine = ops.select_batch_topk(x, encoder.t(), b_enc, k * n, center=x[0])
        assert_same(mine, theirs)


@pytest.mark.parametrize("per_latent", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_screened_threshold_is_proved(monkeypatch, whole, per_latent):
    """The entries above a threshold and not those at it, without a dense product."""
    n, d, m, _ = SHAPES["screened"]
    x, encoder, b_enc = tensors(n, d, m, whole=whole)
    limit = torch.arange(m) % 5 + 40.0 if per_latent else 42.0
    with ops.forced("reference"):
        theirs = ops.select_above(x, encoder.t(), b_enc, limit, center=x[0])
    at = (x - x[0]) @ encoder.t() + b_enc == limit
    assert not whole or at.sum() > 100
    if int8_search.exact():
        monkeypatch.setattr(reference, "select_above", None)
    with ops.forced("cpu"):
        mine = ops.select_above(x, encoder.t(), b_enc, limit, center=x[0])
    assert 0 < len(mine.values) < n * m * int8_search.MOST_ABOVE
    assert_same(mine, theirs)


@pytest.mark.parametrize("limit", [0.0, 5.0, -torch.inf, torch.inf, torch.nan])
def test_any_threshold(limit):
    """Where many are above it, or all, or none, or it is no number, plain serves."""
    n, d, m, _ = SHAPES["screened"]
    x, encoder, b_enc = tensors(n, d, m)
    assert_same(*both("select_above", x, encoder.t(), b_enc, limit))
    assert_same(*both("select_above", x, encoder.t(), b_enc, torch.full((m,), limit)))


def test_one_row_with_more_above_a_threshold_than_there_is_room():
    """Rows that are like no row that was counted are exact all the same."""
    n, d, m, _ = SHAPES["screened"]
    x, encoder, b_enc = tensors(n, d, m)
    x[1] *= 100
    mine, theirs = both("select_above", x, encoder.t(), b_enc, 30.0)
    assert_same(mine, theirs)
    assert (mine.rows == 1).sum() > m // 3


def test_rows_without_proof_are_done_densely(monkeypatch):
    """One coordinate far above the others leaves integers nothing for the rest; still exact."""
    n, d, m, k = SHAPES["screened"]
    x, encoder, b_enc = tensors(n, d, m)
    x[::10] *= 0.01
    x[::10, 5] = 1e4  # seldom large, so not left out of the integers
    x[::10, 6:30] = 1e4
    encoder[:, 5:30] *= 1e-4
    done = []
    dense = compiled._topk
    monkeypatch.setattr(
        compiled, "_topk", lambda rows, *a: [done.append(len(rows)), dense(rows, *a)]
    )
    assert_same(*both("select_topk", x, encoder.t(), b_enc, k))
    assert done == [n // 10 if int8_search.exact() else n]


def test_large_coordinates_do_not_spoil_the_proof(proved):
    """A few coordinates far above all others, as language models have them, are added apart."""
    n, d, m, k = SHAPES["screened"]
    x, encoder, b_enc = tensors(n, d, m)
    x[:, 5] *= 100
    x[:, 90] += 50
    with ops.forced("cpu"):
        codes = ops.select_topk(x, encoder.t(), b_enc, k)
    best = (x.double() @ encoder.double().t() + b_enc).topk(k, dim=1).values.sum(1)
    torch.testing.assert_close(codes.sum_per_row().double(), best, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("where", ["input", "encoder", "bias"])
@pytest.mark.parametrize("shape", SHAPES)
def test_bad_numbers_are_chosen_as_plain_chooses_them(shape, where, bad):
    """NaN and infinities reach the values, and so the loss, on the same rows."""
    n, d, m, k = SHAPES[shape]
    x, encoder, b_enc = tensors(n, d, m)
    {"input": x[3], "encoder": encoder[7], "bias": b_enc}[where][2] = bad
    mine, theirs = both("select_topk", x, encoder.t(), b_enc, k)
    assert_same(mine, theirs)
    assert_same(*both("select_above", x, encoder.t(), b_enc, 30.0))
    group = both("select_group_max", x, encoder.t(), b_enc, 8)
    torch.testing.assert_close(
        group[0].values, group[1].values, equal_nan=True, rtol=1e-4, atol=1e-4
    )
    batch = [
        one.values.isfinite().sum()
        for one in both("select_batch_topk", x, encoder.t(), b_enc, 4 * n)
    ]
    assert batch[0] == batch[1]


def test_group_max_takes_the_first_of_equals():
    """The same entries as plain where many are equal."""
    x, encoder, b_enc = tensors(40, 12, 1000, whole=True)
    assert_same(*both("select_group_max", x, encoder.t(), b_enc, 50))


@pytest.mark.parametrize("k", [1, 999, 1000])
def test_few_and_all(k):
    """One entry a row, all but one, and all of them."""
    x, encoder, b_enc = tensors(10, 12, 1000)
    assert_same(*both("select_topk", x, encoder.t(), b_enc, k))


def test_no_rows():
    """An empty batch has no entries and zero gradients."""
    x, encoder, b_enc = tensors(0, 12, 1000)
    encoder.requires_grad_()
    with ops.forced("cpu"):
        for codes in (
            ops.select_topk(x, encoder.t(), b_enc, 8),
            ops.select_batch_topk(x, encoder.t(), b_enc, 0),
            ops.select_group_max(x, encoder.t(), b_enc, 8),
            ops.select_above(x, encoder.t(), b_enc, 0.0),
        ):
            out = ops.decode(codes, encoder, None)
            assert out.shape == (0, 12)
            assert torch.equal(torch.autograd.grad(out.sum(), encoder)[0], torch.zeros(1000, 12))


def test_strides_do_not_matter():
    """Transposed, sliced and expanded inputs give what their copies give."""
    n, d, m, k = SHAPES["screened"]
    x, encoder, b_enc = tensors(2 * n, d, m)
    strided = x[::2], encoder.t().contiguous().t(), b_enc[:1].expand(m)
    copies = [one.contiguous() for one in strided]
    with ops.forced("cpu"):
        mine, theirs = (
            ops.select_topk(a, b.t(), c, k, center=x[0]) for a, b, c in (strided, copies)
        )
    assert torch.equal(mine.indices, theirs.indices)
    assert torch.equal(mine.values, theirs.values)


def dense_loss(x, encoder, b_enc, W_dec, b_dec, mask):
    """Squared error of the dense computation with the same entries."""
    features = torch.where(mask, (x - b_dec) @ encoder.t() + b_enc, 0.0).relu()
    return (features @ W_dec + b_dec - x).square().sum(1).mean()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize(
    "operation", ["select_topk", "select_batch_topk", "select_group_max", "select_above"]
)
def test_gradients(operation, backend, dtype):
    """Every gradient is within 5e-6 (norm) of dense autograd in float64."""
    n, d, m, k = SHAPES["screened"]
    g = torch.Generator().manual_seed(1)
    x, encoder, b_enc = tensors(n, d, m, dtype)
    W_dec, b_dec = torch.randn(m, d, generator=g), torch.randn(d, generator=g)
    leaves = [one.to(dtype).requires_grad_() for one in (x, encoder, b_enc, W_dec, b_dec)]
    x, encoder, b_enc, W_dec, b_dec = leaves
    number = {"select_batch_topk": k * n, "select_above": 40.0}.get(operation, 8)
    with ops.forced(backend):
        codes = getattr(ops, operation)(x, encoder.t(), b_enc, number, center=b_dec)
        out = ops.decode(codes.with_values(codes.values.relu()), W_dec, b_dec)
        mine = torch.autograd.grad((out - x).square().sum(1).mean(), leaves)
    mask = codes.with_values(torch.ones_like(codes.values)).dense().bool()
    exact = [one.detach().double().requires_grad_() for one in leaves]
    theirs = torch.autograd.grad(dense_loss(*exact, mask), exact)
    bound = 5e-6 if dtype == torch.float32 else 1e-13
    for a, b in zip(mine, theirs, strict=True):
        assert (a - b).norm() < bound * b.norm()


def test_threads_do_not_change_bits():
    """One, two and three threads give the same values and sums."""
    n, d, m, k = SHAPES["screened"]
    x, encoder, b_enc = tensors(n, d, m)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            with ops.forced("cpu"):
                codes = ops.select_topk(x, encoder.t(), b_enc, k)
                args = codes.pattern, codes.values
                results.append(
                    [codes.values, codes.indices, compiled.gather_sum(*args, encoder),
                     compiled.scatter_outer(*args, x), compiled.dot(args[0], x, encoder)]
                )  # fmt: skip
    finally:
        torch.set_num_threads(before)
    for one in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], one, strict=True))


def test_what_serves():
    """Precision, device context and size decide; a forced backend only gives up what it cannot."""
    big, small = torch.zeros(2000, 1000), torch.zeros(3, 4)
    assert dispatch.chosen("select_topk", big, big) == "cpu"
    assert dispatch.chosen("select_topk", big.double(), big.double()) == "cpu"
    assert dispatch.chosen("select_topk", small, small) == "reference"
    assert dispatch.chosen("select_topk", big.bfloat16(), big.bfloat16()) == "reference"
    with torch.autocast("cpu", torch.bfloat16):
        assert dispatch.chosen("select_topk", big, big) == "reference"
    with ops.forced("cpu"):
        assert dispatch.chosen("select_topk", small, small) == "cpu"
        assert dispatch.chosen("select_topk", small.half(), small.half()) == "reference"
    with ops.forced("reference"):
        assert dispatch.chosen("select_topk", big, big) == "reference"
    with pytest.raises(ValueError, match="no backend 'fortran' here"), ops.forced("fortran"):
        pass


def test_plain_serves_without_numba(monkeypatch):
    """Where Numba cannot be imported, nothing is said and plain torch is used."""
    monkeypatch.setitem(dispatch.BACKENDS, "cpu", "saecore.no_such_module")
    dispatch._module.cache_clear()
    try:
        big = torch.zeros(2000, 1000)
        assert dispatch.chosen("select_topk", big, big) == "reference"
    finally:
        dispatch._module.cache_clear()
