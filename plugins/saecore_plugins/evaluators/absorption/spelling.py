"""The spelling task: prompts that ask for the first letter of a word, and the model's accuracy."""

from __future__ import annotations

import string
from collections.abc import Iterator
from typing import Any

import attrs
import torch
from torch import Tensor

from saecore.core.evaluator import NotApplicable
from saecore.core.model import ModelBackend
from saecore.randomness import generator

QUESTION = " has the first letter:"
"""Follows the word in a prompt."""
LETTERS = string.ascii_uppercase
ACCURACY_WORDS = 128
"""Number of words on which the model's accuracy is measured."""


@attrs.frozen(eq=False, kw_only=True)
class Prompts:
    """One prompt per word, all of one length."""

    tokens: Tensor
    """`[n, T]`."""
    position: int
    """Position of the word whose first letter is asked for."""
    letters: Tensor
    """Index of its first letter `[n]`, 0 for A."""
    answers: Tensor
    """Token of each letter `[26]`."""


def prompts(tokenizer: Any, words: int, examples: int, seed: int) -> Prompts | NotApplicable:
    """Build prompts for words that are single tokens, in random order.

    A prompt consists of lines "word has the first letter: W"; the last lacks the answer.

    Args:
        tokenizer: the model's tokenizer, or None.
        words: maximum number of words.
        examples: solved examples per prompt.
        seed: seed of the words and examples.

    Returns:
        The prompts; `NotApplicable` if the tokenizer has too few such words, or no single tokens
        for letters.
    """
    if tokenizer is None:
        return NotApplicable("the model has no tokenizer, so it has no words to spell")

    def ids(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False))

    answers = [ids(f" {letter}") for letter in LETTERS]
    if any(len(answer) != 1 for answer in answers):
        return NotApplicable('the tokenizer has no single tokens for letters, such as " A"')
    vocabulary: dict[str, int] = {}
    for token in sorted(set(tokenizer.get_vocab().values())):
        text = tokenizer.decode([token])
        word = text[1:]
        if text.startswith(" ") and len(word) >= 3 and word.isascii() and word.isalpha():
            vocabulary.setdefault(word.lower(), token)
    if len(vocabulary) < 100:
        return NotApplicable(
            f"the tokenizer has {len(vocabulary)} words as single tokens, under 100"
        )
    names = sorted(vocabulary)
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
            row += [*line, vocabulary[other], *question, *answer]
        rows.append([*row, *line, vocabulary[word], *question])
    letters = torch.tensor([LETTERS.index(word[0].upper()) for word in chosen])
    tokens = torch.tensor(rows)
    position = tokens.shape[1] - len(question) - 1
    return Prompts(
        tokens=tokens,
        position=position,
        letters=letters,
        answers=torch.tensor([answer[0] for answer in answers]),
    )


def accuracy(backend: ModelBackend, task: Prompts, batch_size: int) -> float:
    """Share of words whose first letter is the likeliest next token among the 26 letters."""
    right, count = 0, min(ACCURACY_WORDS, len(task.tokens))
    for start in range(0, count, batch_size):
        part = slice(start, min(start + batch_size, count))
        logits = backend.run_with(task.tokens[part], {})[:, -1]
        predicted = logits[:, task.answers.to(logits.device)].argmax(1).cpu()
        right += int((predicted == task.letters[part]).sum())
    return right / count


def batches(task: Prompts, size: int) -> Iterator[Tensor]:
    """The prompts in batches of tokens `[B, T]`."""
    yield from task.tokens.split(size)
