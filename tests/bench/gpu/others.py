"""The peers' steps on the device, and the language model's forward in variants."""

from __future__ import annotations

from typing import Any

import torch

from tests.bench import cases, figures
from tests.bench.cases import Shape as CaseShape
from tests.bench.gpu.timing import Bench
from tests.bench.peers import NAMES, interpreter
from tests.bench.rounds import Contender, measure, ratio


def peers(bench: Bench) -> dict[str, Any]:
    """Ours and the peers' own trainers in turns, each in its own process.

    SAELens and dictionary_learning compute in float32 without TF32, sparsify in TF32, as they do
    by default; SAELens with autocast too. Ours with autocast, and in float32.
    """
    there = [one for one in NAMES if interpreter(bench.peers, one) is not None]
    if not there:
        raise RuntimeError("no environments of peers here: tests/bench/peers.sh, then --peers DIR")
    found, figures_of = [], {}
    for of in bench.shapes:
        shape = CaseShape(of.d_in, of.d_sae, of.batch, of.k)
        contenders = []
        for one in cases.contenders("topk", shape, {"ours": ""}):
            job = {**one.job, "device": bench.device.type}
            contenders.append(one._replace(job=job))
            if one.name in ("ours", "saelens"):
                contenders.append(
                    Contender(f"{one.name} autocast", one.script, {**job, "autocast": True},
                              one.peer)
                )  # fmt: skip
        result = measure(contenders, bench.peers, 3 if bench.dry else bench.rounds, 45)
        figures_of[str(of)] = result
        for name, one in result.items():
            row: dict[str, Any] = {"shape": str(of), "who": name}
            row |= {key: one[key] for key in ("median_ms", "failed") if key in one}
            times = ratio(result, name, "ours autocast")
            row["times as long as ours with autocast"] = times
            for peer, figure in figures.GPU.items():
                if name in (f"{peer} autocast", peer) and name not in ("saelens", "floor"):
                    row["verdict"] = figures.verdict(figure, "accelerated", times)
            found.append(row)
    return {"rows": found, "contenders": figures_of}


def forward(bench: Bench) -> dict[str, Any]:
    """Tokens per second of a GPT-2 of random weights to layer 8 of 12, variant by variant."""
    from transformers import GPT2Config, GPT2LMHeadModel

    small: dict[str, Any] = {"n_layer": 2, "n_embd": 16, "n_head": 2} if bench.dry else {}
    config = GPT2Config(**small)
    n, length, layer = (2, 16, 1) if bench.dry else (32, 1024, 8)
    tokens = torch.randint(config.vocab_size, (n, length), device=bench.device)
    variants = {
        "float32, whole, logits": (torch.float32, "sdpa", False),
        "bfloat16, whole, logits": (torch.bfloat16, "sdpa", False),
        "bfloat16, cut, eager attention": (torch.bfloat16, "eager", True),
        "bfloat16, cut, fused attention": (torch.bfloat16, "sdpa", True),
    }
    found = []
    for name, (dtype, attention, cut) in variants.items():
        config._attn_implementation = attention
        model = GPT2LMHeadModel(config).to(bench.device, dtype).eval()
        body = model.transformer if cut else model
        if cut:
            model.transformer.h = model.transformer.h[:layer]

        @torch.no_grad()
        def run(body: Any = body) -> Any:
            return body(input_ids=tokens, use_cache=False)

        ms = bench.time(run, seconds=2)
        found.append({"variant": name, "ms": ms, "M tokens/s": tokens.numel() / ms / 1e3})
        del model, body, run
        bench.free()
    return {"rows": found}
