"""What an experiment will take, before it starts: steps, memory part by part, time.

Memory is counted from the sizes of tensors. What the model and the architecture need while they
work is measured where `measure` has run, else taken from rules of thumb. A logger or evaluator
that holds much of its own says so with a method of its config,
`extra_memory(sizes: Sizes) -> int`, in bytes.
"""

from saecore.plan.measure import Measurement, measure
from saecore.plan.record import Plan, as_tables, refuse_if_too_big
from saecore.plan.sizes import Sizes, make_plan
from saecore.plan.together import together

__all__ = [
    "Measurement",
    "Plan",
    "Sizes",
    "as_tables",
    "make_plan",
    "measure",
    "refuse_if_too_big",
    "together",
]
