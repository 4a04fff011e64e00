"""The contracts of normalizers and of strategies for dead latents."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

import attrs
import torch
from torch import Tensor

from saecore.core.step import Batch, StepContext, StepOutput
from saecore.errors import SaecoreError
from saecore.storage import checkpoint
from saecore.testing.component import Settings, check_component, fail
from saecore.testing.fakes import D_IN, D_SAE, TOKENS, PlainSAE, context, plain_sae, rows


def check_normalizer(name: str, settings: Settings = None) -> None:
    """Check a normalizer: apply, fold and the state.

    On raw activations a folded SAE has the features that the SAE had on normalized ones, and its
    reconstructions are raw: `fold` keeps an SAE that reconstructs every input exactly so.

    Raises:
        Nonconformance: with what to change.
    """
    choice = check_component("normalizer", name, settings)
    subject, normalizer = choice.component, choice.build()
    if not isinstance(normalizer.tokens, int) or normalizer.tokens < 0:
        fail(subject, f"tokens is {normalizer.tokens!r}", "give the number to estimate from, or 0")
    raw = 3 * rows("raw", 4 * TOKENS, D_IN) + 0.5
    if normalizer.tokens:
        normalizer.estimate(Batch(part, part) for part in raw.split(TOKENS))
    batch = Batch(raw, raw)
    applied = normalizer.apply(batch)
    if applied.inputs.shape != raw.shape or applied.targets.shape != raw.shape:
        fail(subject, "apply changes the shape", "scale inputs and targets: batch.map(function)")
    if not torch.equal(batch.inputs, 3 * rows("raw", 4 * TOKENS, D_IN) + 0.5):
        fail(subject, "apply changes its batch in place", "return a new batch: batch.map(function)")
    restore = normalizer.restorer(batch)
    if restore is not None and not torch.allclose(
        restore(applied.targets), raw, rtol=1e-3, atol=1e-3
    ):
        fail(
            subject,
            "restorer(batch) does not undo apply(batch)",
            "return the inverse, or None if the loss is computed on normalized activations",
        )
    folded = plain_sae()
    normalizer.fold(folded)
    if not torch.allclose(folded.encode(raw), plain_sae().encode(applied.inputs)):
        fail(
            subject,
            "a folded SAE has other features on raw activations than before on normalized ones",
            "move the scale into encoder and biases, as sae.scale_input(factor) does",
        )
    exact = _exact()
    normalizer.fold(exact)
    if not torch.allclose(exact(raw), raw, rtol=1e-3, atol=1e-3):
        fail(
            subject,
            "a folded SAE that should reconstruct every input does not",
            "undo the scale in W_dec and b_dec, as sae.scale_input(factor) does",
        )
    fresh = choice.build()
    with tempfile.TemporaryDirectory() as directory:
        state = {"normalizer": normalizer.state_dict()}
        try:
            saved = checkpoint.load(checkpoint.save(Path(directory), 1, state, 2))
        except (SaecoreError, TypeError, ValueError, KeyError) as error:
            fail(
                subject,
                f"its state cannot be saved and loaded: {type(error).__name__}: {error}",
                "keep tensors, numbers, strings, lists and tables in state_dict",
            )
    fresh.load_state_dict(saved["normalizer"])
    if not torch.equal(fresh.apply(batch).inputs, applied.inputs):
        fail(
            subject,
            "with its state loaded it scales differently",
            "put the whole estimate into state_dict",
        )


def _exact() -> PlainSAE:
    """ReLU(z) − ReLU(−z) = z: an SAE that reconstructs everything."""
    sae = plain_sae()
    with torch.no_grad():
        sae.b_enc.zero_()
        for matrix in (sae.encoder, sae.W_dec):
            matrix.zero_()
            matrix[:D_IN] = torch.eye(D_IN)
            matrix[D_IN : 2 * D_IN] = -torch.eye(D_IN)
    return sae


def check_dead_latents(name: str, settings: Settings = None) -> None:
    """Check a strategy for dead latents: its losses with no, some and all latents dead.

    Raises:
        Nonconformance: with what to change.
    """
    choice = check_component("dead_latents", name, settings)
    subject, strategy = choice.component, choice.build()
    after = strategy.after_tokens(TOKENS)
    if not isinstance(after, int) or after < 1:
        fail(
            subject,
            f"after_tokens({TOKENS}) is {after!r}",
            "give the tokens after which a silent latent is dead, as an int ≥ 1",
        )
    inputs = rows("x", TOKENS, D_IN)
    batch = Batch(inputs, inputs)
    shares = (torch.zeros(D_SAE), torch.arange(D_SAE) % 3 == 0, torch.ones(D_SAE))
    for dead in shares:
        sae = plain_sae()
        step = attrs.evolve(context(batch, D_SAE), dead=dead.bool())
        output = sae.training_step(batch, step)
        before = copy.copy(output.losses)
        losses = _losses(subject, strategy, sae, batch, output, step)
        if output.losses != before:
            fail(
                subject,
                "losses changes the step's own losses",
                "return the losses to add, and leave `output` alone",
            )
        torch.stack([output.total, *losses.values()]).sum().backward()
        for key, parameter in sae.named_parameters():
            if parameter.grad is None or not bool(parameter.grad.isfinite().all()):
                fail(
                    subject,
                    f"with {int(dead.sum())} of {D_SAE} latents dead, the gradient of {key} is "
                    "not finite",
                    "look for divisions by the number of dead latents, and roots at zero",
                )
        if any(strategy.acts(number) for number in range(10_000)):
            optimizer = torch.optim.Adam(sae.parameters(), lr=1e-3)
            optimizer.step()
            revived = strategy.after_step(sae, optimizer, batch, step)
            if revived.shape != (D_SAE,) or revived.dtype != torch.bool:
                fail(
                    subject,
                    f"after_step gave {list(revived.shape)} of {revived.dtype}",
                    "return a mask of the revived latents: [d_sae], bool",
                )


def _losses(
    subject: object,
    strategy: object,
    sae: PlainSAE,
    batch: Batch,
    output: StepOutput,
    step: StepContext,
) -> dict[str, Tensor]:
    losses: dict[str, Tensor] = strategy.losses(sae, batch, output, step)  # type: ignore[attr-defined]
    if not isinstance(losses, dict):
        fail(subject, f"losses gave a {type(losses).__name__}", "return losses by name")
    for key, loss in losses.items():
        if not isinstance(loss, Tensor) or loss.dim() or not bool(loss.isfinite()):
            fail(
                subject,
                f"with {int(step.dead.sum())} of {D_SAE} latents dead, {key!r} is no finite "
                "scalar tensor",
                "return zero if there is nothing to do, and average over tokens",
            )
    return losses
