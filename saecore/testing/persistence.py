"""Checks of what an architecture saves: inference form, files, state in mid-run."""

from __future__ import annotations

import copy
import inspect
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saecore.core.sae import SAE
from saecore.errors import SaecoreError
from saecore.randomness import generator
from saecore.storage import checkpoint
from saecore.testing.component import fail
from saecore.testing.fakes import trainer

STEPS, CUT = 8, 5


def check_published(subject: object, sae: SAE, x: Tensor, same_features: bool) -> None:
    """Check that `to_inference` copies, keeps features, and survives saving and loading."""
    if "in_place" not in inspect.signature(sae.to_inference).parameters:
        fail(
            subject,
            "to_inference does not accept in_place",
            "define it as to_inference(self, *, in_place=False) and pass in_place to super()",
        )
    before = copy.deepcopy(sae.state_dict())
    result = sae.to_inference().eval()
    if not isinstance(result, SAE) or result is sae:
        fail(subject, "to_inference gave no other SAE", "return a copy, in the published form")
    for name, tensor in sae.state_dict().items():
        if isinstance(tensor, Tensor) and not torch.equal(tensor, before[name]):
            fail(
                subject,
                f"to_inference changed {name} of the SAE that is being trained",
                "change a copy: super().to_inference() makes one",
            )
    if same_features:
        for what, ours, theirs in (
            ("features", result.encode(x), sae.encode(x)),
            ("reconstruction", result(x), sae(x)),
        ):
            if not torch.allclose(ours, theirs, rtol=1e-8, atol=1e-8):
                fail(
                    subject,
                    f"to_inference changes the {what}",
                    "override fold_scale together with latent_scale; if the inference form has "
                    'other features on purpose, pass skip=["inference"]',
                )
    _check_files(subject, result, x)


def _check_files(subject: object, sae: SAE, x: Tensor) -> None:
    with tempfile.TemporaryDirectory() as directory:
        try:
            sae.save_model(Path(directory))
            again = SAE.load_from_disk(directory)
        except (SaecoreError, RuntimeError, KeyError, AttributeError) as error:
            fail(
                subject,
                f"its published SAE cannot be saved and loaded: {type(error).__name__}: {error}",
                "keep the base's parameters, name what differs in file_form.saved_fields, and "
                "let to_inference return what can be loaded",
            )
    for what, ours, theirs in (
        ("features", again.encode(x), sae.encode(x)),
        ("reconstruction", again(x), sae(x)),
    ):
        if not torch.equal(ours, theirs):
            fail(
                subject,
                f"saved and loaded, it gives other numbers: {what}",
                "make everything that decides it a parameter, a registered buffer or a setting "
                "in file_form.saved_fields",
            )


def check_folding(subject: object, sae: SAE, x: Tensor, factor: float = 1.7) -> None:
    """Check that `scale_input` lets the SAE read raw activations.

    The same latents fire, and the reconstruction is divided by the factor. Features in units of
    decoder norms shrink with these, as in SAELens.
    """
    folded = copy.deepcopy(sae)
    folded.scale_input(factor)
    expected = sae(x * factor) / factor
    fired = (folded.encode(x) != 0) == (sae.encode(x * factor) != 0)
    if not bool(fired.all()) or not torch.allclose(folded(x), expected, rtol=1e-8, atol=1e-8):
        what = "other latents fire" if not bool(fired.all()) else "the reconstruction is another"
        fail(
            subject,
            f"after scale_input({factor}) {what} for x than for {factor} x before",
            "override scale_input for what this architecture adds (thresholds, gates, further "
            'matrices); if that is impossible, pass skip=["folding"]',
        )


def check_training(subject: object, build: Callable[[], SAE]) -> None:
    """Check that a seed determines the bits, and that resuming continues with the same bits."""
    with torch.random.fork_rng(devices=[]):
        first, second = _trained(build, 1), _trained(build, 2)
        _compare(
            subject,
            first[0],
            second[0],
            "two trainings with one seed end with different numbers: {}",
            "draw random numbers from the generator that initialize gets and from "
            "context.generator(stream), never from torch's global one",
        )
        resumed = _resumed(subject, build, first[1])
    _compare(
        subject,
        resumed,
        first[0],
        "resumed from a saved state, training ends with different numbers: {}",
        "register what changes during training as a buffer (register_buffer), so that it is in "
        "state_dict",
    )


def _trained(build: Callable[[], SAE], global_seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train; return the final state and the state in the middle."""
    torch.manual_seed(global_seed)  # detects draws from the global generator
    sae = build()
    sae.initialize(generator(0, "init"), 0.5)
    training = trainer(sae, STEPS)
    state: dict[str, Any] = {}
    for number in range(STEPS):
        if number == CUT:
            state = copy.deepcopy(training.state_dict())
        training.step()
    return _end(training), state


def _resumed(subject: object, build: Callable[[], SAE], state: Mapping[str, Any]) -> dict[str, Any]:
    training = trainer(build(), STEPS)
    with tempfile.TemporaryDirectory() as directory:
        try:
            path = checkpoint.save(Path(directory), CUT, state, 2)
            training.load_state_dict(checkpoint.load(path))
        except (SaecoreError, TypeError, ValueError, KeyError, RuntimeError) as error:
            fail(
                subject,
                f"its state in mid-run cannot be saved and loaded: {type(error).__name__}: {error}",
                "keep tensors, numbers, strings, lists and tables in state_dict",
            )
    while training.completed < STEPS:
        training.step()
    return _end(training)


def _end(training: Any) -> dict[str, Any]:
    exported = training.export()
    features = exported.encode(training.source.inputs[:8])
    return {**training.sae.state_dict(), "metrics": training.read_metrics(), "features": features}


def _compare(
    subject: object, ours: Mapping[str, Any], theirs: Mapping[str, Any], finding: str, remedy: str
) -> None:
    for name, their in theirs.items():
        other = ours[name]
        same = torch.equal(their, other) if isinstance(their, Tensor) else their == other
        if not same:
            fail(subject, finding.format(name), remedy)
