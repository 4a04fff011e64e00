"""The cases of `step` and `growth`: architecture, shape, and how everyone is told of them."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any, NamedTuple

from tests.bench.rounds import Contender


class Shape(NamedTuple):
    """Sizes of a training step."""

    d_in: int
    d_sae: int
    batch: int
    k: int

    def __str__(self) -> str:
        return f"{self.d_in}, {self.d_sae}, {self.batch}, {self.k}"


SHAPES = (Shape(512, 8192, 2048, 32), Shape(768, 24576, 4096, 32))
WIDTHS = tuple(Shape(512, d_sae, 1024, 32) for d_sae in (4096, 8192, 16384, 32768, 65536))
TINY = Shape(32, 256, 64, 8)
"""To see that everything runs."""

KINDS = ("topk", "batchtopk", "matryoshka_batchtopk", "jumprelu", "gated",
         "standard sparse", "standard dense")  # fmt: skip

SPREAD = 0.1
"""Standard deviation of the first pre-activations: inputs are standard normal, and everyone's
encoder begins as the decoder's transpose with rows of norm 0.1."""
LR = 1e-6
"""So small that the density a case begins with stays what it is."""


def names(
    shapes: tuple[Shape, ...], kinds: tuple[str, ...] = KINDS
) -> dict[str, tuple[str, Shape]]:
    """Kind and shape by the name of the case, shape after shape."""
    return {f"{kind} ({shape})": (kind, shape) for shape in shapes for kind in kinds}


def contenders(kind: str, shape: Shape, backends: dict[str, str]) -> list[Contender]:
    """Who takes part in a case.

    Args:
        kind: one of KINDS.
        shape: the sizes.
        backends: ours by name: the backend of saecore.ops that is forced.
    """
    theirs, ours, biases = settings(kind, shape)
    job = {"d_in": shape.d_in, "d_sae": shape.d_sae, "batch": shape.batch, "lr": LR}
    mine = {**job, "sae": ours, "biases": biases}
    found = [
        Contender("floor", "floor", job),
        *(Contender(name, "ours", {**mine, "backend": one}) for name, one in backends.items()),
        Contender("saelens", "with_saelens", {**job, "sae": theirs, "biases": biases}, "saelens"),
    ]
    if kind == "topk":
        found += [
            Contender("sparsify", "with_sparsify", {**mine, "optimizer": "adam"}, "sparsify"),
            Contender("sparsify signum", "with_sparsify", {**mine, "optimizer": "signum"},
                      "sparsify"),
            Contender("dictionary_learning", "with_dictionary_learning", mine,
                      "dictionary_learning"),
        ]  # fmt: skip
    return found


def settings(kind: str, shape: Shape) -> tuple[dict[str, Any], dict[str, Any], dict[str, float]]:
    """SAELens' settings, ours, and the first biases, for an L0 of 2k (dense: half of d_sae)."""
    name = kind.split()[0]
    bar = SPREAD * NormalDist().inv_cdf(1 - 2 * shape.k / shape.d_sae)
    theirs: dict[str, Any] = {"architecture": name}
    ours: dict[str, Any] = {"architecture": name, "normalizer": "none", "dead_latents": "none"}
    biases: dict[str, float] = {}
    if "topk" in name:
        theirs |= {"k": shape.k}
        ours |= {"k": shape.k, "dead_latents": "auxk"}
    if name == "matryoshka_batchtopk":
        widths = [shape.d_sae >> i for i in range(4, -1, -1)]
        theirs |= {"matryoshka_widths": widths}
        ours |= {"matryoshka_widths": widths}
    if name == "jumprelu":
        theirs |= {"jumprelu_init_threshold": bar}
        ours |= {"jumprelu_init_threshold": bar}
    if name == "gated":
        biases = {"b_gate": -bar}
    if kind == "standard sparse":
        biases = {"b_enc": -bar}
    return theirs, ours, biases
