"""The extension surface on one page: the hook that plugins implement, and what each kind builds.

A plugin is a module behind an entry point of the group `saecore`, named `kind.name`:

    [project.entry-points.saecore]
    "activation.leaky_relu" = "my_package.leaky_relu"

The module is imported when the plugin is first used or described. It must not import torch,
transformers, datasets or mlflow; the function or class behind `Component.build` may.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pluggy

if TYPE_CHECKING:
    import click
    import torch

    from saecore.core.activation import Activation
    from saecore.core.activation_store import ActivationDataset
    from saecore.core.catalogue import Catalogue
    from saecore.core.dataset import Documents, DocumentStream, TokenSource
    from saecore.core.dead_latents import DeadLatents
    from saecore.core.evaluator import Evaluator
    from saecore.core.logger import Logger
    from saecore.core.model import ModelBackend
    from saecore.core.monitor import Monitor
    from saecore.core.normalizer import Normalizer
    from saecore.core.optimizer import Optimizer
    from saecore.core.release import ReleaseSource
    from saecore.core.sae import SAE
    from saecore.core.sae_config import Shape
    from saecore.core.schedule import Schedule
    from saecore.plugins.component import Component

    Config = Any
    """An instance of the component's `config` class."""
    Tokenizer = Any
    """A Hugging Face tokenizer."""
    ParameterGroups = Sequence[Mapping[str, Any]]
    """As in torch; each group has `params`, `lr` and `lr_factor`."""

hookspec = pluggy.HookspecMarker("saecore")
hookimpl = pluggy.HookimplMarker("saecore")


@hookspec
def saecore_components() -> Iterable[Component]:  # type: ignore[empty-body]
    """Return the components that this module provides.

    Called once, when the module is loaded. The components must include the one that the entry
    point names.

    Example:
        import attrs
        from saecore.plugins import Component, at_least, hookimpl

        @attrs.frozen
        class LinearConfig:
            decay_steps: int = attrs.field(default=0, validator=at_least(0))
            "Steps at the end over which the value falls to 0."

        def linear(config):
            def schedule(step, total):
                left = total - step
                return min(1.0, left / config.decay_steps) if config.decay_steps else 1.0
            return schedule

        @hookimpl
        def saecore_components():
            yield Component(
                kind="schedule",
                name="linear_decay",
                config=LinearConfig,
                build=linear,
                summary="constant, then linear to 0",
            )
    """


class Builds(Protocol):
    """The signature of `Component.build` for each kind.

    `config` is an instance of the component's config class.
    """

    @staticmethod
    def activation(config: Config, shape: Shape) -> Activation:
        """Decides which latents are active and what their features are."""
        ...

    @staticmethod
    def architecture(config: Config, shape: Shape) -> SAE:
        """A sparse autoencoder: encoder, decoder and losses."""
        ...

    @staticmethod
    def catalogue(config: Config) -> Catalogue:
        """Names and entries of published SAEs, available offline."""
        ...

    @staticmethod
    def command() -> click.Command:
        """A subcommand of `saecore`."""
        ...

    @staticmethod
    def dataset(
        config: Config, tokenizer_or_seed: Tokenizer | int
    ) -> Documents | DocumentStream | TokenSource | ActivationDataset:
        """Text for a tokenizer; or activations for a seed, if the component `provides` them."""
        ...

    @staticmethod
    def dead_latents(config: Config) -> DeadLatents:
        """A strategy for latents that have stopped firing."""
        ...

    @staticmethod
    def evaluator(config: Config) -> Evaluator:
        """Metrics of an SAE on held-out data."""
        ...

    @staticmethod
    def logger(config: Config, run_directory: Path) -> Logger:
        """A destination of a run's metrics besides metrics.jsonl."""
        ...

    @staticmethod
    def model(config: Config, device: torch.device, dtype: torch.dtype) -> ModelBackend:
        """A language model whose activations can be read and replaced."""
        ...

    @staticmethod
    def monitor(config: Config) -> Monitor:
        """A check of the run at each log interval: a warning with its remedy, or None."""
        ...

    @staticmethod
    def normalizer(config: Config) -> Normalizer:
        """Scales activations before the SAE reads them."""
        ...

    @staticmethod
    def optimizer(config: Config, parameter_groups: ParameterGroups, lr: float) -> Optimizer:
        """Updates the weights."""
        ...

    @staticmethod
    def release(config: Config) -> ReleaseSource:
        """A format of published SAEs: recognizes, lists and loads them."""
        ...

    @staticmethod
    def schedule(config: Config) -> Schedule:
        """A multiplier over the run: (step, total steps) -> float."""
        ...


KINDS: Mapping[str, str] = {
    name: str(inspect.signature(function)).replace("'", "")
    for name, function in vars(Builds).items()
    if isinstance(vars(Builds)[name], staticmethod)
}
"""The kinds of components, each with the signature of its `build`."""

MEMBERS: Mapping[str, tuple[str, ...]] = {
    "activation": ("select", "train_select", "scheduled"),
    "architecture": ("select", "training_step", "state_dict"),
    "catalogue": ("names", "entries"),
    "dataset": ("fingerprint|seek|manifest",),
    "dead_latents": ("after_tokens", "losses", "acts", "after_step"),
    "evaluator": ("__call__",),
    "logger": ("start", "scalars", "artifact", "close"),
    "model": ("name", "identity", "tokenizer", "vocab_size", "activations", "run_with"),
    "normalizer": ("tokens", "estimate", "apply", "restorer", "fold", "state_dict"),
    "optimizer": ("param_groups", "step", "zero_grad", "state_dict", "load_state_dict"),
    "release": ("recognize", "list", "load"),
    "schedule": ("__call__",),
}
"""Members that the result of `build` must have; `a|b` means either."""

TAGS: Mapping[str, str] = {"architecture": "architecture"}
"""The key that names the component in a table; `type` for kinds that are not listed."""
