"""The Triton kernels are their plain twins. `test_cuda.py` runs this file in a process of its own:
on a CUDA device, or interpreted on the CPU, which Triton has to know before it is imported.
"""

import contextlib

import pytest
import torch

from saecore import ops
from saecore.ops import cuda, reference
from saecore.ops.codes import Codes
from saecore.ops.cuda import rows, topk

ON_DEVICE = torch.cuda.is_available()
DEVICE = "cuda" if ON_DEVICE else "cpu"
SIZE = 16 if ON_DEVICE else 1
"""The interpreter takes milliseconds for an instruction."""


def random(*shape, seed=0):
    """Normal numbers that are the same everywhere."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


PRE = {
    "normal": lambda: random(2 * SIZE, 1100),
    "bfloat16, ragged": lambda: random(2 * SIZE, 1091).bfloat16(),
    "tied": lambda: random(2 * SIZE, 1100).round(),
    "all equal": lambda: torch.full((2, 1100), -7.0, device=DEVICE),
    "zeros of both signs": lambda: random(2, 1100).sign() * 0.0,
    "not finite": lambda: random(2, 1100)
    .masked_fill(random(2, 1100, seed=1) > 3, torch.inf)
    .masked_fill(random(2, 1100, seed=2) > 3, torch.nan),
}  # fmt: skip


@pytest.mark.parametrize("name", PRE)
def test_block_maxima_select_exactly(name):
    """The chosen latents are the largest, ties to the lowest, whatever the values; they come in the
    order of latents, with the values as they were.
    """
    select(PRE[name](), 8)


def test_selection_ranks_by_scale_and_size():
    """Factors and absolute values decide the rank only; pre-activations come back as they were."""
    select(random(2 * SIZE, 1100), 5, random(1100, seed=3).abs() + 0.5, True)


def select(pre, k, scale=None, by_abs=False):
    """Compare with counting."""
    values = torch.empty(len(pre), k, device=DEVICE)
    indices = torch.empty(len(pre), k, dtype=torch.int64, device=DEVICE)
    topk.select(pre, k, scale, by_abs, values, indices)
    ranked = pre.float() if scale is None else pre.float() * scale
    ranked = ranked.abs() if by_abs else ranked
    # A stable sort from the largest, NaN before all: the definition.
    wanted = ranked.sort(dim=1, descending=True, stable=True).indices[:, :k].sort().values
    assert torch.equal(indices, wanted)
    torch.testing.assert_close(
        values, pre.float().gather(1, wanted), rtol=0, atol=0, equal_nan=True
    )


@pytest.fixture
def codes():
    """Ragged rows with an empty one and a latent that never fires, sparse enough for kernels."""
    values = random(7, 300)
    values[3] = 0
    values[:, 5] = 0
    return Codes.from_dense(values * (values > 2.6))


@pytest.mark.parametrize(
    ("d", "dtype"), [(16, torch.float32), (41, torch.float32), (24, torch.bfloat16)]
)
def test_row_sums_are_those_of_the_twin(codes, d, dtype):
    """Decoding, gradients of values and gradients of matrices agree with plain torch, for widths
    that are no powers of two, and in bfloat16 with sums in float32.
    """
    pattern, values = codes.pattern, codes.values
    matrix, inputs = random(300, d, seed=1).to(dtype), random(7, d, seed=2).to(dtype)
    exact = dense(codes) @ matrix.double()
    near = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-2, "atol": 2e-2}
    decoded = cuda.gather_sum(pattern, values, matrix)
    assert decoded.dtype == dtype
    torch.testing.assert_close(decoded.double(), exact, **near)
    left = rows.gather_sum(pattern.indices, pattern.offsets, values, matrix, minus=inputs)
    torch.testing.assert_close(left.double(), exact - inputs.double(), **near)
    torch.testing.assert_close(
        cuda.scatter_outer(pattern, values, inputs).double(), dense(codes).t() @ inputs.double(),
        **near,
    )  # fmt: skip
    products = (inputs.double() @ matrix.double().t())[pattern.rows, pattern.indices]
    torch.testing.assert_close(cuda.dot(pattern, inputs, matrix).double(), products, **near)


def dense(codes):
    """All features in float64."""
    return codes.dense().double()


def test_entries_are_sorted_by_latent(codes):
    """The order is stable by row, the starts give the firing counts, and sums by latent follow."""
    order, starts = cuda.group_by_latent(codes.indices, codes.d_sae)
    wanted = reference.group_by_latent(codes.indices, codes.d_sae)
    assert torch.equal(order, wanted[0])
    assert torch.equal(starts, wanted[1])
    assert torch.equal(starts.diff(), codes.firing_counts())
    torch.testing.assert_close(
        cuda.latent_sum(codes.pattern, codes.values),
        reference.latent_sum(codes.pattern, codes.values),
    )


def test_selection_through_the_backend():
    """Center, bias and row chunks as in the twin: the same codes from the same inputs."""
    x, encoder, bias, center = random(4, 16), random(1100, 16), random(1100), random(16)
    found, wanted = (
        one.select_topk(x, encoder, bias, 8, center, None, False) for one in (cuda, reference)
    )
    for mine, other in zip(*(Codes(*one).dense() for one in (found, wanted)), strict=True):
        torch.testing.assert_close(mine, other)


def test_training_goes_through_the_kernels():
    """Forced by name, the dispatch gives every operation of a step to the backend; gradients are
    those of dense autograd.
    """
    x, shared = random(4, 16), [random(1100, 16, seed=1), random(1100, seed=2), random(1100, 16)]
    results = []
    for dense in (False, True):
        encoder, bias, decoder = (one.clone().requires_grad_() for one in shared)
        if dense:
            pre = x @ encoder.t() + bias
            values, latents = pre.topk(8, dim=1)
            x_hat = torch.zeros_like(pre).scatter(1, latents, values.relu()) @ decoder
        else:
            with ops.forced("cuda"):
                codes = ops.select_topk(x, encoder.t(), bias, 8)
                x_hat = ops.decode(codes.with_values(codes.values.relu()), decoder, None)
                assert ops.dispatch.chosen("dot", x, decoder) == "cuda"
        with contextlib.nullcontext() if dense else ops.forced("cuda"):
            (x_hat - x).square().sum().backward()
        results.append([one.grad for one in (encoder, bias, decoder)])
    for mine, exact in zip(*results, strict=True):
        assert float((mine - exact).norm() / exact.norm()) < 5e-6
