"""What a forward pass with a spliced SAE costs beyond the parts measured alone.

python -m tests.bench.splice [--name DIRECTORY_OR_HUB_NAME] [--d_sae 4096] [--rounds 40]

The parts are the model's forward, and the SAE's encode and decode of the activations there: sparse
(`encode_sparse` and `decode` of codes), which is the cheaper way, and for the rows with a cache of
features dense (`encode` and `decode` of `[B, T, d_sae]`). All of them take turns; the ratio is the
median over the rounds of spliced / (forward + encode + decode). The aim is at most 1.15.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import torch

import saecore_plugins
from saecore import SAE, HookedSAETransformer, Shape, splice
from saecore.core.sae_config import Metadata
from saecore.models.device import pick_device
from saecore.plugins.structure import structure_choice
from saecore.randomness import generator
from saecore_plugins.models import huggingface

TINY_LM = Path(saecore_plugins.__file__).parent / "tiny_lm"
ARCHITECTURES = ({"architecture": "topk", "k": 32}, {"architecture": "jumprelu"})


def main() -> None:
    """Measure both fronts and print a table."""
    parser = argparse.ArgumentParser(description="cost of a spliced forward pass")
    parser.add_argument("--name", default=str(TINY_LM), help="model; default: the embedded one")
    parser.add_argument("--layer", type=int, default=2)
    parser.add_argument("--d_sae", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=16, help="contexts per forward")
    parser.add_argument("--context", type=int, default=128, help="tokens per context")
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    device = pick_device("auto")
    config = huggingface.HuggingFaceConfig(options.name)
    backend = huggingface.build(config, device, torch.float32)
    bridge = HookedSAETransformer.from_pretrained(options.name, device=str(device))
    hook = f"blocks.{options.layer}.hook_resid_post"
    shape = (options.batch, options.context)
    tokens = torch.randint(backend.vocab_size, shape, generator=torch.Generator().manual_seed(0))
    tokens = tokens.to(device)
    print(f"{options.batch} x {options.context} tokens, {hook}, d_sae {options.d_sae:,}, "
          f"{options.rounds} rounds, {device}, torch {torch.__version__}, "
          f"{torch.get_num_threads()} threads\n")  # fmt: skip
    print("| SAE | model | what | spliced, ms | forward + encode + decode, ms | ratio |")
    print("|---|---|---|---|---|---|")
    with torch.no_grad():
        x = backend.activations(tokens, [hook])[hook]
        for table in ARCHITECTURES:
            sae = build(table, x, options.d_sae, hook)
            for model, run in rows(sae, backend, bridge, tokens, hook, x).items():
                for what, parts in run.items():
                    report(f"{table['architecture']} | {model} | {what}", parts, options.rounds)


def build(table: dict[str, object], x: torch.Tensor, d_sae: int, hook: str) -> SAE:
    """A random SAE whose biases give it about 32 active latents on the activations."""
    choice = structure_choice("architecture", table)
    sae: SAE = choice.build(Shape(x.shape[-1], x.shape[-1], d_sae, device=x.device)).to_inference()
    sae.initialize(generator(0, "init"), 1.0)
    sae.b_dec.copy_(x.flatten(0, 1).mean(0))
    if table["architecture"] == "jumprelu":
        pre = sae.all_preactivations(x.flatten(0, 1)[:512])
        assert pre is not None
        sae.b_enc.sub_(pre.flatten().kthvalue(int(pre.numel() * (1 - 32 / d_sae))).values)
    sae.cfg = attrs.evolve(sae.cfg, metadata=Metadata({"hook_name": hook}))
    return sae


Parts = Sequence[Callable[[], object]]


def rows(
    sae: SAE,
    backend: huggingface.HuggingFaceBackend,
    bridge: HookedSAETransformer,
    tokens: torch.Tensor,
    hook: str,
    x: torch.Tensor,
) -> dict[str, dict[str, Parts]]:
    """For each model and each way: the spliced run, and the parts of it alone."""
    codes, features = sae.encode_sparse(x), sae.encode(x)
    sparse: Parts = (lambda: sae.encode_sparse(x), lambda: sae.decode(codes))
    dense: Parts = (lambda: sae.encode(x), lambda: sae.decode(features))
    plain = splice(backend, [sae])
    with_error = splice(backend, [sae], use_error_term=True)
    steered = splice(backend, [sae], steer={3: 2.0})
    name = f"{hook}.hook_sae_acts_post"

    def forward() -> object:
        return backend.model(input_ids=tokens).logits

    def bridged() -> object:
        return bridge(tokens)

    return {
        "transformers": {
            "run": (lambda: plain.run(tokens), forward, *sparse),
            "run, error term": (lambda: with_error.run(tokens), forward, *sparse),
            "run, steered": (lambda: steered.run(tokens), forward, *sparse),
            "cache of features": (
                lambda: plain.run_with_cache(tokens, [name]), forward, *dense
            ),
        },
        "bridge": {
            "run_with_saes": (lambda: bridge.run_with_saes(tokens, saes=[sae]), bridged, *sparse),
            "run_with_saes, error term": (
                lambda: bridge.run_with_saes(tokens, saes=[sae], use_error_term=True),
                bridged,
                *sparse,
            ),
        },
    }  # fmt: skip


def report(name: str, parts: Parts, rounds: int) -> None:
    """Let the spliced run and its parts take turns; print a row."""
    seconds: list[list[float]] = [[] for _ in parts]
    order = range(len(parts))
    for i in range(-3, rounds):  # three rounds to warm up
        for which in order if i % 2 else reversed(order):
            began = time.perf_counter()
            parts[which]()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if i >= 0:
                seconds[which].append(time.perf_counter() - began)
    ratio = statistics.median(
        spliced / sum(alone) for spliced, *alone in zip(*seconds, strict=True)
    )
    spliced, *alone = (statistics.median(one) * 1e3 for one in seconds)
    print(f"| {name} | {spliced:.2f} | {sum(alone):.2f} | {ratio:.3f} |", flush=True)


if __name__ == "__main__":
    main()
