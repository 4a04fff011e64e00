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
    yield Component(
        kind="activation",
        name="abstract",
        config=Nothing,
        build="saecore_bad.sae:Abstract",
        summary="no select",
    )
    yield Component(
        kind="architecture", name="no_sae", config=Nothing, build=give_object, summary="no SAE"
    )
    yield Component(
        kind="command",
        name="no_command",
        config=Nothing,
        build=lambda: "echo",
        summary="no command",
    )
    yield Component(kind="dataset", name="list", config=Nothing, build=give_list, summary="a list")
    yield Component(
        kind="dead_latents",
        name="auxk",
        config=Nothing,
        build=give_object,
        summary="a name that is taken",
    )
    yield Component(
        kind="evaluator", name="nothing", config=Nothing, build=lambda config: None, summary="None"
    )
    yield Component(
        kind="schedule",
        name="no_arguments",
        config=Nothing,
        build=no_arguments,
        summary="takes no config",
    )
