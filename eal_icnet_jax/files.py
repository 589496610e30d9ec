"""Files and folders that are written whole or not at all, and locks."""

import contextlib
import errno
import os
import pathlib
import shutil
from collections.abc import Iterator

import filelock

from eal_icnet_jax.errors import UserError


def _sync(path: pathlib.Path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # of file systems that flush nothing
            raise
    finally:
        os.close(descriptor)


def flush(path: pathlib.Path):
    """Waits until a file, or a folder and all in it, is where no loss of power takes it.

    Raises:
      OSError: it cannot be written.
    """
    below = path.rglob("*") if path.is_dir() else ()
    for each in (path, *below, path.parent):  # the last holds its name
        _sync(each)


@contextlib.contextmanager
def whole(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A file to write, which takes its place when it is whole, and else is removed.

    Whenever the process dies or the machine's power goes.

    Raises:
      UserError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        _sync(partial)
        partial.replace(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def write_whole(path: pathlib.Path, data: bytes | str):
    """Writes a file as `whole` does.

    Raises:
      UserError: it cannot be written.
    """
    with whole(path) as partial:
        partial.write_bytes(data.encode() if isinstance(data, str) else data)


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
