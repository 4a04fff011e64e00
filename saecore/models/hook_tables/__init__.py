"""TransformerLens hook names for Hugging Face modules, one table per model family.

Each name is the same tensor as in TransformerLens 4's bridge without processing.
Any other module can be named by its path: `transformer.h.2` (its output) or
`transformer.h.2.mlp:in` (its input).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from saecore.errors import ModelError, nearest
from saecore.models.hook_tables import bert, gpt, llama
from saecore.models.hook_tables.module_hook import HeadSizes, ModuleHook, Table

__all__ = ["FAMILIES", "ModuleHook", "hook_names", "module_hook", "unknown_hook"]

FAMILIES: Mapping[str, Callable[[HeadSizes], Table]] = {
    "bert": bert.bert,
    "gemma": llama.llama,
    "gemma2": llama.gemma2,
    "gemma3": llama.gemma3,
    "gemma3_text": llama.gemma2,
    "gpt2": gpt.gpt2,
    "gpt_neo": gpt.gpt_neo,
    "gpt_neox": gpt.gpt_neox,
    "llama": llama.llama,
    "mistral": llama.llama,
    "phi": gpt.phi,
    "phi3": llama.phi3,
    "qwen2": llama.llama,
    "qwen3": llama.llama,
}
"""Model types (as in config.json) to their tables."""


def hook_names(config: Any, base: str = "") -> dict[str, ModuleHook]:
    """Every TransformerLens name of a model with its module; empty for a type without a table.

    Args:
        config: the model's configuration.
        base: path of the model without its head, such as "transformer"; "" for a model that has
            no head.
    """
    family = FAMILIES.get(config.model_type)
    if family is None:
        return {}
    text = config.get_text_config()
    heads = text.num_attention_heads
    sizes = HeadSizes(
        heads,
        getattr(text, "num_key_value_heads", None) or heads,
        getattr(text, "use_parallel_residual", False),
    )
    hooks = {}
    for name, hook in family(sizes).items():
        for layer in range(text.num_hidden_layers) if "{}" in name else (0,):
            path = ".".join(filter(None, (base, hook.path.format(layer))))
            hooks[name.format(layer)] = attrs.evolve(hook, path=path)
    return hooks


def module_hook(hook: str) -> ModuleHook:
    """The hook named by a module path, `path`, `path:in` or `path:out`."""
    match = re.fullmatch(r"(.+?)(?::(in|out))?", hook)
    return (
        ModuleHook(path=hook)
        if match is None
        else ModuleHook(path=match[1], side="in" if match[2] == "in" else "out")
    )


def unknown_hook(
    model: str, hook: str, names: Sequence[str], paths: Sequence[str] = (), kind: str = ""
) -> ModelError:
    """The error for a hook that a model does not have.

    Args:
        model: the model's name.
        hook: the requested hook.
        names: TransformerLens names of the model's hooks.
        paths: paths of its modules, if hooks may be named by them.
        kind: the model's type, named if it has no TransformerLens names.
    """
    close = nearest(hook, [*names, *paths], n=3)
    layers = [path for path in paths if path.rpartition(".")[2].isdigit()] or list(paths)
    shown = ", ".join(layers[:: max(1, len(layers) // 2)][:3])
    if names:
        example = next((name for name in names if name.endswith("resid_post")), names[0])
        known = f"{len(names)} names such as {example}"
        known += f"; or module paths such as {shown}" if paths else ""
    else:
        known = (
            f"no TransformerLens names are known for model type {kind!r}; name a module: {shown}"
        )
    return ModelError(f"model.hook: {model} has no hook {hook!r}{close} ({known})")
