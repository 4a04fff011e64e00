"""The parts of a step: the device's rates, product, selection, gathers, sort, backward + Adam."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from saecore.ops import reference
from saecore.ops.cuda import rows
from saecore.ops.cuda import topk as blocks
from tests.bench.gpu.timing import Bench, Shape


def rates(bench: Bench) -> dict[str, Any]:
    """Bytes per second of a copy that no cache holds."""
    source = bench.random(1 << (10 if bench.dry else 29))
    target = torch.empty_like(source)
    ms = bench.time(lambda: target.copy_(source))
    rate = 2 * source.numel() * 4 / (ms * 1e9)
    return {"tb_per_s": rate, "rows": [{"what": "copy, read and written", "tb_per_s": rate}]}


def product(bench: Bench) -> dict[str, Any]:
    """TFLOP/s of the encoder's product: bfloat16, TF32, float32."""
    found = []
    for shape in bench.shapes:
        x, encoder = bench.random(shape.batch, shape.d_in), bench.random(shape.d_sae, shape.d_in)
        work = 2 * shape.batch * shape.d_in * shape.d_sae / 1e9
        row: dict[str, Any] = {"shape": str(shape)}
        for name, dtype, tf32 in (
            ("bfloat16", torch.bfloat16, False),
            ("tf32", torch.float32, True),
            ("float32", torch.float32, False),
        ):
            a, b = x.to(dtype), encoder.to(dtype)
            out = torch.empty(shape.batch, shape.d_sae, dtype=dtype, device=bench.device)
            torch.backends.cuda.matmul.allow_tf32 = tf32
            row[f"{name} ms"] = bench.time(lambda a=a, b=b, out=out: torch.mm(a, b.t(), out=out))
            row[f"{name} tflops"] = work / row[f"{name} ms"]
            del a, b, out
        torch.backends.cuda.matmul.allow_tf32 = False
        found.append(row)
    return {"rows": found}


def topk(bench: Bench) -> dict[str, Any]:
    """torch.topk against the block maximum, on what a product leaves; rows that differ."""
    found = []
    for shape in bench.shapes:
        for dtype in (torch.bfloat16, torch.float32):
            n = shape.batch if dtype == torch.bfloat16 else max(1, shape.batch // 2)
            pre = torch.empty(n, shape.d_sae, dtype=dtype, device=bench.device)
            for at in range(0, n, 1024):  # without a float32 copy of all
                part = pre[at : at + 1024]
                part.copy_(bench.random(*part.shape, seed=at))
            values = torch.empty(n, shape.k, device=bench.device)
            indices = torch.empty(n, shape.k, dtype=torch.int64, device=bench.device)

            def select(pre=pre, k=shape.k, values=values, indices=indices) -> None:
                blocks.select(pre, k, None, False, values, indices)

            ours = bench.time(select, cold=True)
            theirs = bench.time(lambda pre=pre, k=shape.k: pre.topk(k, dim=1), cold=True)
            few = slice(0, min(n, 512))
            wanted = pre[few].sort(dim=1, descending=True, stable=True).indices[:, : shape.k]
            wrong = (indices[few] != wanted.sort().values).any(1).sum()
            read = pre.numel() * pre.element_size() / 1e9
            found.append({
                "shape": str(shape), "dtype": str(dtype).removeprefix("torch."), "rows": n,
                "torch.topk ms": theirs, "blocks ms": ours, "times as fast": theirs / ours,
                "tb_per_s": read / ours, "rows that differ (of 512)": int(wrong),
            })  # fmt: skip
            del pre
    return {"rows": found}


def random_codes(bench: Bench, shape: Shape, skew: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Latents `[B * k]` ascending in every row, offsets and values.

    Args:
        bench: where.
        shape: sizes.
        skew: a few latents fire on most tokens, as in real dictionaries.
    """
    generator = torch.Generator(bench.device).manual_seed(1)
    # One latent in each of k runs: no latent twice in a row.
    width = shape.d_sae // shape.k
    uniform = torch.rand(shape.batch, shape.k, generator=generator, device=bench.device)
    inside = (uniform.pow(6 if skew else 1) * width).long().clamp(max=width - 1)
    latents = inside + torch.arange(shape.k, device=bench.device) * width
    offsets = torch.arange(0, latents.numel() + 1, shape.k, device=bench.device)
    return latents.reshape(-1), offsets, bench.random(latents.numel(), seed=2)


def gather(bench: Bench) -> dict[str, Any]:
    """TB/s of decoding to the residual and of the values' gradient; the L2 cache warm and cold."""
    found = []
    for shape in bench.shapes:
        latents, offsets, values = random_codes(bench, shape)
        for dtype in (torch.bfloat16, torch.float32):
            matrix = bench.random(shape.d_sae, shape.d_in, seed=3).to(dtype)
            x = bench.random(shape.batch, shape.d_in, seed=4).to(dtype)

            def residual(matrix=matrix, x=x, at=(latents, offsets, values)) -> Tensor:
                return rows.gather_sum(*at, matrix, minus=x)

            def dot(matrix=matrix, x=x, at=(latents, offsets)) -> Tensor:
                return rows.dot(*at, x, matrix)

            def bag(matrix=matrix, at=(latents, offsets, values)) -> Tensor:
                return reference._bags(at[0], at[1], at[2], matrix)

            size = latents.numel() * shape.d_in * matrix.element_size() / 1e9
            row: dict[str, Any] = {"shape": str(shape), "dtype": str(dtype)[6:]}
            for name, action in (("residual", residual), ("dot", dot), ("embedding_bag", bag)):
                for cold in (False, True):
                    ms = bench.time(action, cold=cold)
                    row[f"{name} {'cold' if cold else 'hot'} ms"] = ms
                    row[f"{name} {'cold' if cold else 'hot'} tb_per_s"] = size / ms
            found.append(row)
    return {"rows": found}


def sort(bench: Bench) -> dict[str, Any]:
    """Sorting B·k entries by latent, 32-bit keys and 64-bit ones, and where latents begin."""
    found = []
    for shape in bench.shapes:
        latents, _, _ = random_codes(bench, shape)
        short = latents.to(torch.int32)
        keys = short.sort(stable=True).values
        numbers = torch.arange(shape.d_sae + 1, dtype=torch.int32, device=bench.device)
        found.append({
            "shape": str(shape),
            "32 bits ms": bench.time(lambda short=short: torch.sort(short, stable=True)),
            "64 bits ms": bench.time(lambda latents=latents: torch.sort(latents, stable=True)),
            "starts ms": bench.time(
                lambda keys=keys, numbers=numbers: torch.searchsorted(keys, numbers)
            ),
        })  # fmt: skip
    return {"rows": found}


def backward(bench: Bench) -> dict[str, Any]:
    """The feature-major gradients and fused Adam against their bytes; even and skewed firing."""
    found = []
    for shape in bench.shapes:
        for skew in (False, True):
            latents, _, values = random_codes(bench, shape, skew)
            keys, order = torch.sort(latents.to(torch.int32), stable=True)
            numbers = torch.arange(shape.d_sae + 1, dtype=torch.int32, device=bench.device)
            starts = torch.searchsorted(keys, numbers)
            tokens, factors = order // shape.k, values[order]
            x = bench.random(shape.batch, shape.d_in, seed=4).to(bench.low)

            def scatter(at=(tokens, starts, factors), x=x) -> Tensor:
                return rows.gather_sum(*at, x)

            ms = bench.time(scatter)
            moved = (latents.numel() + shape.d_sae) * shape.d_in * x.element_size() / 1e9
            found.append({
                "shape": str(shape), "firing": "skewed" if skew else "even", "what": "one matrix",
                "most tokens of a latent": int(starts.diff().max()), "ms": ms,
                "tb_per_s": moved / ms,
            })  # fmt: skip
        master = torch.nn.Parameter(bench.random(shape.d_sae, shape.d_in))
        master.grad = bench.random(shape.d_sae, shape.d_in, seed=1)
        adam = torch.optim.Adam([master], lr=1e-4, fused=True)
        ms = bench.time(adam.step)
        found.append({"shape": str(shape), "what": "fused Adam, one matrix", "ms": ms,
                      "tb_per_s": 28 * master.numel() / (ms * 1e9)})  # fmt: skip
        del master, adam
        bench.free()
    return {"rows": found}
