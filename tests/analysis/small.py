"""A small SAE on the tests' model, and contexts for both."""

import attrs
import torch

from saecore.core.sae_config import Metadata, Shape
from saecore.plugins.structure import structure_choice
from saecore.randomness import generator
from saecore.testing.fakes import D_IN, Backend

D_SAE, LENGTH = 40, 12


def small_sae(table=None, **meta):
    """An SAE of random weights; `meta` is its metadata."""
    choice = structure_choice("architecture", table or {"architecture": "topk", "k": 3})
    sae = choice.build(Shape(D_IN, D_IN, D_SAE))
    sae.initialize(generator(0, "small"), 1.0)
    sae.cfg = attrs.evolve(sae.cfg, metadata=Metadata({"hook_name": "h", **meta}))
    return sae


def contexts(number=50):
    """Contexts in which some tokens, and so some activations, are the same."""
    tokens = torch.randint(0, 9, (number, LENGTH), generator=generator(0, "contexts"))
    tokens[number // 2] = tokens[0]
    return tokens


def backend():
    """The tests' model with a tokenizer that needs only to decode."""
    found = Backend()
    found.tokenizer = Words()
    return found


class Words:
    """A tokenizer whose tokens are awkward for HTML."""

    bos_token_id = eos_token_id = pad_token_id = sep_token_id = cls_token_id = None
    WORDS = ("</script><img src=x onerror=alert(1)>", " b", "\n", "&amp;", '"', "\u2028", "é", "\t")

    def decode(self, tokens):
        """Text of tokens."""
        return "".join(self.WORDS[one] if one < 8 else f" w{one}" for one in tokens)
