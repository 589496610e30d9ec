"""Files and folders that are written completely or not at all, and locks."""

import contextlib
import errno
import os
import pathlib
import shutil
import sys
from collections.abc import Iterator, Sequence

import filelock

from eal_icnet_jax.system.errors import UserError, os_error_cause


def _sync(path: pathlib.Path):
    """Wait until a file or a folder's list of names is on disk."""
    if sys.platform == "win32" and path.is_dir():  # Windows cannot open a folder
        return
    descriptor = os.open(path, os.O_RDONLY if sys.platform != "win32" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # the file system cannot flush
            raise
    finally:
        os.close(descriptor)


def flush(path: pathlib.Path):
    """Wait until a file, or a folder with its contents, would survive a loss of power.

    Raises:
      OSError: it cannot be written.
    """
    contents = path.rglob("*") if path.is_dir() else ()
    for each in (path, *contents, path.parent):  # the parent holds the name
        _sync(each)


def cannot_be_read(path: os.PathLike | str, error: OSError) -> UserError:
    """Return the `UserError` for a path that cannot be read."""
    return UserError(f"{path} cannot be read: {os_error_cause(error)}")


def cannot_be_written(path: os.PathLike | str, error: OSError) -> UserError:
    """Return the `UserError` for a path that cannot be written."""
    return UserError(f"{path} cannot be written: {os_error_cause(error)}")


def check_parent(path: pathlib.Path):
    """Raise a `UserError` if the folder in which a file is to be written is not there."""
    if not path.parent.is_dir():
        raise UserError(
            f"{path.parent} is not a folder: make it, or name another one for {path.name}"
        )


MADE_BY = b"eal-icnet-jax"
"""Text in the files that commands write for users, by which the commands know them again."""

SEARCHED_BYTES = 2**16
"""Number of first and of last bytes of a file in which `MADE_BY` is looked for."""


def check_new(paths: Sequence[pathlib.Path], force: bool = False):
    """Raise a `UserError` if a file or folder exists that may not be replaced."""
    for path in paths:
        if path.exists() and not force:
            raise UserError(f"{path} exists: name another output, or replace it with --force")


def check_replaceable(path: pathlib.Path, force: bool = False):
    """Raise a `UserError` if a file exists that this package did not write, unless `force`.

    Args:
      path: of the file to be written.
      force: whether any file may be replaced.
    """
    if force or not path.exists():
        return
    try:
        with path.open("rb") as file:
            content = file.read(SEARCHED_BYTES)
            file.seek(max(file.seek(0, os.SEEK_END) - SEARCHED_BYTES, 0))
            content += file.read()
    except OSError as error:
        raise cannot_be_written(path, error) from error
    if MADE_BY not in content:
        raise UserError(
            f"{path} exists and was not written by this program: name another output, or replace "
            "it with --force"
        )


CROPS = "crops/[0-9]*.png"
"""Pattern of the numbered pictures of a report."""


def emptied_crops(folder: pathlib.Path) -> pathlib.Path:
    """Return the folder of a report's numbered pictures, made, and without those of an earlier one.

    Raises:
      OSError: it cannot be made or emptied.
    """
    crops = (folder / CROPS).parent
    crops.mkdir(parents=True, exist_ok=True)
    for path in folder.glob(CROPS):
        path.unlink()
    return crops


def check_report_replaceable(
    folder: pathlib.Path, names: Sequence[str], force: bool = False, pictures: str = ""
):
    """Raise a `UserError` if a report would replace a file that this package did not write.

    Args:
      folder: of the report.
      names: of its files. The first one bears `MADE_BY`, and stands for the others if it exists.
      force: whether any file may be replaced.
      pictures: pattern of the files that a new report removes.
    """
    first, *others = (folder / name for name in names)
    check_replaceable(first, force)
    if not first.exists():
        for path in others:
            check_replaceable(path, force)
    for path in sorted(folder.glob(pictures)) if pictures else ():
        check_replaceable(path, force)


@contextlib.contextmanager
def atomic_file(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yield the path of a temporary file that replaces `path` once it is complete.

    If the block fails, the temporary file is removed and `path` stays as it was. Holds even if the
    process is killed or power is lost.

    Raises:
      UserError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        _sync(partial)
        partial.replace(path)
    except OSError as error:
        raise cannot_be_written(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def write_atomically(path: pathlib.Path, data: bytes | str):
    """Write a file as `atomic_file` does.

    Raises:
      UserError: it cannot be written.
    """
    with atomic_file(path) as partial:
        partial.write_bytes(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def atomic_folder(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yield a temporary folder that becomes `path` once the block has filled it.

    Raises:
      UserError: the path exists, or it cannot be written.
    """
    if path.exists():
        raise UserError(f"{path} exists: name a new folder")
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed
    try:
        partial.mkdir(parents=True)
        yield partial
        partial.rename(path)
    except OSError as error:
        raise cannot_be_written(path, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def lock(path: pathlib.Path, message: str) -> filelock.FileLock:
    """Acquire a lock on a file without waiting. The lock ends with the process at the latest.

    Args:
      path: of the lock file.
      message: of the `UserError` that is raised if another process holds the lock.
    """
    held = filelock.FileLock(path)
    try:
        held.acquire(timeout=0)
    except filelock.Timeout as error:
        raise UserError(message) from error
    return held
