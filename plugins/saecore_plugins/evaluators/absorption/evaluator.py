"""How much of a first letter's direction latents of other things have taken over."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from saecore.backend import ModelBackend
from saecore.codes import Codes
from saecore.evaluation import Evaluator, Reading
from saecore.figures import Figure, Figures, NotApplicable, Vector
from saecore.normalize import RUNTIME
from saecore.probing import Probe
from saecore.sae import SAE
from saecore_plugins.evaluators.absorption import AbsorptionConfig, spelling

FULL_COSINE = 0.025
"""Least cosine with the probe of a latent that absorbs alone."""
PART_COSINE = 0.1
"""Least cosine of one that absorbs a part."""
PROPORTION = 0.4
"""Least share of the activation's projection on the probe that absorbing latents must have."""
ABSORBERS = 3
"""Most latents that absorb together."""
FEWEST = 10
"""Fewest words of a letter to train on, and half as many to test on."""


def build(config: AbsorptionConfig) -> Evaluator:
    """Make the evaluator."""
    return lambda sae, backend, tokens: measure(sae, backend, config)


def measure(sae: SAE, backend: ModelBackend, config: AbsorptionConfig) -> Figures:
    """Absorption of first letters, at the words of a spelling task.

    A probe of each letter is trained on the activations of four fifths of the words, its main
    latents are found there (`main_latents`), and `absorbed` is asked of the test words that begin
    with the letter and whose probe is the highest of all. mean_absorption_fraction_score and
    mean_full_absorption_score: means over letters of the means over their words;
    mean_num_split_features: main latents per letter; spelling_accuracy: first letters that the
    model names. Source: Chanin et al. 2024, "A is for Absorption"; thresholds and names as in
    SAEBench's absorption_first_letter. Memory: d_in numbers and L0 features per word.
    """
    if sae.separate_target or sae.several_hooks:
        raise NotApplicable("the latents write to another hook than the one whose probe is trained")
    if sae.cfg.normalize_activations in RUNTIME:
        raise NotApplicable("every activation has a scale of its own, so features do not add up")
    task = spelling.prompts(backend.tokenizer, config.words, config.examples, config.seed)
    if backend.max_context is not None and task.tokens.shape[1] > backend.max_context:
        raise NotApplicable(f"prompts have {task.tokens.shape[1]} tokens, the model takes fewer")
    spells = spelling.accuracy(backend, task, config.batch_size)
    if spells < config.spells:
        raise NotApplicable(
            f"the model cannot spell: it names {spells:.0%} of first letters, and spells = "
            f"{config.spells:.0%} are needed"
        )
    x, codes = _read(sae, backend, task, config.batch_size)
    scale, rows = sae.latent_scale(), sae.W_dec.detach().float()
    rows = rows if scale is None else rows / scale[:, None]
    found = absorption(x, codes, task.letters.to(x.device), rows, config)
    names = [one.letter for one in found]
    if not found:
        raise NotApplicable("no letter has enough words that its probe recognises; raise words")
    count = len(x)
    fraction = torch.tensor([one.fraction for one in found])
    full = torch.tensor([one.full for one in found])
    split = torch.tensor([float(one.split) for one in found])
    values: dict[str, float | Tensor] = {
        "mean_absorption_fraction_score": fraction.mean(),
        "mean_full_absorption_score": full.mean(),
        "mean_num_split_features": split.mean(),
        "spelling_accuracy": spells,
    }
    labels = tuple(names)
    return {
        **{name: Figure(float(one), count, "mean") for name, one in values.items()},
        "mean_absorption_fraction": Vector(fraction, count, "letters", labels),
        "full_absorption_rate": Vector(full, count, "letters", labels),
        "num_split_features": Vector(split, count, "letters", labels),
    }


def _read(
    sae: SAE, backend: ModelBackend, task: spelling.Prompts, size: int
) -> tuple[Tensor, Codes]:
    """Activations at the words `[n, d_in]`, and their features."""
    reading, device = Reading.of(sae, backend), sae.W_dec.device
    xs, values, indices, counts = [], [], [], []
    for tokens in spelling.batches(task, size):
        at = torch.zeros_like(tokens, dtype=torch.bool, device=device)
        at[:, task.position] = True
        if not bool(reading.used(tokens)[:, task.position].all()):
            raise NotApplicable("the SAE does not read the position of the word in the prompt")
        inputs = reading.activations(backend, tokens)[0].to(device).float()
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


@attrs.frozen
class Letter:
    """What was found of a letter."""

    letter: str
    fraction: float
    """Mean absorption fraction of its words."""
    full: float
    """Share of its words that one latent has absorbed wholly."""
    split: int
    """Main latents."""


def absorption(
    x: Tensor, codes: Codes, letters: Tensor, rows: Tensor, config: AbsorptionConfig
) -> list[Letter]:
    """Absorption of each letter that has enough words.

    Args:
        x: activations `[n, d]`.
        codes: their features.
        letters: numbers of letters `[n]`.
        rows: what a feature of 1 writes `[d_sae, d]`.
        config: the settings.
    """
    train = torch.ones(len(x), dtype=torch.bool, device=x.device)
    train[4::5] = False
    enough = [
        one
        for one in letters.unique().tolist()
        if int((train & (letters == one)).sum()) >= FEWEST
        and int((~train & (letters == one)).sum()) >= FEWEST // 2
    ]
    probes = {one: Probe(x[train], letters[train] == one) for one in enough}
    if not probes:
        return []
    logits = torch.stack([one.logits(x) for one in probes.values()], 1)  # [n, letters]
    said = letters.new_tensor(enough)[logits.argmax(1)]
    found = []
    for one, probe in probes.items():
        main = main_latents(codes, letters == one, train, config)
        words = (~train & (letters == one) & (said == one)).nonzero()[:, 0]
        if not len(words):
            continue
        kept = torch.zeros_like(train)
        kept[words] = True
        direction = torch.nn.functional.normalize(probe.direction, dim=0).to(rows)
        scores = absorbed(x[words], codes.take(kept), main, rows, direction)
        fraction, full = (float(score.mean()) for score in scores)
        found.append(Letter(spelling.LETTERS[one], fraction, full, len(main)))
    return found


def main_latents(codes: Codes, wanted: Tensor, train: Tensor, config: AbsorptionConfig) -> Tensor:
    """The latents that stand for a letter `[k]`.

    Of the `max_k` latents whose means differ most between its words and others, in that order, the
    first, and as many more as each raise the F1 of a probe on them by more than `f1_jump`.
    """
    on, off = (codes.take(train & side) for side in (wanted, ~wanted))
    means = [
        torch.bincount(one.indices, weights=one.values.double(), minlength=codes.d_sae)
        / max(1, one.n_rows)
        for one in (on, off)
    ]
    ranked = (means[0] - means[1]).topk(min(config.max_k, codes.d_sae)).indices
    features, y = codes.take(train).dense(ranked), wanted[train]
    best, count = 0.0, 1
    for k in range(1, len(ranked) + 1):
        said = Probe(features[:, :k], y).logits(features[:, :k]) > 0
        hits = float((said & y).sum())
        f1 = 2 * hits / max(1.0, float(said.sum() + y.sum()))
        if k > 1 and f1 - best <= config.f1_jump:
            break
        best, count = f1, k
    return ranked[:count]


def absorbed(
    x: Tensor, codes: Codes, main: Tensor, rows: Tensor, direction: Tensor
) -> tuple[Tensor, Tensor]:
    """Absorption fraction and full absorption of each word `[n]`.

    With p the probe's unit direction, latent i projects f_i d_i · p. Fraction: the `ABSORBERS`
    largest positive projections of latents that are not main and have cosine ≥ `PART_COSINE` with
    p make A, the main latents' M, the activation x · p = X; 0 if M ≥ X or A < `PROPORTION` · X; 1
    if M ≤ 0; else a / (a + M) with a = min(A, X − M). Full: no main latent fires, X > 0, and the
    latent of the largest projection has cosine ≥ `FULL_COSINE` and at least `PROPORTION` · X.
    """
    n, d_sae = codes.n_rows, codes.d_sae
    along = rows @ direction  # [d_sae]
    cosine = along / rows.norm(dim=1).clamp(min=1e-12)
    is_main = torch.zeros(d_sae, dtype=torch.bool, device=rows.device)
    is_main[main] = True
    projection = codes.values * codes.per_latent(along)
    mine = codes.per_latent(is_main)
    whole = x @ direction
    of_main = codes.sum_per_row(torch.where(mine, projection, 0.0))
    fires = codes.sum_per_row((mine & codes.firing()).float()) > 0
    able = ~mine & (codes.per_latent(cosine) >= PART_COSINE) & (projection > 0)
    table = projection.new_zeros(n, d_sae)
    table[codes.rows[able], codes.indices[able]] = projection[able]
    others = table.topk(min(ABSORBERS, d_sae), 1).values.sum(1)
    part = torch.minimum(others, whole - of_main)
    fraction = torch.where(of_main <= 0, 1.0, part / (part + of_main).clamp(min=1e-12))
    nothing = (of_main >= whole) | (others < PROPORTION * whole)
    fraction = torch.where(nothing, 0.0, fraction)
    table.zero_()
    table[codes.rows, codes.indices] = projection
    top = table.max(1)
    aligned = cosine[top.indices] >= FULL_COSINE
    full = ~fires & aligned & (whole > 0) & (top.values >= PROPORTION * whole)
    return fraction, full.double()
