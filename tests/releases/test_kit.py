"""Every format keeps the contract that the kit checks."""

import pytest

from saecore.testing import check_release
from tests.conftest import DATA
from tests.releases.cases import cases

FORMATS = {one.plugin: one for one in reversed(cases(DATA / "oracle"))}
"""One recorded repository of each format."""


@pytest.mark.filterwarnings("ignore")  # what torch says of strange files
@pytest.mark.parametrize("case", FORMATS.values(), ids=FORMATS)
def test_contract(case):
    """Listed, recognized by nobody else, read the same twice; damage is a ReleaseError, and nothing
    is executed.
    """
    check_release(case.plugin, sample=case.root / "repo", repository=case.record["repo_id"])
