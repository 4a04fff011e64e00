"""Whole steps: the kernels in a row, eager and as a graph; saecore's trainer; streams; parity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from saecore.ops import cuda
from saecore.ops.cuda import rows
from tests.bench import figures
from tests.bench.gpu.timing import DRY, H200, SHAPES, Bench, Shape


class Step:
    """One TopK step of fixed shape from the kernels alone: loss, gradients, clipping, Adam.

    Nothing waits for the device, so it can be captured. No AuxK, no metrics: `trainer` has them.

    Args:
        bench: where.
        shape: sizes.
        dtype: of the operands; masters, moments and sums are float32.
        lr: learning rate.
    """

    def __init__(self, bench: Bench, shape: Shape, dtype: torch.dtype, lr: float = 1e-4) -> None:
        self.shape, self.dtype = shape, dtype
        decoder = bench.random(shape.d_sae, shape.d_in, seed=5)
        decoder *= 0.1 / decoder.norm(dim=1, keepdim=True)
        self.encoder = torch.nn.Parameter(decoder.clone())
        self.decoder = torch.nn.Parameter(decoder)
        self.b_enc = torch.nn.Parameter(torch.zeros(shape.d_sae, device=bench.device))
        self.b_dec = torch.nn.Parameter(torch.zeros(shape.d_in, device=bench.device))
        parameters = [self.encoder, self.decoder, self.b_enc, self.b_dec]
        self.adam = torch.optim.Adam(parameters, lr=lr, fused=True, capturable=not bench.dry)
        self.x = bench.random(shape.batch, shape.d_in, seed=6)
        self.loss = torch.zeros((), device=bench.device)

    @torch.no_grad()
    def __call__(self) -> None:
        """Train on `self.x [batch, d_in]`."""
        low = self.dtype
        encoder, decoder = self.encoder.to(low), self.decoder.to(low)
        centered = (self.x - self.b_dec).to(low)
        found, pattern = cuda.select_topk(
            centered, encoder, self.b_enc, self.shape.k, None, None, False
        )
        values = found.relu()
        residual = rows.gather_sum(pattern.indices, pattern.offsets, values, decoder, centered)
        self.loss.copy_(residual.float().square().sum() / len(centered))
        grad = residual * (2 / len(centered))
        d_values = rows.dot(pattern.indices, pattern.offsets, grad, decoder) * (found > 0)
        order, starts = pattern.by_latent
        tokens = order // self.shape.k
        for matrix, factors, of in (
            (self.decoder, values, grad),
            (self.encoder, d_values, centered),
        ):
            matrix.grad = rows.gather_sum(tokens, starts, factors[order], of, dtype=torch.float32)
        self.b_enc.grad = cuda.latent_sum(pattern, d_values).float()
        # x̂ has b_dec once, and so has the input of the encoder.
        self.b_dec.grad = grad.float().sum(0) - self.b_enc.grad @ self.encoder
        grads = [self.encoder.grad, self.decoder.grad, self.b_enc.grad, self.b_dec.grad]
        norm = torch.stack([one.norm(dim=-1).square().sum() for one in grads]).sum().sqrt()
        self.adam.grad_scale = (norm + 1e-6).clamp(min=1.0)  # gradients are divided by it
        self.adam.step()


def step(bench: Bench) -> dict[str, Any]:
    """The kernels in a row, eager and as a CUDA graph, over F1."""
    found = []
    for shape in bench.shapes:
        one = Step(bench, shape, bench.low)
        eager = bench.time(one, seconds=3)
        row: dict[str, Any] = {"shape": str(shape), "eager ms": eager}
        floors = {"F1": bench.floor(shape), "F1 of an H200": bench.floor(shape, H200)}
        best = eager
        if not bench.dry:
            row["peak GiB"] = torch.cuda.max_memory_allocated() / 2**30
            torch.cuda.reset_peak_memory_stats()
            try:
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    one()
                row["graph ms"] = best = bench.time(graph.replay, seconds=3)
                del graph
            except RuntimeError as error:  # eager figures are kept
                row["graph failed"] = str(error).splitlines()[0][:200]
        row["M tokens/s"] = shape.batch / best / 1e3
        for name, floor in floors.items():
            row |= {f"{name} ms": floor, f"over {name}": best / floor}
        row["verdict"] = figures.verdict(figures.GPU["floor"], "accelerated", best / floors["F1"])
        found.append(row)
        del one
        bench.free()
    return {"rows": found}


def trainer(bench: Bench) -> dict[str, Any]:
    """Saecore's `Trainer.step`, as `saecore run` takes it, with autocast and without."""
    found = []
    for shape in bench.shapes:
        for autocast in (True, False):
            if not autocast and shape == SHAPES[-1]:
                continue  # a float32 product of 9 TFLOP tells nothing that the others do not
            one = make_trainer(bench, shape, autocast)
            ms = bench.time(one.step, seconds=3)
            floor = bench.floor(shape)
            found.append({
                "shape": str(shape), "autocast": autocast, "ms": ms,
                "M tokens/s": shape.batch / ms / 1e3, "over F1": ms / floor,
                "verdict": figures.verdict(figures.GPU["floor"], "accelerated", ms / floor),
            })  # fmt: skip
            del one
            bench.free()
    return {"rows": found}


def make_trainer(bench: Bench, shape: Shape, autocast: bool) -> Any:
    """The trainer of a TopK SAE over one batch, made without a configuration file."""
    from saecore.core.normalizer import NormalizerStrategy
    from saecore.core.sae_config import Shape as Sizes
    from saecore.core.step import Batch
    from saecore.training.trainer import Trainer, TrainerSettings
    from saecore_plugins.architectures.topk import TopKConfig
    from saecore_plugins.architectures.topk.sae import TopK
    from saecore_plugins.dead_latents.auxk import AuxKConfig, strategy

    sizes = Sizes(
        shape.d_in, shape.d_in, shape.d_sae, dtype=torch.float32, device=bench.device, hooks=1
    )
    sae = TopK(TopKConfig(k=shape.k), sizes)
    sae.initialize(torch.Generator().manual_seed(0), 0.1)
    x = bench.random(shape.batch, shape.d_in, seed=6)

    class Source:
        position = 0

        def seek(self, position: int) -> None:
            """There is one batch."""

        def next(self, size: int) -> Batch:
            return Batch(x, x)

    settings = TrainerSettings(steps=10**6, batch_size=shape.batch, lr=1e-4, autocast=autocast)
    return Trainer(
        sae,
        Source(),
        torch.optim.Adam(sae.parameters(), lr=1e-4, fused=True),
        settings,
        lr_schedule=lambda step, total: 1.0,
        normalizer=NormalizerStrategy(None),
        dead_latents=strategy.AuxK(AuxKConfig()),
    )


def streams(bench: Bench) -> dict[str, Any]:
    """Fused Adam beside the product of the next batch: alone, one after the other, together."""
    found = []
    for shape in bench.shapes[:2]:
        a = bench.random(shape.batch, shape.d_in).to(bench.low)
        b = bench.random(shape.d_sae, shape.d_in).to(bench.low)
        out = torch.empty(shape.batch, shape.d_sae, dtype=bench.low, device=bench.device)
        master = torch.nn.Parameter(bench.random(shape.d_sae, shape.d_in))
        master.grad = torch.ones_like(master)
        adam = torch.optim.Adam([master], lr=1e-4, fused=True)

        def product(a=a, b=b, out=out) -> None:
            torch.mm(a, b.t(), out=out)

        def together(product=product, adam=adam) -> None:
            beside(bench, product, adam.step)

        row = {
            "shape": str(shape),
            "product ms": bench.time(product),
            "Adam ms": bench.time(adam.step),
            "together ms": bench.time(together),
        }
        row["of the sum"] = row["together ms"] / (row["product ms"] + row["Adam ms"])
        found.append(row)
    return {"rows": found}


def beside(bench: Bench, one: Callable[[], object], other: Callable[[], object]) -> None:
    """Two actions on two streams; on the CPU one after the other."""
    if bench.dry:
        one()
        other()
        return
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        other()
    one()
    torch.cuda.current_stream().wait_stream(side)


def parity(bench: Bench) -> dict[str, Any]:
    """Loss curves of the precisions on the same batches: how far each ends from float32."""
    shape = DRY[0] if bench.dry else Shape(512, 16384, 32, 4096)
    steps = 2 if bench.dry else 600
    features = bench.random(4 * shape.d_in, shape.d_in, seed=7)
    features /= features.norm(dim=1, keepdim=True)
    curves = {}
    for name, dtype, tf32 in (
        ("float32", torch.float32, False),
        ("tf32", torch.float32, True),
        ("bfloat16", torch.bfloat16, False),
    ):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        one = Step(bench, shape, dtype, lr=1e-3)
        losses: list[Tensor] = []
        for i in range(steps):
            one.x = true_features(bench, shape, features, i)
            one()
            losses.append(one.loss.clone())
        curves[name] = torch.stack(losses).tolist()
    torch.backends.cuda.matmul.allow_tf32 = False
    last = max(1, steps // 10)
    ends = {name: sum(curve[-last:]) / last for name, curve in curves.items()}
    return {
        "rows": [
            {"precision": name, "first": curves[name][0], "last tenth": end,
             "over float32": end / ends["float32"]} for name, end in ends.items()
        ],
        "curves": {name: curve[:: max(1, steps // 60)] for name, curve in curves.items()},
    }  # fmt: skip


def true_features(bench: Bench, shape: Shape, features: Tensor, i: int) -> Tensor:
    """A batch `[batch, d_in]` of sums of a few true features."""
    generator = torch.Generator(bench.device).manual_seed(100 + i)
    size = (shape.batch, len(features))
    active = torch.rand(size, generator=generator, device=bench.device) < 16 / len(features)
    strength = 1 + torch.rand(size, generator=generator, device=bench.device)
    return (active * strength) @ features
