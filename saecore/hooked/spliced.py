"""What a spliced SAE does at its hooks, in any model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from saecore.errors import ModelError
from saecore.hooked.edits import Edits
from saecore.hooked.points import EACH, SHARED, Point, Seen, through
from saecore.sae import SAE
from saecore.site import Site


class SplicedSAE:
    """An SAE whose reconstructions take the place of the model's activations.

    At each target the model goes on with `reconstruction`, or with an error term with
    `reconstruction + (activation - reconstruction without interventions)`, the latter a constant
    for gradients. Tokens that the SAE was not trained on (`exclude_special_tokens` and
    `seqpos_slice` of its metadata) keep the model's own activations.

    Args:
        sae: the SAE.
        site: where it works.
        new_point: makes the point of a name.
        use_error_term: add what the SAE does not reconstruct.
        edits: features that are held at values.
    """

    def __init__(
        self,
        sae: SAE,
        site: Site,
        new_point: Callable[[str], Point],
        use_error_term: bool = False,
        edits: Edits | None = None,
    ) -> None:
        self.sae, self.site = sae, site
        self.use_error_term, self.edits = use_error_term, edits
        each = EACH if use_error_term else EACH[1:]
        names = [f"{self.name}.{one}" for one in SHARED]
        names += [f"{target}.{one}" for target in site.targets for one in each]
        self.points: Mapping[str, Point] = {name: new_point(name) for name in names}
        self.active = True
        self._used: Tensor | None = None
        self._read: dict[str, Tensor] = {}
        self._done: tuple[Tensor, Tensor | None] | None = None

    @property
    def name(self) -> str:
        """What the SAE is known by: its (first) target."""
        return self.site.targets[0]

    @property
    def reads_ahead(self) -> bool:
        """Whether it needs activations before it replaces the first, from a pass of their own."""
        return len(self.site.hooks) > 1

    def begin(self, tokens: Tensor, past: int = 0) -> None:
        """A forward pass begins: `tokens [B, T]`, with `past` tokens of the context before.

        Raises:
            ModelError: the SAE would have to read those, too.
        """
        if past and self.active and self.sae.reads_contexts:
            raise ModelError(
                f"the SAE at {self.name} reads whole contexts, and the model keeps earlier tokens "
                "in a cache; generate with use_cache=False (bridge: use_past_kv_cache=False)"
            )
        self._done = None
        self._used = None if self.site.everywhere else self.site.used(tokens, past)

    def give(self, read: Mapping[str, Tensor]) -> None:
        """The activations of a pass of their own, for one that `reads_ahead`."""
        self._read = dict(read)

    def functions(self) -> list[tuple[str, Seen]]:
        """Hooks and what is to be called there."""
        hooks, targets = self.site.hooks, self.site.targets
        if self.reads_ahead:
            return [(hook, partial(self._part, number)) for number, hook in enumerate(targets)]
        if hooks == targets:
            return [(hooks[0], self._replaced)]
        return [(hooks[0], partial(self._keep, hooks[0])), (targets[0], self._target)]

    # -- at the hooks ----------------------------------------------------------------------

    def _keep(self, hook: str, value: Tensor) -> None:
        if self.active:
            self._read[hook] = value

    def _replaced(self, value: Tensor) -> Tensor | None:
        if not self.active:
            return None
        x = self._input(self.site.hooks[0], value)
        return self._written(self.name, value, *self._reconstruct(x))

    def _target(self, value: Tensor) -> Tensor | None:
        if not self.active:
            return None
        hook = self.site.hooks[0]
        if hook not in self._read:
            raise ModelError(
                f"hook: the SAE at {self.name} reads {hook}, which the model comes by later"
            )
        x = self._input(hook, self._read.pop(hook))
        return self._written(self.name, value, *self._reconstruct(x))

    def _part(self, number: int, value: Tensor) -> Tensor | None:
        """One of several targets; the first that comes by computes for all."""
        if not self.active:
            return None
        if self._done is None:
            if not self._read:
                raise ModelError(
                    f"hook: the SAE at {self.name} reads {len(self.site.hooks)} hooks at once, so "
                    "the model runs twice; call run or run_with_cache"
                )
            x = [self._input(hook, self._read[hook]) for hook in self.site.hooks]
            self._done = self._reconstruct(torch.stack(x, dim=2))
            self._read = {}
        parts = [
            None if one is None else one.unflatten(-1, (len(self.site.targets), -1))[..., number, :]
            for one in self._done
        ]
        assert parts[0] is not None
        return self._written(self.site.targets[number], value, parts[0], parts[1])

    # -- the SAE ---------------------------------------------------------------------------

    def _input(self, hook: str, value: Tensor) -> Tensor:
        """An activation as the SAE takes it `[B, T, d]`, on its device."""
        x = self.site.read(value)
        wanted = self.sae.cfg.d_in // (self.sae.cfg.hooks if self.sae.several_hooks else 1)
        if x.dim() != 3 or x.shape[-1] != wanted:
            raise ModelError(
                f"hook: the SAE reads activations [B, T, {wanted}], {hook} gives "
                f"{list(value.shape)}; it belongs to another model or hook"
            )
        return x.to(self.sae.W_dec.device, self.sae.W_dec.dtype)

    def _reconstruct(self, given: Tensor) -> tuple[Tensor, Tensor | None]:
        """The reconstruction `[B, T, d_out]` and, for an error term, that without interventions."""
        entry, before, after, end = (self.points[f"{self.name}.{one}"] for one in SHARED)
        # A function may write into what it gets, which must not be the model's own tensor.
        x, changed = through(entry, given.clone() if entry.watched else given)
        parts, lead = self.sae.decompose(x), x.shape[:2]
        if before.watched:
            self._show_preactivations(before, parts.preactivations(), lead)
        clean, features = parts.features, parts.features
        if self.edits is not None:
            features = self.edits.apply(clean)
        used: Tensor | None = None
        if after.watched:
            dense, other = through(after, features.dense().reshape(*lead, -1))
            # Decoding densely gives every latent its gradient, active or not.
            used = dense.flatten(0, 1) if other or dense.requires_grad else None
        recons = parts.decode(features if used is None else used)
        undisturbed: Tensor | None = None
        if self.use_error_term:
            with torch.no_grad():
                if changed:
                    parts = self.sae.decompose(given)
                    undisturbed = parts.decode(parts.features)
                elif features is not clean or used is not None:
                    undisturbed = parts.decode(clean)
                else:
                    undisturbed = recons.detach().clone() if end.watched else recons.detach()
            undisturbed = undisturbed.reshape(*lead, -1)
        return through(end, recons.reshape(*lead, -1))[0], undisturbed

    def _show_preactivations(
        self, point: Point, dense: Tensor | None, lead: tuple[int, ...]
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
        """The model's activation with the SAE's output in its place."""
        part = self.site.target(value)
        if recons.numel() != part.numel():
            raise ModelError(
                f"hook: the SAE reconstructs activations of size {recons.shape[-1]}, {target} has "
                f"{list(part.shape[2:])}; it belongs to another model or hook"
            )
        output = recons.reshape(part.shape)
        if undisturbed is not None:
            own = part.detach().to(recons.device, recons.dtype)
            error = self.points[f"{target}.hook_sae_error"](own - undisturbed.reshape(part.shape))
            output = output + error
        output = self.points[f"{target}.hook_sae_output"](output)
        return self.site.write(value, output, self._used)
