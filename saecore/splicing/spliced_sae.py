"""`SplicedSAE`: what an SAE does at its hooks, in any model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from saecore.core.sae import SAE
from saecore.errors import ModelError
from saecore.models.hook_site import HookSite, stack_hooks
from saecore.splicing.hook_points import EACH, SHARED, AnyHookPoint, HookFn, through
from saecore.splicing.interventions import Interventions


class SplicedSAE:
    """An SAE whose reconstructions replace the model's activations.

    At each target the model continues with `reconstruction`, or with an error term with
    `reconstruction + (activation - reconstruction without interventions)`, whose last term gets no
    gradients. Tokens that the SAE was not trained on (`exclude_special_tokens` and `seqpos_slice`
    in its metadata) keep the model's own activations.

    Args:
        sae: the SAE.
        site: its hooks.
        new_hook_point: creates the hook point of a name.
        use_error_term: add the reconstruction error.
        interventions: features held at values.
    """

    def __init__(
        self,
        sae: SAE,
        site: HookSite,
        new_hook_point: Callable[[str], AnyHookPoint],
        use_error_term: bool = False,
        interventions: Interventions | None = None,
    ) -> None:
        self.sae, self.site = sae, site
        self.use_error_term, self.interventions = use_error_term, interventions
        each = EACH if use_error_term else EACH[1:]
        names = [f"{self.name}.{point}" for point in SHARED]
        names += [f"{target}.{point}" for target in site.targets for point in each]
        self.points: Mapping[str, AnyHookPoint] = {name: new_hook_point(name) for name in names}
        self.active = True
        self._used: Tensor | None = None
        self._inputs: dict[str, Tensor] = {}
        self._reconstructed: tuple[Tensor, Tensor | None] | None = None

    @property
    def name(self) -> str:
        """The name of the SAE: its (first) target."""
        return self.site.targets[0]

    @property
    def reads_ahead(self) -> bool:
        """Whether it needs all its inputs before it replaces the first: they take an extra pass."""
        return len(self.site.hooks) > 1

    def begin(self, tokens: Tensor, past: int = 0) -> None:
        """Start a forward pass of `tokens [B, T]` that continues a context of `past` tokens.

        Raises:
            ModelError: the SAE reads whole contexts, and `past` is not 0.
        """
        if past and self.active and self.sae.reads_contexts:
            raise ModelError(
                f"the SAE at {self.name} reads whole contexts, and the model keeps earlier tokens "
                "in a cache; generate with use_cache=False (bridge: use_past_kv_cache=False)"
            )
        self._reconstructed = None
        self._used = None if self.site.everywhere else self.site.used(tokens, past)

    def set_inputs(self, activations: Mapping[str, Tensor]) -> None:
        """Set the activations by hook, for an SAE that `reads_ahead`."""
        self._inputs = dict(activations)

    def functions(self) -> list[tuple[str, HookFn]]:
        """Hooks, and the functions to call there."""
        hooks, targets = self.site.hooks, self.site.targets
        if self.reads_ahead:
            return [(hook, partial(self._replace_part, n)) for n, hook in enumerate(targets)]
        if hooks == targets:
            return [(hooks[0], self._replace)]
        return [(hooks[0], partial(self._read, hooks[0])), (targets[0], self._replace_target)]

    # -- at the hooks ----------------------------------------------------------------------

    def _read(self, hook: str, value: Tensor) -> None:
        if self.active:
            # A copy: the model goes on to the target, and may overwrite its own tensor.
            self._inputs[hook] = self._input(hook, value, copy=True)

    def _replace(self, value: Tensor) -> Tensor | None:
        """The SAE reads and replaces one hook."""
        if not self.active:
            return None
        x = self._input(self.site.hooks[0], value)
        return self._written(self.name, value, *self._reconstruct(x))

    def _replace_target(self, value: Tensor) -> Tensor | None:
        """The SAE reads one hook and replaces another."""
        if not self.active:
            return None
        hook = self.site.hooks[0]
        if hook not in self._inputs:
            raise ModelError(
                f"hook: the SAE at {self.name} reads {hook}, which runs later in the forward pass"
            )
        return self._written(self.name, value, *self._reconstruct(self._inputs.pop(hook)))

    def _replace_part(self, number: int, value: Tensor) -> Tensor | None:
        """The SAE reads and replaces several hooks; the first to run computes all of them."""
        if not self.active:
            return None
        if self._reconstructed is None:
            if not self._inputs:
                raise ModelError(
                    f"hook: the SAE at {self.name} reads {len(self.site.hooks)} hooks at once, so "
                    "the model runs twice; call run or run_with_cache"
                )
            x = [self._input(hook, self._inputs[hook]) for hook in self.site.hooks]
            self._reconstructed = self._reconstruct(stack_hooks(x))
            self._inputs = {}
        recons, undisturbed = (
            None if joined is None else joined.unflatten(-1, (len(self.site.targets), -1))
            for joined in self._reconstructed
        )
        assert recons is not None
        return self._written(
            self.site.targets[number],
            value,
            recons[..., number, :],
            None if undisturbed is None else undisturbed[..., number, :],
        )

    # -- the SAE ---------------------------------------------------------------------------

    def _input(self, hook: str, value: Tensor, copy: bool = False) -> Tensor:
        """An activation in the SAE's shape `[B, T, d]`, device and dtype."""
        x = self.site.read(value)
        size = self.sae.cfg.d_in // (self.sae.cfg.hooks if self.sae.several_hooks else 1)
        if x.dim() != 3 or x.shape[-1] != size:
            raise ModelError(
                f"hook: the SAE reads activations [B, T, {size}], {hook} has "
                f"{list(value.shape)}; it belongs to another model or hook"
            )
        return x.to(self.sae.W_dec.device, self.sae.W_dec.dtype, copy=copy)

    def _reconstruct(self, activation: Tensor) -> tuple[Tensor, Tensor | None]:
        """The reconstruction `[B, T, d_out]` and, for an error term, that without interventions."""
        entry, before, after, end = (self.points[f"{self.name}.{point}"] for point in SHARED)
        # A hook function may write in place, so it must not get the model's own tensor.
        x, changed = through(entry, activation.clone() if entry.watched else activation)
        parts, lead = self.sae.decompose(x), x.shape[:2]
        if before.watched:
            self._show_preactivations(before, parts.preactivations(), lead)
        clean, features = parts.features, parts.features
        if self.interventions is not None:
            features = self.interventions.apply(clean)
        replaced: Tensor | None = None
        if after.watched:
            dense, other = through(after, features.dense().reshape(*lead, -1))
            # Dense decoding gives every latent a gradient, active or not.
            replaced = dense.flatten(0, 1) if other or dense.requires_grad else None
        recons = parts.decode(features if replaced is None else replaced)
        undisturbed: Tensor | None = None
        if self.use_error_term:
            with torch.no_grad():
                if changed:
                    parts = self.sae.decompose(activation)
                    undisturbed = parts.decode(parts.features)
                elif features is not clean or replaced is not None:
                    undisturbed = parts.decode(clean)
                else:
                    undisturbed = recons.detach().clone() if end.watched else recons.detach()
            undisturbed = undisturbed.reshape(*lead, -1)
        return through(end, recons.reshape(*lead, -1))[0], undisturbed

    def _show_preactivations(
        self, point: AnyHookPoint, dense: Tensor | None, lead: tuple[int, ...]
    ) -> None:
        if dense is None:
            return
        if through(point, dense.reshape(*lead, -1))[1] and not torch.is_inference(dense):
            raise ModelError(
                f"hook: {self.name}.hook_sae_acts_pre can be read, not replaced; replace features "
                "at hook_sae_acts_post"
            )

    def _written(
        self, target: str, value: Tensor, recons: Tensor, undisturbed: Tensor | None
    ) -> Tensor:
        """The model's activation, replaced by the SAE's output where the SAE reads tokens."""
        part = self.site.target(value)
        if recons.numel() != part.numel():
            raise ModelError(
                f"hook: the SAE reconstructs activations of size {recons.shape[-1]}, {target} has "
                f"{list(part.shape[2:])}; it belongs to another model or hook"
            )
        output = recons.reshape(part.shape)
        if undisturbed is not None:
            activation = part.detach().to(recons.device, recons.dtype)
            error = activation - undisturbed.reshape(part.shape)
            error = self.points[f"{target}.hook_sae_error"](error)
            output = output + error
        recons_point = self.points[f"{self.name}.hook_sae_recons"]
        output_point = self.points[f"{target}.hook_sae_output"]
        if undisturbed is None and recons_point.watched and output_point.watched:
            output = output.clone()  # a function at one must not write into the other's tensor
        output = output_point(output)
        new = self.site.write(value, output, self._used)
        # The model may overwrite what it gets, but not what hook functions or targets share.
        several = len(self.site.targets) > 1
        shared = recons_point.watched or output_point.watched or several
        return new.clone() if shared and self._used is None else new
