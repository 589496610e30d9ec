"""TFDS builders of the datasets by name, and errors of the files that they read and write."""

import hashlib
import importlib
import os
import pathlib
import pkgutil
import re
from collections.abc import Iterable

from google.protobuf import json_format
from ml_collections import ConfigDict

from eal_icnet_jax.system.errors import UserError, first_line
from eal_icnet_jax.system.files import cannot_be_read

FAILED_CALL = re.compile(r"\b\w+\(\) failed: (?P<reason>[^;]+)(?:; \w+ (?P<path>[^;]+))?")
"""How array_record reports a failed system call, such as "open() failed: REASON; opening PATH"."""


def dataset_names() -> list[str]:
    """Return the names of all datasets, which are the folders of datasets/."""
    package = importlib.import_module("eal_icnet_jax.datasets")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if module.ispkg)


def dataset_builder(dataset: ConfigDict):
    """Return the TFDS builder of `config.dataset`.

    Raises:
      UserError: the dataset or its builder config is unknown, or its description in `data_dir`
        cannot be used.
    """
    if dataset.name not in dataset_names():
        raise UserError(
            f"unknown dataset {dataset.name!r}: choose one of {', '.join(dataset_names())}"
        )
    module = importlib.import_module(
        f"eal_icnet_jax.datasets.{dataset.name}.{dataset.name}_dataset_builder"
    )
    configs = [config.name for config in module.Builder.BUILDER_CONFIGS]
    if dataset.config and dataset.config not in configs:
        known = f"choose one of {', '.join(configs)}" if configs else "leave it empty"
        raise UserError(f"dataset {dataset.name} has no config {dataset.config!r}: {known}")
    data_dir = os.path.expanduser(dataset.data_dir) or None
    try:
        return module.Builder(
            config=dataset.config or None, data_dir=data_dir, file_format="array_record"
        )
    except (OSError, ValueError, json_format.ParseError) as error:
        folder = dataset.data_dir or "~/tensorflow_datasets"
        if "File format is already set" in str(error):
            raise UserError(
                f"dataset {dataset.name} in {folder} is not of array_record files: build it with "
                "--file_format=array_record, in another folder"
            ) from error
        raise unreadable(f"the description of dataset {dataset.name}", folder, error) from error


def _os_error(error: BaseException | None) -> OSError | None:
    """Return the OSError that is an error or caused it, if possible one that states a reason."""
    os_errors = []
    while error is not None:
        if isinstance(error, OSError):
            os_errors.append(error)
        error = error.__cause__
    return max(os_errors, key=lambda os_error: os_error.strerror is not None, default=None)


def unreadable(subject: str, folder: os.PathLike | str, error: Exception) -> UserError:
    """Return the `UserError` for prepared files that cannot be read.

    A failed system call is reported with its reason and path. Only bytes that do not parse are
    reported as damage.

    Args:
      subject: what cannot be read.
      folder: that holds it.
      error: raised by TFDS or array_record.
    """
    if os_error := _os_error(error):
        return cannot_be_read(os_error.filename or folder, os_error)
    if failed := FAILED_CALL.search(str(error)):
        return UserError(f"{failed['path'] or folder} cannot be read: {failed['reason']}")
    return UserError(
        f"{subject} cannot be read in {folder} ({first_line(error)}): the files there are damaged, "
        "remove them and run the same command again, which prepares them anew"
    )


def file_digest(path: pathlib.Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
      UserError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise cannot_be_read(path, error) from error


def lines_digest(lines: Iterable[str]) -> str:
    """Return the SHA-256 of lines of text."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode())
    return digest.hexdigest()


def data_digest(folder: pathlib.Path) -> str:
    """Return the SHA-256 of a prepared dataset: of its record files' names and bytes.

    Raises:
      UserError: a file cannot be read.
    """
    paths = sorted(folder.glob("*.array_record*"))
    return lines_digest(f"{path.name} {file_digest(path)}\n" for path in paths)
