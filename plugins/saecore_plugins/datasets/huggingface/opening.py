"""Opening a Hugging Face dataset: location, split, identity, and errors in one line."""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from saecore.errors import DataError, nearest
from saecore_plugins.datasets.huggingface.config import HuggingFaceConfig

READERS = ("arrow", "csv", "json", "parquet", "text")
"""The names of file formats in `datasets`; the format of a file follows from its suffix."""


@attrs.frozen
class OpenRows:
    """Rows and what identifies them."""

    rows: Any
    """A `datasets.Dataset`, or an `IterableDataset` if streamed."""
    source: str
    """Hash of the files, or the hub's commit."""
    identity: dict[str, Any]
    """Name, config, split and revision, recorded with a run."""


def open_rows(config: HuggingFaceConfig) -> OpenRows:
    """Open a dataset on disk or on the hub.

    Raises:
        DataError: there is no such dataset or split; the message lists the splits.
    """
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    path = (
        Path(config.name).expanduser().resolve()
    )  # `datasets` names the dataset after its directory
    with dataset_errors(config):
        if path.exists():
            _refuse(config, "revision", f"{config.name} is a local path, which has no revisions")
            if (path / "state.json").exists() or (path / "dataset_dict.json").exists():
                return _saved(config, path)
            if path.is_file():
                _refuse(config, "data_files", f"{config.name} is itself a file")
                return _built(config, str(path.parent), [glob.escape(path.name)])
        elif config.name in READERS:
            raise DataError(
                f"dataset.name: {config.name!r} is a file format; expected the file or directory "
                "itself, or a name on the hub"
            )
        name = str(path) if path.exists() else config.name
        return _built(config, name, list(config.data_files))


@contextmanager
def dataset_errors(config: HuggingFaceConfig, doing: str = "opened") -> Iterator[None]:
    """Turn any error of `datasets` and its dependencies into one line with a remedy.

    Args:
        config: names the dataset.
        doing: what cannot be done to it.

    Raises:
        DataError: instead of any other exception.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # pyarrow, httpx, fsspec, … have no common base class
        raise DataError(
            f"dataset.name: {config.name!r} cannot be {doing}: {reason(error)} "
            f"({_remedy(error, doing)})"
        ) from error


def reason(error: BaseException) -> str:
    """The first line of an error's message, shortened: some messages list every file suffix."""
    lines = str(error).strip().splitlines()
    line = lines[0] if lines else type(error).__name__
    return line if len(line) <= 200 else line[:197] + "..."


def _remedy(error: BaseException, doing: str) -> str:
    from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
    from huggingface_hub.errors import GatedRepoError

    if isinstance(error, GatedRepoError) or isinstance(error.__cause__, GatedRepoError):
        return "accept its terms on its page on the hub, then `hf auth login` or set HF_TOKEN"
    if isinstance(error, DatasetNotFoundError):
        return "check the name and the revision, and `hf auth login` if the dataset is private"
    if isinstance(error, ConnectionError) and doing == "opened":
        return (
            "expected a local file or directory, or a name on the hub; check the path, or that the "
            "hub can be reached and HF_HUB_OFFLINE is not set"
        )
    if isinstance(error, DatasetGenerationError) and error.__cause__ is not None:
        return f"{type(error.__cause__).__name__}: {reason(error.__cause__)}"
    if doing != "opened":
        return "repair the file; if the network failed, rerun: the stream resumes there"
    return "expected parquet, json lines, arrow, csv or text files, or a name on the hub"


def no_rows(config: HuggingFaceConfig) -> DataError:
    """The error for an empty dataset."""
    return DataError(
        f"dataset.name: {config.name} has no rows in split {config.split!r}; give another split "
        "or other files"
    )


def _refuse(config: HuggingFaceConfig, key: str, reason: str) -> None:
    if getattr(config, key):
        raise DataError(f"dataset.{key}: {reason}; remove the key")


def _check_split(config: HuggingFaceConfig, splits: Sequence[str]) -> None:
    name = config.split.partition("[")[0]
    if splits and name not in splits:
        raise DataError(
            f"dataset.split: {config.name} has no split {name!r}{nearest(name, splits)} "
            f"(splits: {', '.join(splits)})"
        )


def _saved(config: HuggingFaceConfig, path: Path) -> OpenRows:
    """Open what `save_to_disk` wrote: one split, or a directory of splits."""
    import datasets

    for key in ("config", "data_files"):
        _refuse(config, key, f"{config.name} was written by save_to_disk")
    splits, directory = ["train"], path
    if (path / "dataset_dict.json").exists():
        splits = json.loads((path / "dataset_dict.json").read_text())["splits"]
        directory = path / config.split
    _check_split(config, splits)
    rows = datasets.load_from_disk(str(directory))
    files = sorted(directory.glob("*.arrow"))
    if config.streaming:
        rows = rows.to_iterable_dataset()
    return OpenRows(rows, _hash_of(files, config.streaming), _identity(config, None))


def _built(config: HuggingFaceConfig, name: str, data_files: list[str]) -> OpenRows:
    import datasets

    builder = datasets.load_dataset_builder(
        name,
        name=config.config,
        data_files=data_files or None,
        revision=config.revision,
    )
    data_files_of = builder.config.data_files or {}
    by_split = {str(split): list(paths) for split, paths in data_files_of.items()}
    _check_split(config, list(by_split))
    local = Path(name).exists()
    files = by_split.get(config.split.partition("[")[0], [])
    if local:
        source = _hash_of([Path(file) for file in files], config.streaming)
    else:
        source = json.dumps([builder.hash, files])
    if config.streaming:
        rows = builder.as_streaming_dataset(split=config.split)
    else:
        builder.download_and_prepare()
        prepared = (builder.info.splits or {}).get(config.split.partition("[")[0])
        if prepared is not None and not prepared.num_examples:
            raise no_rows(config)
        rows = builder.as_dataset(split=config.split)
    return OpenRows(rows, source, _identity(config, None if local else builder.hash))


def _identity(config: HuggingFaceConfig, revision: str | None) -> dict[str, Any]:
    identity = {"name": config.name, "config": config.config, "split": config.split}
    return {
        key: value for key, value in {**identity, "revision": revision}.items() if value is not None
    }


def _hash_of(files: list[Path], streaming: bool) -> str:
    """A hash of the files' contents; for a stream, which is not read in full beforehand, of names,
    sizes and modification times.
    """
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        if streaming:
            digest.update(f"{path.stat().st_mtime_ns}\0".encode())
        else:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
