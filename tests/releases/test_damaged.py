"""Files that are damaged or hostile: a ReleaseError, whatever the damage, and nothing is executed."""

import time

import pytest

from saecore.errors import ReleaseError
from saecore.testing import Nonconformance, check_release
from tests.conftest import DATA
from tests.releases.cases import cases

CASES = {one.name: one for one in cases(DATA / "oracle")}

OURS = ("dictionary_learning", "deepseek_r1", "qwen_scope", "goodfire", "sparsify", "mwhanna",
        "mntss", "temporal")  # fmt: skip


@pytest.mark.parametrize("name", [name for name, one in CASES.items() if one.plugin in OURS])
def test_damage(name):
    """Every file of every recorded repository, damaged in every way that the kit knows."""
    case = CASES[name]
    check_release(case.plugin, sample=case.root / "repo", repository=case.record["repo_id"])
