"""Explain what is wrong with a TOML file: the line, a caret, and how to write it."""

from __future__ import annotations

import re
from typing import Any

import tomli

STATEMENT = re.compile(r"""\s*((?:[\w-]+|"[^"\n]*")(?:\s*\.\s*(?:[\w-]+|"[^"\n]*"))*)\s*=[ \t]*""")
"""The key of a `key = value` line."""

PLAIN = {
    "Unclosed array": "the list has no closing ]",
    "Expected ']' at the end of a table declaration": "the name of a table has no closing ]",
    "Expected ']]' at the end of an array declaration": "the name of a table has no closing ]]",
    "Invalid statement": "expected key = value or [table]",
}
"""Messages of the parser that only say what its grammar calls things."""


def explain(text: str, error: ValueError) -> str:
    """Describe a parser's error: `line 3: what is wrong`, then the line and a caret under it.

    Args:
        text: the TOML document.
        error: the parser's error; its message ends with the position.
    """
    message = str(error)
    match = re.search(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$", message)
    if match is None:
        return f"cannot be parsed: {message}"
    lines = text.split("\n")
    row = int(match[1]) - 1 if match[1] else len(lines) - 1
    column = int(match[2]) - 1 if match[2] else len(lines[row])
    while row and not lines[row].strip():  # the file ended too early: show its last line
        row -= 1
        column = len(lines[row])
    lines = [line.rstrip("\r") for line in lines]
    reason = message[: match.start()]
    for find in (_repeated, _bare_value, _line_break, _no_equals):
        explanation = find(lines, row, column, reason)
        if explanation is not None:
            reason, column = explanation
            break
    else:
        reason = PLAIN.get(reason, reason)
    line = lines[row].expandtabs(1)
    column = min(column, len(line.rstrip()))
    caret = " " * (column - len(line) + len(line.lstrip())) + "^"
    return f"line {row + 1}: {reason}\n    {line.strip()}\n    {caret}"


def _repeated(lines: list[str], row: int, column: int, reason: str) -> tuple[str, int] | None:
    """A key or a table that is given twice."""
    line, number = lines[row], row + 1
    if match := re.match(r"Duplicate inline table key '(.*)'", reason):
        return f"{match[1]} is given twice in one table", column
    if not reason.startswith(("Cannot overwrite", "Cannot declare", "Cannot mutate")):
        return None
    if line.lstrip().startswith("["):
        header, _, _ = line.strip().partition("]")
        name = header + "]" * header.count("[")
        earlier = [i for i in range(row) if lines[i].strip().startswith(name)]
        first = earlier[0] if earlier else _first(lines, 0, row, header.strip("[ "))
    elif match := STATEMENT.match(line):
        name = match[1]
        starts = [i for i in range(row) if lines[i].lstrip().startswith("[")]
        first = _first(lines, starts[-1] + 1 if starts else 0, row, name)
    else:
        return None
    where = f" (line {number})" if first is None else f" (line {first + 1}, line {number})"
    return f"{name} is given twice{where}", len(line) - len(line.lstrip())


def _first(lines: list[str], start: int, end: int, name: str) -> int | None:
    """The line of a table on which a key is first given."""
    for i in range(start, end):
        try:
            value: Any = tomli.loads("\n".join(lines[start : i + 1]))
        except ValueError:
            continue  # in the middle of a list or a long string
        for key in re.split(r"\s*\.\s*", name):
            value = value.get(key.strip('"')) if isinstance(value, dict) else None
        if value is not None:
            return i
    return None


def _bare_value(lines: list[str], row: int, column: int, reason: str) -> tuple[str, int] | None:
    """A value that TOML cannot read: mostly a string without quotes."""
    line = lines[row]
    statement = STATEMENT.match(line)
    if reason.startswith("Expected newline or end of document") and statement:
        column = statement.end()  # the parser has read a number and stumbles over its rest
        if line[column] in "\"'[{":
            return None
    elif reason != "Invalid value":
        return None
    whole = statement is not None and column == statement.end()
    text = re.split(r"\s#", line[column:])[0] if whole else re.split(r"[\s,\]}]", line[column:])[0]
    text = text.strip()
    before = f"{statement[1]} = " if whole and statement else ""
    if not text:
        return f"{statement[1] if whole and statement else 'a key'} has no value", column
    if whole and re.search(r"\s[\w.-]+\s*=", text):
        return "expected one key = value on a line", column
    if text.lower() in ("true", "false"):
        return f"true and false are lower-case: {before}{text.lower()}", column
    if text.lower() in ("none", "null", "nil"):
        return "TOML has no such value; leave the key out to get its default", column
    if re.fullmatch(r"[+-]?\d[\d_]*", text):
        return f"a number does not begin with 0: {before}{int(text)}", column
    if re.fullmatch(r"[+-]?\.\d+", text) or re.fullmatch(r"[+-]?\d+\.", text):
        return f"a number needs digits on both sides of its point: {before}{float(text)}", column
    quoted = text.strip("\"'\u201c\u201d\u201e\u2018\u2019`")
    if quoted != text:
        return f'strings need straight quotes: {before}"{quoted}"', column
    mark = "'" if "\\" in text else '"'
    return f"strings need quotes: {before}{mark}{text}{mark}", column


def _line_break(lines: list[str], row: int, column: int, reason: str) -> tuple[str, int] | None:
    """Something that must end on its line and does not."""
    line = lines[row]
    opened = line[:column].count("{") > line[:column].count("}")
    at_end = not line[column:].split("#")[0].strip()
    if opened and at_end and ("key part" in reason or "Unclosed inline table" in reason):
        return "an inline table must stand on one line", line.rfind("{", 0, column)
    if opened and line[column : column + 1] == "}" and "key part" in reason:
        return "an inline table has no comma before its }", column
    if at_end and ("Illegal character" in reason or "Unterminated string" in reason):
        return "the string has no closing quote", column
    if "escape" in reason.lower() or "\\" in reason or "hex value" in reason:
        backslash = max(line.rfind("\\", 0, column + 1), 0)
        return "a backslash begins an escape; write the string in single quotes", backslash
    return None


def _no_equals(lines: list[str], row: int, column: int, reason: str) -> tuple[str, int] | None:
    """A key without `=`."""
    if not reason.startswith("Expected '=' after a key"):
        return None
    match = re.match(r"\s*([\w.-]+)\s*:\s*(\S.*)", lines[row])
    if match is not None:
        return f"write = for the colon: {match[1]} = {match[2].strip()}", column
    return "expected key = value", column
