"""Files and folders that are written whole or not at all, and locks."""

import contextlib
import pathlib
import shutil
from collections.abc import Iterator

import filelock

from eal_icnet_jax.errors import UserError


def write_whole(path: pathlib.Path, data: bytes | str):
    """Writes a file whole or not at all, whenever the process dies.

    Raises:
      UserError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(data.encode() if isinstance(data, str) else data)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def new_folder(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder to fill, which takes its place when it is whole, and else is removed.

    Raises:
      UserError: the path exists, or it cannot be written.
    """
    if path.exists():
        raise UserError(f"{path} exists: name a new folder")
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
    try:
        partial.mkdir(parents=True)
        yield partial
        partial.rename(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def lock(path: pathlib.Path, told: str) -> filelock.FileLock:
    """A lock on a file, which ends with the process at the latest.

    Raises:
      UserError: another holds it; says what was `told`.
    """
    held = filelock.FileLock(path)
    try:
        held.acquire(timeout=0)
    except filelock.Timeout as error:
        raise UserError(told) from error
    return held
