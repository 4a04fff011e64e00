"""Copies of the recorded repositories, with changes."""

import json
import shutil

from saecore.releases.load import load
from tests.conftest import DATA
from tests.releases.cases import cases

BY_NAME = {one.name: one for one in cases(DATA / "oracle")}


class Copy:
    """A recorded repository that may be changed.

    Args:
        name: format and case.
        tmp_path: where the copy goes.
    """

    def __init__(self, name, tmp_path):
        self.case = BY_NAME[name]
        self.root = tmp_path / "repo"
        shutil.copytree(self.case.root / "repo", self.root)
        self.x = self.case.tensors()["x"]

    def file(self, end):
        """The one file whose name ends so."""
        (found,) = [one for one in self.root.rglob("*") if one.is_file() and one.name.endswith(end)]
        return found

    def table(self, end):
        """The content of a JSON file."""
        return json.loads(self.file(end).read_text())

    def change(self, end, **settings):
        """Settings of a JSON file that are something else; None leaves them out."""
        table = {**self.table(end), **settings}
        kept = {key: one for key, one in table.items() if one is not None}
        self.file(end).write_text(json.dumps(kept))

    def load(self, path=None, facts=None, **options):
        """What is read of it."""
        where = self.case.path if path is None else path
        known = self.case.facts if facts is None else facts
        return load(self.case.files(self.root), where, facts=known, **options)
