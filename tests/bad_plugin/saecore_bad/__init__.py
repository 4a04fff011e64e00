"""Builders that do not take what they are given, or give something else than their kind asks."""

import attrs

from saecore import Component, hookimpl


@attrs.frozen
class Nothing:
    """No settings."""


def no_arguments():
    """Take nothing, not even the config."""


def give_object(config, *args):
    """Return something that is of no kind."""
    return object()


def give_list(config, tokenizer):
    """Return texts without a fingerprint."""
    return ["text"]


@hookimpl
def saecore_components():
    """Offer all of them."""
    yield Component("activation", "abstract", Nothing, "saecore_bad.sae:Abstract", "no select")
    yield Component("architecture", "no_sae", Nothing, give_object, "no SAE")
    yield Component("command", "no_command", Nothing, lambda: "echo", "no command")
    yield Component("dataset", "list", Nothing, give_list, "a list")
    yield Component("dead_latents", "auxk", Nothing, give_object, "a name that is taken")
    yield Component("evaluator", "nothing", Nothing, lambda config: None, "None")
    yield Component("schedule", "no_arguments", Nothing, no_arguments, "takes no config")
