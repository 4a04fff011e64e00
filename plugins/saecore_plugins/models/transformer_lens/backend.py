"""TransformerLens' bridge as a `ModelBackend`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from saecore.core.model import Replace
from saecore.errors import ModelError
from saecore.models.copies import isolated
from saecore.models.hook_tables import unknown_hook
from saecore.models.huggingface import PROBE, StopForward, not_reached, per_token, token_limits
from saecore.models.read_state import read_state, suspended


def build_bridge(
    model: Any, tokenizer: Any, name: str, dtype: torch.dtype, processed: bool
) -> TransformerBridge:
    """Wrap a transformers model in the bridge; the model itself is modified.

    Args:
        model: the model, already on its device.
        tokenizer: its tokenizer; the bridge gets a copy, because it changes special tokens.
        name: the model's name.
        dtype: the precision it was loaded in.
        processed: fold LayerNorm and value biases, and center weights; the activations are then
            those of TransformerLens before version 4.

    Raises:
        ModelError: TransformerLens does not support this type of model, or cannot process it.
    """
    if model.config.sub_configs:
        # The bridge would look for an image processor, and pip-install torchvision for it.
        raise ModelError(
            f"model.type: {name} reads more than text ({model.config.model_type}), which is not "
            'supported through TransformerLens; use type = "huggingface"'
        )
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.init_kwargs["name_or_path"] = name
    tokenizer.init_kwargs["add_bos_token"] = True  # otherwise the bridge loads it again
    kind = ", ".join(model.config.architectures or [model.config.model_type])
    try:
        bridge = TransformerBridge.boot_transformers(
            name, hf_model=model, tokenizer=tokenizer, device=model.device, dtype=dtype
        )
    except (ValueError, KeyError, AttributeError) as error:
        raise ModelError(
            f"model.type: TransformerLens has no bridge for {name} ({kind}); use "
            'type = "huggingface"'
        ) from error
    if processed:
        try:
            bridge.enable_compatibility_mode(disable_warnings=True)
        except (RuntimeError, NotImplementedError) as error:
            reason = str(error).splitlines()[0]
            raise ModelError(
                f"model.processed: TransformerLens cannot process {name} ({kind}): {reason}; "
                "remove the key"
            ) from error
    return bridge


class BridgeBackend:
    """A model behind TransformerLens' bridge.

    It is read in evaluation mode, without gradients of its parameters and without the SAEs that
    are in it; after each call the bridge is as it was before.

    Args:
        bridge: the bridge, on the model's device.
        tokenizer: the model's own tokenizer.
        name: the name recorded with SAEs.
        identity: what was loaded, recorded with runs.
    """

    def __init__(
        self, bridge: TransformerBridge, tokenizer: Any, name: str, identity: Mapping[str, Any]
    ) -> None:
        self.model: Any = bridge
        self.tokenizer = tokenizer
        self.convention = "processed" if bridge.compatibility_mode else "raw"
        self.name, self.identity = name, {**identity, "convention": self.convention}
        inner = bridge.original_model
        self.vocab_size, self.max_context = token_limits(inner)
        self.device = next(inner.parameters()).device
        self._hooks: dict[str, str] = {key: hook.name for key, hook in bridge.hook_dict.items()}
        self._shapes: dict[str, tuple[int, ...]] = {}

    def _canonical_name(self, hook: str) -> str:
        """The bridge's canonical name of a hook, which may have aliases.

        Raises:
            ModelError: there is no such hook.
        """
        if hook not in self._hooks:
            raise unknown_hook(self.name, hook, [*self._hooks])
        return self._hooks[hook]

    @property
    def unembed(self) -> Tensor | None:
        """The bridge's W_U, processed if the bridge is; see `ModelBackend.unembed`."""
        return None if getattr(self.model, "unembed", None) is None else self.model.W_U

    def d(self, hook: str) -> tuple[int, ...]:
        """Shape of one activation; see `ModelBackend.d`."""
        if hook not in self._shapes:
            tokens = torch.zeros(1, PROBE, dtype=torch.int64)
            self._shapes[hook] = tuple(self.activations(tokens, [hook])[hook].shape[2:])
        return self._shapes[hook]

    @torch.no_grad()
    def activations(self, tokens: Tensor, hooks: Sequence[str]) -> dict[str, Tensor]:
        """Activations of some hooks; see `ModelBackend.activations`."""
        activations: dict[str, Tensor] = {}
        names = {hook: self._canonical_name(hook) for hook in hooks}

        def record(name: str) -> Callable[..., None]:
            def function(value: Tensor, hook: Any) -> None:
                activations[name] = per_token(value, tokens, name)
                if len(activations) == len(names):
                    raise StopForward
                activations[name] = activations[name].clone()  # the model may overwrite its own

            return function

        try:
            with self._hooked([(name, record(hook)) for hook, name in names.items()]):
                self.model(tokens.to(self.device))
        except StopForward:
            return activations
        raise not_reached(self.name, names, activations)

    def run_with(
        self, tokens: Tensor, replace: Mapping[str, Replace], gradients: bool = False
    ) -> Tensor:
        """Logits with replaced activations; see `ModelBackend.run_with`."""

        def change(function: Replace) -> Callable[..., Tensor | None]:
            call = isolated(function)

            def replace_value(value: Tensor, hook: Any) -> Tensor | None:
                new = call(value)
                return None if new is None else new.to(value.dtype)

            return replace_value

        hooks = [
            (self._canonical_name(hook), change(function)) for hook, function in replace.items()
        ]
        with torch.set_grad_enabled(gradients), self._hooked(hooks):
            logits: Tensor = self.model(tokens.to(self.device))
        return logits

    @contextmanager
    def _hooked(self, hooks: list[tuple[str, Callable[..., Any]]]) -> Iterator[None]:
        """Run with hooks, in the state for reading and without the SAEs in the bridge.

        Raises:
            ModelError: the bridge has disabled one of them.
        """
        with read_state(self.model), suspended(self.model), ExitStack() as stack:
            try:
                stack.enter_context(self.model.hooks(fwd_hooks=hooks))
            except ValueError as error:
                raise ModelError(f"model.hook: {error}") from error
            yield
