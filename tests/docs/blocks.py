"""Fenced blocks of Markdown files, and outputs compared but for what changes from run to run."""

import re

import attrs


@attrs.frozen
class Block:
    """One fenced block."""

    info: str
    """What stands behind the fence: a language, and perhaps the name of a file."""
    text: str
    line: int

    @property
    def language(self):
        """The first word."""
        return self.info.partition(" ")[0]

    @property
    def file(self):
        """The file that the block is the content of, or an empty string."""
        return self.info.partition(" ")[2].strip()


def blocks(file):
    """The fenced blocks of a Markdown file."""
    found, start = [], None
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            if start is None:
                start, info, lines = number, line.strip("` "), []
            else:
                found.append(Block(info, "\n".join(lines) + "\n", start))
                start = None
        elif start is not None:
            lines.append(line)
    assert start is None, f"{file}:{start}: the block is not closed"
    return found


def commands(block):
    """The commands of a console block, each with the output under it."""
    found = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


def plain(line):
    """A line without what changes: run ids, versions, numbers, paths above, widths of columns."""
    line = re.sub(r"\d{8}-\d{6}-[0-9a-f]{4}", "ID", line)
    line = re.sub(r"/\S*/(saecore-|runs)", r"\1", line)
    line = re.sub(r"-?\d[\d,_]*(\.\d+)*([eE][+-]?\d+)?", "N", line)
    return " ".join(line.split())


def same(printed, written):
    """Whether what was printed is what is written; `…` stands for any text, or any lines."""
    printed = [plain(one) for one in printed if one.strip()]
    written = [plain(one) for one in written if one.strip()]
    pattern = "".join(
        "(?:.*\n)*?" if one == "…" else ".*".join(map(re.escape, one.split("…"))) + "\n"
        for one in written
    )
    return re.fullmatch(pattern, "".join(f"{one}\n" for one in printed)) is not None
