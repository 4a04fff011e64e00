"""Measure first-letter absorption: latents of words that carry the direction of a letter."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from saecore.core.evaluator import Evaluator, LatentMetric, Metric, Metrics, NotApplicable
from saecore.core.model import ModelBackend
from saecore.core.normalizer import RUNTIME
from saecore.core.sae import SAE
from saecore.evaluation.batches import HeldOut, HookReader
from saecore.evaluation.probing import Probe
from saecore.ops.codes import Codes
from saecore_plugins.evaluators.absorption import AbsorptionConfig, spelling

FULL_COSINE = 0.025
"""Minimum cosine with the probe of a latent that absorbs the letter alone."""
PART_COSINE = 0.1
"""Minimum cosine with the probe of a latent that absorbs part of the letter."""
PROPORTION = 0.4
"""Minimum share of the activation's projection on the probe that absorbing latents must have."""
ABSORBERS = 3
"""Maximum number of latents that absorb together."""
FEWEST = 10
"""Minimum number of training words per letter, and twice the minimum number of test words."""


def build(config: AbsorptionConfig) -> Evaluator:
    """Build the evaluator."""
    return lambda sae, held_out: measure(sae, held_out, config)


def measure(sae: SAE, held_out: HeldOut, config: AbsorptionConfig) -> Metrics | NotApplicable:
    """Absorption of first letters at the words of a spelling task.

    For each letter, a probe is trained on the activations of four fifths of the words, and the
    letter's main latents are selected there (`main_latents`). Absorption is measured on the test
    words that begin with the letter and that the probes classify correctly (`absorbed`).

    - mean_absorption_fraction_score, mean_full_absorption_score: means over letters of the means
      over their words; mean_absorption_fraction, full_absorption_rate: per letter;
    - mean_num_split_features, num_split_features: main latents per letter;
    - spelling_accuracy: share of first letters that the model spells correctly.

    Source: Chanin et al. 2024, "A is for Absorption"; thresholds and names as in SAEBench's
    absorption_first_letter. Memory: d_in numbers and L0 latents per word.
    """
    backend = held_out.model
    if sae.separate_target or sae.several_hooks:
        return NotApplicable(
            "the latents write to another hook than the one whose probe is trained"
        )
    if sae.cfg.normalize_activations in RUNTIME:
        return NotApplicable("each activation is scaled separately, so latents do not add up")
    task = spelling.prompts(backend.tokenizer, config.words, config.examples, config.seed)
    if isinstance(task, NotApplicable):
        return task
    if backend.max_context is not None and task.tokens.shape[1] > backend.max_context:
        return NotApplicable(f"prompts have {task.tokens.shape[1]} tokens, the model takes fewer")
    accuracy = spelling.accuracy(backend, task, config.batch_size)
    if accuracy < config.spells:
        return NotApplicable(
            f"the model cannot spell: it names {accuracy:.0%} of first letters, and spells = "
            f"{config.spells:.0%} are needed"
        )
    if not _reads(sae, backend, task):
        return NotApplicable("the SAE does not read the position of the word in the prompt")
    x, codes = _read(sae, backend, task, config.batch_size)
    scale, decoder = sae.latent_scale(), sae.W_dec.detach().float()
    decoder = decoder if scale is None else decoder / scale[:, None]
    letters = absorption(x, codes, task.letters.to(x.device), decoder, config)
    if not letters:
        return NotApplicable("no letter has enough words that its probe recognizes; raise words")
    count = len(x)
    fraction = torch.tensor([letter.fraction for letter in letters])
    full = torch.tensor([letter.full for letter in letters])
    split = torch.tensor([float(letter.split) for letter in letters])
    values: dict[str, float | Tensor] = {
        "mean_absorption_fraction_score": fraction.mean(),
        "mean_full_absorption_score": full.mean(),
        "mean_num_split_features": split.mean(),
        "spelling_accuracy": accuracy,
    }
    labels = tuple(letter.letter for letter in letters)
    return {
        **{name: Metric(float(value), count, group="mean") for name, value in values.items()},
        "mean_absorption_fraction": LatentMetric(fraction, count, group="letters", labels=labels),
        "full_absorption_rate": LatentMetric(full, count, group="letters", labels=labels),
        "num_split_features": LatentMetric(split, count, group="letters", labels=labels),
    }


def _reads(sae: SAE, backend: ModelBackend, task: spelling.Prompts) -> bool:
    """Whether the SAE reads the position of the word in every prompt."""
    used = HookReader.of(sae, backend).used(task.tokens)
    return bool(used[:, task.position].all())


def _read(
    sae: SAE, backend: ModelBackend, task: spelling.Prompts, size: int
) -> tuple[Tensor, Codes]:
    """Activations at the words `[n, d_in]`, and their latents."""
    reader, device = HookReader.of(sae, backend), sae.W_dec.device
    xs, values, indices, counts = [], [], [], []
    for tokens in spelling.batches(task, size):
        at = torch.zeros_like(tokens, dtype=torch.bool, device=device)
        at[:, task.position] = True
        inputs = reader.activations(backend, tokens)[0].to(device).float()
        part = inputs[at]
        codes = sae.encode_sparse(inputs if sae.reads_contexts else part)
        codes = codes.take(at.flatten()) if sae.reads_contexts else codes
        xs.append(part)
        values.append(codes.values)
        indices.append(codes.indices)
        counts.append(codes.offsets[1:] - codes.offsets[:-1])
    offsets = torch.cat([counts[0].new_zeros(1), torch.cat(counts).cumsum(0)])
    joined = Codes.from_entries(torch.cat(values), torch.cat(indices), offsets, sae.cfg.d_sae)
    return torch.cat(xs), joined


@attrs.frozen(kw_only=True)
class Letter:
    """Absorption of one letter."""

    letter: str
    """The letter, upper case."""
    fraction: float
    """Mean absorption fraction of its test words."""
    full: float
    """Share of its test words that a single latent absorbs fully."""
    split: int
    """Number of main latents."""


def absorption(
    x: Tensor, codes: Codes, letters: Tensor, decoder: Tensor, config: AbsorptionConfig
) -> list[Letter]:
    """Absorption of each letter that has enough words.

    Args:
        x: activations at the words `[n, d]`.
        codes: their latents.
        letters: index of each word's first letter `[n]`.
        decoder: decoder rows, scaled to what a latent of 1 writes `[d_sae, d]`.
        config: the settings.
    """
    train = torch.ones(len(x), dtype=torch.bool, device=x.device)
    train[4::5] = False
    numbers = [
        number
        for number in letters.unique().tolist()
        if int((train & (letters == number)).sum()) >= FEWEST
        and int((~train & (letters == number)).sum()) >= FEWEST // 2
    ]
    probes = {number: Probe(x[train], letters[train] == number) for number in numbers}
    if not probes:
        return []
    logits = torch.stack([probe.logits(x) for probe in probes.values()], 1)  # [n, letters]
    predicted = letters.new_tensor(numbers)[logits.argmax(1)]
    results = []
    for number, probe in probes.items():
        is_letter = letters == number
        main = main_latents(codes, is_letter, train, config)
        words = ~train & is_letter & (predicted == number)
        if not bool(words.any()):
            continue
        direction = torch.nn.functional.normalize(probe.direction, dim=0).to(decoder)
        scores = absorbed(x[words], codes.take(words), main, decoder, direction)
        fraction, full = (float(score.mean()) for score in scores)
        name = spelling.LETTERS[number]
        results.append(Letter(letter=name, fraction=fraction, full=full, split=len(main)))
    return results


def main_latents(
    codes: Codes, is_letter: Tensor, train: Tensor, config: AbsorptionConfig
) -> Tensor:
    """Select the latents that represent a letter.

    Latents are ranked by the difference of their means between words with the letter and words
    without. The first is selected, then up to `max_k` in all while each raises the F1 of a probe
    on the selected latents by more than `f1_jump`.

    Args:
        codes: latents at the words.
        is_letter: mask of the words that begin with the letter `[n]`.
        train: mask of the training words `[n]`.
        config: the settings.

    Returns:
        Indices of latents `[k]`.
    """
    means = []
    for side in (is_letter, ~is_letter):
        part = codes.take(train & side)
        sums = torch.bincount(part.indices, weights=part.values.double(), minlength=codes.d_sae)
        means.append(sums / max(1, part.n_rows))
    ranked = (means[0] - means[1]).topk(min(config.max_k, codes.d_sae)).indices
    features, y = codes.take(train).dense(ranked), is_letter[train]
    best, count = 0.0, 1
    for k in range(1, len(ranked) + 1):
        predicted = Probe(features[:, :k], y).logits(features[:, :k]) > 0
        hits = float((predicted & y).sum())
        f1 = 2 * hits / max(1.0, float(predicted.sum() + y.sum()))
        if k > 1 and f1 - best <= config.f1_jump:
            break
        best, count = f1, k
    return ranked[:count]


def absorbed(
    x: Tensor, codes: Codes, main: Tensor, decoder: Tensor, direction: Tensor
) -> tuple[Tensor, Tensor]:
    """Absorption fraction and full absorption of each word.

    With p the probe's unit direction, latent i has the projection f_i d_i · p, and the activation
    has X = x · p. Let M be the sum of the main latents' projections, and A the sum of the
    `ABSORBERS` largest positive projections of other latents with cosine ≥ `PART_COSINE`.

    Fraction: 0 if M ≥ X or A < `PROPORTION` · X; 1 if M ≤ 0; else a / (a + M), a = min(A, X − M).

    Full: 1 if no main latent fires, X > 0, and the latent of the largest projection has cosine
    ≥ `FULL_COSINE` and a projection of at least `PROPORTION` · X; else 0.

    Args:
        x: activations `[n, d]`.
        codes: their latents.
        main: indices of the main latents `[k]`.
        decoder: decoder rows, scaled to what a latent of 1 writes `[d_sae, d]`.
        direction: p `[d]`.

    Returns:
        Fractions `[n]` and full absorption `[n]`.
    """
    n, d_sae = codes.n_rows, codes.d_sae
    along = decoder @ direction  # [d_sae]
    cosine = along / decoder.norm(dim=1).clamp(min=1e-12)
    is_main = torch.zeros(d_sae, dtype=torch.bool, device=decoder.device)
    is_main[main] = True
    projection = codes.values * codes.per_latent(along)
    from_main = codes.per_latent(is_main)
    total = x @ direction  # X
    main_sum = codes.sum_per_row(torch.where(from_main, projection, 0.0))  # M
    main_fires = codes.sum_per_row((from_main & codes.firing()).float()) > 0
    absorbs = ~from_main & (codes.per_latent(cosine) >= PART_COSINE) & (projection > 0)
    table = projection.new_zeros(n, d_sae)
    table[codes.rows[absorbs], codes.indices[absorbs]] = projection[absorbs]
    absorbed_sum = table.topk(min(ABSORBERS, d_sae), 1).values.sum(1)  # A
    part = torch.minimum(absorbed_sum, total - main_sum)
    fraction = torch.where(main_sum <= 0, 1.0, part / (part + main_sum).clamp(min=1e-12))
    not_absorbed = (main_sum >= total) | (absorbed_sum < PROPORTION * total)
    fraction = torch.where(not_absorbed, 0.0, fraction)
    table.zero_()
    table[codes.rows, codes.indices] = projection
    top = table.max(1)
    aligned = cosine[top.indices] >= FULL_COSINE
    full = ~main_fires & aligned & (total > 0) & (top.values >= PROPORTION * total)
    return fraction, full.double()
