"""Prompts that ask for the first letter of a word, and whether the model knows."""

from __future__ import annotations

import string
from collections.abc import Iterator
from typing import Any

import attrs
import torch
from torch import Tensor

from saecore.backend import ModelBackend
from saecore.figures import NotApplicable
from saecore.randomness import generator

QUESTION = " has the first letter:"
LETTERS = string.ascii_uppercase
LOOKED_AT = 128
"""Words on which it is seen whether the model spells."""


@attrs.frozen(eq=False)
class Prompts:
    """Prompts of one length, one for each word."""

    tokens: Tensor
    """`[n, T]`."""
    position: int
    """Where the word stands whose first letter is asked for."""
    letters: Tensor
    """Number of its first letter `[n]`, 0 for A."""
    answers: Tensor
    """Tokens of the letters `[26]`."""


def prompts(tokenizer: Any, words: int, examples: int, seed: int) -> Prompts:
    """The task over words that are single tokens, in a random order.

    A prompt is lines "word has the first letter: W", the last without its answer.

    Raises:
        NotApplicable: the tokenizer has no such words, or no tokens of single letters.
    """
    if tokenizer is None:
        raise NotApplicable("the model has no tokenizer, so it has no words to spell")

    def ids(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False))

    answers = [ids(f" {one}") for one in LETTERS]
    if any(len(one) != 1 for one in answers):
        raise NotApplicable('the tokenizer has no single tokens for letters, such as " A"')
    found: dict[str, int] = {}
    for token in sorted(set(tokenizer.get_vocab().values())):
        text = tokenizer.decode([token])
        word = text[1:]
        if text.startswith(" ") and len(word) >= 3 and word.isascii() and word.isalpha():
            found.setdefault(word.lower(), token)
    if len(found) < 100:
        raise NotApplicable(f"the tokenizer has {len(found)} words as single tokens, under 100")
    names = sorted(found)
    draw = generator(seed, "absorption")
    order = torch.randperm(len(names), generator=draw)[:words].tolist()
    chosen = [names[i] for i in order]
    question, line = ids(QUESTION), ids("\n")
    bos = getattr(tokenizer, "bos_token_id", None)
    rows = []
    for word in chosen:
        row = [] if bos is None else [int(bos)]
        picked = torch.randint(len(chosen) - 1, (examples,), generator=draw).tolist()
        others = [chosen[i] if chosen[i] != word else chosen[-1] for i in picked]
        for other in others:
            answer = answers[LETTERS.index(other[0].upper())]
            row += [*line, found[other], *question, *answer]
        rows.append([*row, *line, found[word], *question])
    letters = torch.tensor([LETTERS.index(one[0].upper()) for one in chosen])
    tokens = torch.tensor(rows)
    position = tokens.shape[1] - len(question) - 1
    return Prompts(tokens, position, letters, torch.tensor([one[0] for one in answers]))


def accuracy(backend: ModelBackend, task: Prompts, batch_size: int) -> float:
    """Share of first letters that are the likeliest of the 26 next tokens."""
    right, count = 0, min(LOOKED_AT, len(task.tokens))
    for start in range(0, count, batch_size):
        part = slice(start, min(start + batch_size, count))
        logits = backend.run_with(task.tokens[part], {})[:, -1]
        said = logits[:, task.answers.to(logits.device)].argmax(1).cpu()
        right += int((said == task.letters[part]).sum())
    return right / count


def batches(task: Prompts, size: int) -> Iterator[Tensor]:
    """The prompts' tokens in batches."""
    yield from task.tokens.split(size)
