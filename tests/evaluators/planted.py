"""A model whose activations are sums of known features, words that carry them, and SAEs of them."""

import string

import attrs
import torch

from saecore import Shape
from saecore.config.structure import structure_choice
from saecore.plugins import current_host
from saecore.sae_config import Metadata


class Words:
    """A tokenizer of a list of pieces; id 0 begins a text."""

    bos_token_id = 0

    def __init__(self, pieces):
        self.pieces = ["<bos>", *pieces]
        self.ids = {piece: i for i, piece in enumerate(self.pieces)}

    def encode(self, text, add_special_tokens=False):
        """The longest pieces first."""
        found = []
        while text:
            piece = max((one for one in self.pieces if text.startswith(one)), key=len)
            found.append(self.ids[piece])
            text = text[len(piece) :]
        return found

    def decode(self, ids):
        """The pieces together."""
        return "".join(self.pieces[i] for i in ids)

    def get_vocab(self):
        """Ids of the pieces."""
        return dict(self.ids)


class Planted:
    """A model with one hook, `h`: each token has features, in orthogonal directions.

    Args:
        tokenizer: its words.
        features: of each token `[vocab, d]`.
        says: the next token after each token `[vocab]`, given the word before the last question.
    """

    name, max_context, convention = "planted", None, "raw"
    identity = {"name": "planted"}  # noqa: RUF012

    def __init__(self, tokenizer, features, says=None):
        self.tokenizer, self.features, self.says = tokenizer, features, says
        self.vocab_size = len(tokenizer.pieces)
        self.batches = []

    def d(self, hook):
        """One size."""
        return (self.features.shape[1],)

    def activations(self, tokens, hooks):
        """The features themselves: directions are the axes."""
        self.batches.append(tuple(tokens.shape))
        return dict.fromkeys(hooks, self.features[tokens])

    def run_with(self, tokens, replace, gradients=False):
        """Certain of `says` for the word before the question."""
        answer = self.says[tokens[:, -2]]
        logits = torch.zeros(*tokens.shape, self.vocab_size)
        logits[torch.arange(len(tokens)), -1, answer] = 10.0
        return logits


def sae_of(encoder, decoder, bias=-1e-3, **metadata):
    """A ReLU SAE with these rows `[d_sae, d]`; weak features do not fire."""
    table = {"architecture": "standard", "l1_coefficient": 0.0, "apply_b_dec_to_input": False}
    shape = Shape(encoder.shape[1], decoder.shape[1], len(encoder))
    sae = structure_choice("architecture", table, current_host()).build(shape)
    with torch.no_grad():
        sae.encoder.copy_(encoder)
        sae.W_dec.copy_(decoder)
        sae.b_enc.fill_(bias)
    sae.cfg = attrs.evolve(sae.cfg, metadata=Metadata({"hook_name": "h", **metadata}))
    return sae.eval()


def run(name, sae, origin=None, held_out=0, **settings):
    """What an evaluator finds."""
    from saecore.evaluation import measure

    table = {"type": name, **settings}
    built = structure_choice("evaluator", table, current_host()).build()
    return measure(sae, origin, held_out, {name: built})


def values(found):
    """The figures of the only evaluator."""
    return {key: one.value for one in found.figures.values() for key, one in one.items()}


def spelling(letters="abcd", words=30, absorbed=6, knows=True):
    """The spelling task over made-up words, some of which of the first letter are absorbed.

    Returns:
        The model, an SAE with a latent per letter and one per absorbed word, and these words.
    """
    made = {
        one: [f" {one}{x}{y}z" for x in string.ascii_lowercase for y in "aeiou"][:words]
        for one in letters
    }
    tokenizer = Words(
        [*(f" {one}" for one in string.ascii_uppercase), " has the first letter:", "\n"]
        + [word for group in made.values() for word in group]
    )
    hidden = made[letters[0]][::5][:absorbed]
    d = len(letters) + absorbed + 8
    features = torch.zeros(len(tokenizer.pieces), d)
    features[:, -8:] = 0.05 * torch.randn(
        len(features), 8, generator=torch.Generator().manual_seed(0)
    )
    says = torch.zeros(len(features), dtype=torch.int64)
    for number, one in enumerate(letters):
        for word in made[one]:
            features[tokenizer.ids[word], number] = 1.0
            right = one if knows else "q"
            says[tokenizer.ids[word]] = tokenizer.ids[f" {right.upper()}"]
    for number, word in enumerate(hidden):
        features[tokenizer.ids[word], len(letters) + number] = 1.0
    eye = torch.eye(d)
    first = eye[: len(letters)].clone()
    first[0, len(letters) : len(letters) + absorbed] = -2.0  # silent on absorbed words
    own = eye[len(letters) : len(letters) + absorbed]
    encoder = torch.cat([first, own])
    decoder = torch.cat([eye[: len(letters)], own + eye[0]])
    return Planted(tokenizer, features, says), sae_of(encoder, decoder), hidden
