"""The contract of release plugins."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from saecore.core.release import CatalogueFacts, Draft
from saecore.errors import ReleaseError
from saecore.plugins.host import current_host
from saecore.releases.load import finish
from saecore.storage.repository import Directory
from saecore.testing.component import Settings, check_component, fail
from saecore.testing.mutations import mutations

if TYPE_CHECKING:
    from saecore.core.release import ReleaseSource
    from saecore.core.sae import SAE
    from saecore.plugins.component import Component


def check_release(
    name: str,
    settings: Settings = None,
    *,
    sample: str | Path,
    repository: str | None = None,
) -> None:
    """Check a release plugin on a small repository of its format.

    The plugin must list and recognize its SAEs and nothing in an empty directory, no other format
    may recognize them, and loading must be reproducible. For damaged copies of each file (deleted,
    truncated, of another type, with missing, unknown or non-finite settings and tensors, or with
    code in a pickle), the plugin may ignore harmless damage and must raise ReleaseError otherwise.

    Args:
        name: the plugin.
        settings: its settings.
        sample: a directory with an SAE of the format; not modified.
        repository: the repository's name, if the format depends on it.

    Raises:
        Nonconformance: the plugin breaks the contract; the message says what to change.
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
    with tempfile.TemporaryDirectory() as empty:
        _check_emptiness(subject, source, _named(Path(empty), repository), paths)
    for path in paths[:1]:
        _check_damage(subject, source, root, repository, path)


def _named(root: Path, repository: str | None) -> Directory:
    files = Directory(root)
    files.name = repository or files.name
    return files


def _check_recognition(
    subject: Component, name: str, source: ReleaseSource, files: Directory, path: str
) -> None:
    if source.recognize(files, path) is not True:
        fail(subject, f"it lists {path} but does not recognize it", "return True for what you list")
    if source.recognize(files, f"{path}/no/such/place"):
        fail(
            subject,
            "it recognizes a path that does not exist",
            "check the files at the path, not only those of the repository",
        )
    host = current_host()
    for other in host.names("release"):
        component = host.component("release", other)
        if other != name and component.make(component.config()).recognize(files, path):
            fail(
                subject,
                f"{path} is also recognized by {component}, so its format is ambiguous",
                "recognize files or keys that no other format has",
            )


def _check_emptiness(
    subject: Component, source: ReleaseSource, empty: Directory, paths: list[str]
) -> None:
    if list(source.list(empty)) or any(source.recognize(empty, path) for path in (".", *paths)):
        fail(
            subject,
            "it finds an SAE in an empty directory",
            "let `list` and `recognize` look at the files",
        )


def _load(subject: Component, source: ReleaseSource, files: Directory, path: str) -> None:
    try:
        first, second = (_finished(subject, source, files, path) for _ in range(2))
    except ReleaseError as error:
        fail(subject, f"the sample is refused: {error}", "let `load` read its own format")
    for key, tensor in first.state_dict().items():
        if not torch.equal(tensor, second.state_dict()[key]):
            fail(subject, f"{key} differs when it is loaded again", "read it from the files")


def _finished(subject: Component, source: ReleaseSource, files: Directory, path: str) -> SAE:
    draft = source.load(files, path, CatalogueFacts())
    if not isinstance(draft, Draft):
        fail(
            subject,
            f"`load` gives a {type(draft).__name__}",
            "return saecore.core.release.Draft(cfg, tensors)",
        )
    return finish(draft, path).sae


def _check_damage(
    subject: Component, source: ReleaseSource, root: Path, repository: str | None, path: str
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        copy, code = Path(scratch) / root.name, Path(scratch) / "code"
        shutil.copytree(root, copy)
        for name in Directory(root).files:
            for what, content in mutations(root / name, code):
                _put(copy / name, content)
                files = _named(copy, repository)
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")  # damage may cause warnings
                        if source.recognize(files, path):
                            _finished(subject, source, files, path)
                except ReleaseError:
                    pass
                except Exception as error:  # users cannot act on any other error
                    fail(
                        subject,
                        f"{name} {what}: {type(error).__name__}: {error}",
                        "check the content (see saecore.releases.tensor_reader) and raise "
                        "ReleaseError with file, key, what was got and what was expected",
                    )
                if code.exists():
                    fail(subject, f"{name} {what}: code was executed", "read with `files.torch`")
            shutil.copyfile(root / name, copy / name)


def _put(file: Path, content: bytes | None) -> None:
    file.unlink(missing_ok=True)
    if content is not None:
        file.write_bytes(content)
