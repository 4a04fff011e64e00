"""A model with planted features, a tokenizer of words that carry them, and SAEs for them."""

import string

import attrs
import torch

from saecore import Shape
from saecore.core.sae_config import Metadata
from saecore.evaluation.batches import HeldOut
from saecore.evaluation.evaluate import run_evaluators
from saecore.plugins.structure import structure_choice


class Words:
    """A tokenizer over a list of pieces; id 0 is BOS."""

    bos_token_id = 0

    def __init__(self, pieces):
        self.pieces = ["<bos>", *pieces]
        self.ids = {piece: i for i, piece in enumerate(self.pieces)}

    def encode(self, text, add_special_tokens=False):
        """Ids of the pieces, the longest match first."""
        ids = []
        while text:
            piece = max((piece for piece in self.pieces if text.startswith(piece)), key=len)
            ids.append(self.ids[piece])
            text = text[len(piece) :]
        return ids

    def decode(self, ids):
        """The pieces, joined."""
        return "".join(self.pieces[i] for i in ids)

    def get_vocab(self):
        """Ids of the pieces."""
        return dict(self.ids)


class Planted:
    """A model with one hook, `h`, at which each token has its own features along the axes.

    Args:
        tokenizer: the tokenizer.
        features: activations of each token `[vocab, d]`.
        says: the predicted answer to a question about each token `[vocab]`.
    """

    name, max_context, convention = "planted", None, "raw"
    identity = {"name": "planted"}  # noqa: RUF012

    def __init__(self, tokenizer, features, says=None):
        self.tokenizer, self.features, self.says = tokenizer, features, says
        self.vocab_size = len(tokenizer.pieces)
        self.batches = []

    def d(self, hook):
        """The size of the features."""
        return (self.features.shape[1],)

    def activations(self, tokens, hooks):
        """The features of the tokens."""
        self.batches.append(tuple(tokens.shape))
        return dict.fromkeys(hooks, self.features[tokens])

    def run_with(self, tokens, replace, gradients=False):
        """Logits with a single peak at `says` of the word before the question."""
        answer = self.says[tokens[:, -2]]
        logits = torch.zeros(*tokens.shape, self.vocab_size)
        logits[torch.arange(len(tokens)), -1, answer] = 10.0
        return logits


def sae_of(encoder, decoder, bias=-1e-3, **metadata):
    """A ReLU SAE with these encoder and decoder rows `[d_sae, d]`; weak latents do not fire."""
    table = {"architecture": "standard", "l1_coefficient": 0.0, "apply_b_dec_to_input": False}
    shape = Shape(encoder.shape[1], decoder.shape[1], len(encoder))
    sae = structure_choice("architecture", table).build(shape)
    with torch.no_grad():
        sae.encoder.copy_(encoder)
        sae.W_dec.copy_(decoder)
        sae.b_enc.fill_(bias)
    sae.cfg = attrs.evolve(sae.cfg, metadata=Metadata({"hook_name": "h", **metadata}))
    return sae.eval()


def run(name, sae, model=None, contexts=None, **settings):
    """The result of one evaluator."""
    return run_on(HeldOut(model=model, contexts=contexts), name, sae, **settings)


def run_on(held_out, name, sae, **settings):
    """The result of one evaluator on any held-out data."""
    table = {"type": name, **settings}
    evaluator = structure_choice("evaluator", table).build()
    return run_evaluators(sae, held_out, {name: evaluator})


def values(result):
    """The metrics of the only evaluator, by name."""
    return {
        key: metric.value for metrics in result.figures.values() for key, metric in metrics.items()
    }


def spelling(letters="abcd", words=30, absorbed=6, knows=True):
    """A spelling task over invented words, in which some words of the first letter are absorbed.

    Returns:
        The model, an SAE with a latent per letter and per absorbed word, and the absorbed words.
    """
    vocabulary = {
        letter: [f" {letter}{x}{y}z" for x in string.ascii_lowercase for y in "aeiou"][:words]
        for letter in letters
    }
    tokenizer = Words(
        [*(f" {letter}" for letter in string.ascii_uppercase), " has the first letter:", "\n"]
        + [word for group in vocabulary.values() for word in group]
    )
    hidden = vocabulary[letters[0]][::5][:absorbed]
    d = len(letters) + absorbed + 8
    features = torch.zeros(len(tokenizer.pieces), d)
    features[:, -8:] = 0.05 * torch.randn(
        len(features), 8, generator=torch.Generator().manual_seed(0)
    )
    says = torch.zeros(len(features), dtype=torch.int64)
    for number, letter in enumerate(letters):
        for word in vocabulary[letter]:
            features[tokenizer.ids[word], number] = 1.0
            answer = letter if knows else "q"
            says[tokenizer.ids[word]] = tokenizer.ids[f" {answer.upper()}"]
    for number, word in enumerate(hidden):
        features[tokenizer.ids[word], len(letters) + number] = 1.0
    eye = torch.eye(d)
    first = eye[: len(letters)].clone()
    first[0, len(letters) : len(letters) + absorbed] = -2.0  # silent on absorbed words
    of_words = eye[len(letters) : len(letters) + absorbed]
    encoder = torch.cat([first, of_words])
    decoder = torch.cat([eye[: len(letters)], of_words + eye[0]])
    return Planted(tokenizer, features, says), sae_of(encoder, decoder), hidden
