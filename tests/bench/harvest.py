"""What reading activations costs beyond the forward pass itself, with and without the bridge.

python -m tests.bench.harvest [--name DIRECTORY_OR_HUB_NAME] [--layer 2] [--rounds 40]

Bare Hugging Face is the model with the layers behind the hook cut off, no hook, no head; the bare
bridge is `run_with_cache` of one name, stopped behind its layer. Ours and bare take turns, first
one then the other in front; the ratio is the median over the rounds. The aim is at most 1.05.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import saecore_plugins
from saecore.hook_names import hook_names
from saecore.reading import pick_device
from saecore.sae_config import DTYPES
from saecore_plugins.models import huggingface, transformer_lens

TINY_LM = Path(saecore_plugins.__file__).parent / "tiny_lm"


def main() -> None:
    """Measure both backends and print a table."""
    parser = argparse.ArgumentParser(description="cost of harvesting activations")
    parser.add_argument("--name", default=str(TINY_LM), help="model; default: the embedded one")
    parser.add_argument("--layer", type=int, default=2)
    parser.add_argument("--batch", type=int, default=16, help="contexts per forward")
    parser.add_argument("--context", type=int, default=128, help="tokens per context")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    options = parser.parse_args()
    device, dtype = pick_device("auto"), DTYPES[options.dtype]
    plain = huggingface.build(huggingface.HuggingFaceConfig(options.name), device, dtype)
    settings = transformer_lens.TransformerLensConfig(options.name)
    bridge = transformer_lens.build(settings, device, dtype)
    hook = f"blocks.{options.layer}.hook_resid_post"
    shape = (options.batch, options.context)
    tokens = torch.randint(plain.vocab_size, shape, generator=torch.Generator().manual_seed(0))
    tokens = tokens.to(device)

    body = cut(plain.model, hook)
    pairs = {
        "huggingface": (lambda: plain.activations(tokens, [hook])[hook], lambda: body(tokens)),
        "transformer_lens": (
            lambda: bridge.activations(tokens, [hook])[hook],
            lambda: cached(bridge.model, tokens, hook, options.layer),
        ),
    }
    print(f"{options.batch} x {options.context} tokens to {hook}, {options.rounds} rounds, "
          f"{device}, torch {torch.__version__}, {torch.get_num_threads()} threads\n")  # fmt: skip
    print("| backend | ours, ms | bare, ms | ours / bare |\n|---|---|---|---|")
    for name, (ours, bare) in pairs.items():
        torch.testing.assert_close(ours(), bare())
        mine, other = take_turns(ours, bare, options.rounds)
        ratio = statistics.median(a / b for a, b in zip(mine, other, strict=True))
        times = [f"{1e3 * statistics.median(one):.2f}" for one in (mine, other)]
        print(f"| {name} | {times[0]} | {times[1]} | {ratio:.3f} |")


def cut(model: nn.Module, hook: str) -> Callable[[Tensor], Tensor]:
    """The forward pass up to a layer's output: later layers, last norm and head taken away."""
    base = model.base_model_prefix
    path = hook_names(model.config, base)[hook].path.removeprefix(f"{base}.")
    layers, _, last = path.rpartition(".")
    body = copy.deepcopy(getattr(model, base))
    kept = body.get_submodule(layers)[: int(last) + 1]
    setattr(body.get_submodule(layers.rpartition(".")[0]), layers.rpartition(".")[2], kept)
    for name in ("ln_f", "norm", "final_layer_norm", "final_layernorm"):
        if hasattr(body, name):
            setattr(body, name, nn.Identity())

    @torch.no_grad()
    def forward(tokens: Tensor) -> Tensor:
        hidden: Tensor = body(input_ids=tokens).last_hidden_state
        return hidden

    return forward


@torch.no_grad()
def cached(bridge: nn.Module, tokens: Tensor, hook: str, layer: int) -> Tensor:
    """One name through the bridge's own cache."""
    _, found = bridge.run_with_cache(
        tokens, names_filter=hook, stop_at_layer=layer + 1, return_cache_object=False
    )
    return next(iter(found.values()))


def take_turns(
    ours: Callable[[], Tensor], bare: Callable[[], Tensor], rounds: int
) -> tuple[list[float], list[float]]:
    """Seconds of both, one after the other, the first place going to each in turn."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for i in range(-3, rounds):  # three rounds to warm up
        for which in (0, 1) if i % 2 else (1, 0):
            began = time.perf_counter()
            (ours, bare)[which]()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if i >= 0:
                seconds[which].append(time.perf_counter() - began)
    return seconds


if __name__ == "__main__":
    main()
def options_of(p): ...
