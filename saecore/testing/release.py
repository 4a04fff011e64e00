"""The contract of release sources."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from saecore.errors import ReleaseError
from saecore.plugins import current_host
from saecore.releases.load import finish
from saecore.releases.repository import Directory
from saecore.releases.source import Draft, Facts
from saecore.testing.component import Settings, check_component, fail
from saecore.testing.mutations import mutations

if TYPE_CHECKING:
    from saecore.components import Component
    from saecore.releases.source import ReleaseSource
    from saecore.sae import SAE


def check_release(
    name: str,
    settings: Settings = None,
    *,
    sample: str | Path,
    repository: str | None = None,
) -> None:
    """Check a release source on a repository of its format, as small as it can be.

    It lists and recognises its SAEs, and nothing in an empty directory; no other format recognises
    them; they load, twice the same. Of damaged copies of each file (removed, cut, of another type,
    settings and tensors missing, strange or not finite, code in a pickle) it may read what does no
    harm, and raises ReleaseError for everything else.

    Args:
        name: the plugin.
        settings: its settings.
        sample: a directory with an SAE of the format; it stays as it is.
        repository: the repository's name, where the format reads it.

    Raises:
        Nonconformance: with what to change.
    """
    choice = check_component("release", name, settings)
    subject, source = choice.component, choice.build()
    root = Path(sample)
    files = _named(root, repository)
    paths = list(source.list(files))
    if not paths:
        fail(subject, f"it lists nothing in {root}", "let `list` give the path of every SAE")
    if len(set(paths)) != len(paths):
        fail(subject, f"it lists a path twice: {paths}", "list every SAE once")
    for path in paths:
        _check_recognition(subject, name, source, files, path)
        _load(subject, source, files, path)
    with tempfile.TemporaryDirectory() as place:
        _check_emptiness(subject, source, _named(Path(place), repository), paths)
    for path in paths[:1]:
        _check_damage(subject, source, root, repository, path)


def _named(root: Path, repository: str | None) -> Directory:
    files = Directory(root)
    files.name = repository or files.name
    return files


def _check_recognition(
    subject: Component, name: str, source: ReleaseSource, files: Directory, path: str
) -> None:
    if source.recognise(files, path) is not True:
        fail(subject, f"it lists {path} but does not recognise it", "return True for what you list")
    if source.recognise(files, f"{path}/no/such/place"):
        fail(
            subject,
            "it recognises a path that is not there",
            "look at the files at the path, not only at those of the repository",
        )
    host = current_host()
    for other in host.names("release"):
        component = host.component("release", other)
        if other != name and component.make(component.config()).recognise(files, path):
            fail(
                subject,
                f"{path} is recognised by {component}, too, so nobody can tell which it is",
                "recognise by names of files, or by keys of a small one, that no other format has",
            )


def _check_emptiness(
    subject: Component, source: ReleaseSource, empty: Directory, paths: list[str]
) -> None:
    if list(source.list(empty)) or any(source.recognise(empty, one) for one in (".", *paths)):
        fail(
            subject,
            "it finds an SAE in an empty directory",
            "let `list` and `recognise` say what files there are",
        )


def _load(subject: Component, source: ReleaseSource, files: Directory, path: str) -> None:
    try:
        first, second = (_finished(subject, source, files, path) for _ in range(2))
    except ReleaseError as error:
        fail(subject, f"the sample is refused: {error}", "let `load` read its own format")
    for key, tensor in first.state_dict().items():
        if not torch.equal(tensor, second.state_dict()[key]):
            fail(subject, f"{key} is another one when it is loaded again", "read, do not draw")


def _finished(subject: Component, source: ReleaseSource, files: Directory, path: str) -> SAE:
    draft = source.load(files, path, Facts())
    if not isinstance(draft, Draft):
        fail(
            subject,
            f"`load` gives a {type(draft).__name__}",
            "return saecore.releases.source.Draft(cfg, tensors)",
        )
    return finish(draft, path).sae


def _check_damage(
    subject: Component, source: ReleaseSource, root: Path, repository: str | None, path: str
) -> None:
    with tempfile.TemporaryDirectory() as place:
        copy, code = Path(place) / root.name, Path(place) / "code"
        shutil.copytree(root, copy)
        for name in Directory(root).files:
            for what, content in mutations(root / name, code):
                _put(copy / name, content)
                files = _named(copy, repository)
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")  # of what the damage looks like
                        if source.recognise(files, path):
                            _finished(subject, source, files, path)
                except ReleaseError:
                    pass
                except Exception as error:  # whatever else it is, nobody can act on it
                    fail(
                        subject,
                        f"{name} {what}: {type(error).__name__}: {error}",
                        "check what is read (saecore.releases.tensors helps) and raise "
                        "ReleaseError with file, key, what was got and what was expected",
                    )
                if code.exists():
                    fail(subject, f"{name} {what}: the code was run", "read with `files.torch`")
            shutil.copyfile(root / name, copy / name)


def _put(file: Path, content: bytes | None) -> None:
    file.unlink(missing_ok=True)
    if content is not None:
        file.write_bytes(content)
