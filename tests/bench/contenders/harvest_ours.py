"""Reading activations: ours and the bare model's own forward to the hook, in one process.

Both run the same weights, so turns within one process are fair, and the pages are warm for both.
Bare Hugging Face is the model with the layers behind the hook cut off, no hook, no head; the bare
bridge is `run_with_cache` of one name, stopped behind its layer.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from serve import Server
from torch import Tensor, nn

from saecore.core.sae_config import DTYPES
from saecore.models.device import pick_device
from saecore.models.hook_tables import hook_names
from saecore_plugins.models import huggingface, transformer_lens


def main() -> None:
    """Serve: a step is one forward, of whose turn it is."""
    server = Server()
    job = server.job
    device, dtype = pick_device("auto"), DTYPES[job["dtype"]]
    layer, hook = job["layer"], f"blocks.{job['layer']}.hook_resid_post"
    ours, bare = (hf if job["backend"] == "huggingface" else bridge)(
        job["name"], layer, hook, device, dtype
    )
    shape = (job["batch"], job["context"])
    tokens = torch.randint(1000, shape, generator=torch.Generator().manual_seed(0)).to(device)
    torch.testing.assert_close(ours(tokens), bare(tokens))
    finish = torch.cuda.synchronize if device.type == "cuda" else None
    # Two steps a round; the first place goes to each in turn, in rounds of four.
    order = (ours, bare, bare, ours)
    for n in server.steps(lambda n: n, finish):
        order[n % 4](tokens)


Forward = Callable[[Tensor], Tensor]


def hf(
    name: str, layer: int, hook: str, device: torch.device, dtype: torch.dtype
) -> tuple[Forward, Forward]:
    """Ours through plain Hugging Face modules, and the model cut off behind the hook."""
    backend = huggingface.build(huggingface.HuggingFaceConfig(name), device, dtype)
    return lambda tokens: backend.activations(tokens, [hook])[hook], cut(backend.model, hook)


def bridge(
    name: str, layer: int, hook: str, device: torch.device, dtype: torch.dtype
) -> tuple[Forward, Forward]:
    """Ours through TransformerLens' bridge, and the bridge's own cache."""
    config = transformer_lens.TransformerLensConfig(name)
    backend = transformer_lens.build(config, device, dtype)

    @torch.no_grad()
    def cached(tokens: Tensor) -> Tensor:
        _, found = backend.model.run_with_cache(
            tokens, names_filter=hook, stop_at_layer=layer + 1, return_cache_object=False
        )
        return next(iter(found.values()))

    return lambda tokens: backend.activations(tokens, [hook])[hook], cached


def cut(model: nn.Module, hook: str) -> Forward:
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


if __name__ == "__main__":
    main()
