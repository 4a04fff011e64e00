"""Formats of every kind of file keep the contract that the kit checks."""

import pytest

from saecore.testing import check_release
from tests.conftest import DATA
from tests.releases.cases import cases

CASES = {one.name: one for one in cases(DATA / "oracle")}

CHOSEN = ("goodfire/llama_3_1_8b_l19", "mntss_clt_layer_transcoder/layer3", "gemma_2/res",
          "sparsify/groupmax", "dictionary_learning_1/batchtopk", "temporal/tied_topk")  # fmt: skip
"""Torch files, YAML, numpy archives, JSON and safetensors, and what has many tensors."""


@pytest.mark.filterwarnings("ignore")  # what torch says of strange files
@pytest.mark.parametrize("name", CHOSEN)
def test_contract(name):
    """Listed, recognised by nobody else, read the same twice; damage is a ReleaseError, and nothing
    is executed.
    """
    case = CASES[name]
    check_release(case.plugin, sample=case.root / "repo", repository=case.record["repo_id"])
