"""Text from files: named the same everywhere, hashed, missing paths explained."""

import sysconfig

import pytest

from saecore.errors import DataError
from saecore.plugins import NoSettings
from saecore_plugins.datasets import python_corpus, text_files


def documents(*paths):
    """The dataset of some paths."""
    return text_files.build(text_files.TextFilesConfig(paths=tuple(map(str, paths))), None)


def test_names_do_not_depend_on_the_place(tmp_path):
    """The same files elsewhere have the same names and the same fingerprint."""
    for directory in ("here", "there"):
        (tmp_path / directory / "sub").mkdir(parents=True)
        (tmp_path / directory / "a.txt").write_text("one")
        (tmp_path / directory / "sub" / "b.txt").write_text("two")
    first, second = documents(tmp_path / "here"), documents(tmp_path / "there")
    assert [(d.name, d.text) for d in first] == [("a.txt", "one"), ("sub/b.txt", "two")]
    assert first.fingerprint == second.fingerprint
    (tmp_path / "there" / "a.txt").write_text("changed")
    assert documents(tmp_path / "there").fingerprint != first.fingerprint


def test_patterns_and_repeats(tmp_path):
    """A pattern finds files below; a file named twice counts once."""
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.txt").write_text("one")
    (tmp_path / "x" / "b.md").write_text("two")
    files = documents(tmp_path / "**" / "*.txt", tmp_path / "x" / "a.txt")
    assert [document.text for document in files] == ["one"]


def test_nothing_found(tmp_path):
    """A path without files is an error that names it and says what is expected."""
    for path in (tmp_path / "nope", tmp_path, tmp_path / "*.txt"):
        with pytest.raises(DataError, match=r"dataset\.paths: .*no such file; expected"):
            documents(path)


def test_an_interpreter_without_sources(tmp_path, monkeypatch):
    """A Python that comes without .py files is an error that names text_files."""
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(DataError, match="text_files"):
        python_corpus.build(NoSettings(), None)


def test_the_corpus_leaves_tests_out():
    """The standard library's modules are in the corpus, its tests and site-packages are not."""
    names = {document.name for document in python_corpus.build(NoSettings(), None)}
    assert "json/decoder.py" in names
    assert not [name for name in names if "test" in name.split("/") or "site-packages" in name]
