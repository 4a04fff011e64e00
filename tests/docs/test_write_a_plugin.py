"""docs/how-to/write-a-plugin.md is carried out: its files written, its commands run, the outputs
compared with what it says.
"""

from pathlib import Path

import pytest

from tests.docs.blocks import blocks, commands, same
from tests.strangers import ROOT, Environment

PAGE = ROOT / "docs" / "how-to" / "write-a-plugin.md"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_page_is_true(tmp_path):
    """Someone who types what the page says sees what the page says, but for numbers."""
    environment = Environment(tmp_path / "env", tmp_path / "cache")
    here = tmp_path / "here"
    here.mkdir()
    ran = 0
    for block in blocks(PAGE):
        where = f"{PAGE.name}:{block.line}"
        if block.file:
            file = here / block.file
            assert file.exists(), f"{where}: {block.file} is to be changed, but is not there"
            file.write_text(block.text)
        elif block.language == "console":
            for command, written in commands(block):
                if command.startswith("cd "):
                    here = Path(here, command[3:]).resolve()
                    continue
                printed = environment.run(command, here, check=False).stdout
                ran += 1
                assert same(printed.splitlines(), written), (
                    f"{where}: $ {command}\n{printed}\n-- written:\n" + "\n".join(written)
                )
    assert ran > 8
