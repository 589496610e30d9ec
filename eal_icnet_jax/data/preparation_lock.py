"""The lock that lets one process at a time prepare a dataset, on one host or on several."""

import contextlib
import errno
import os
import pathlib
import time
from collections.abc import Iterator

import filelock

from eal_icnet_jax.system.terminal import announce

ATTEMPTS = 50
"""Number of attempts to lock a file that other processes remove in the meantime."""

REMOVED = errno.ENOENT, errno.EEXIST, errno.ESTALE
"""Numbers of errors if another process removes the file or a folder. NFS reports ESTALE."""


def _acquire(lock: filelock.FileLock, folder: pathlib.Path):
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        announce(f"waiting for another process that prepares {folder}")
        lock.acquire()


def _acquired(
    path: pathlib.Path, folder: pathlib.Path
) -> tuple[filelock.FileLock, list[pathlib.Path]]:
    """Wait for the lock, and return it with the folders that were made for its file."""
    for attempts_left in reversed(range(ATTEMPTS)):
        made = [parent for parent in path.parents if not parent.exists()]
        lock = filelock.FileLock(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _acquire(lock, folder)
            break
        except OSError as error:
            if error.errno not in REMOVED or not attempts_left:
                raise
            time.sleep(0.01)
    return lock, made


@contextlib.contextmanager
def preparation_lock(folder: pathlib.Path) -> Iterator[None]:
    """Hold the lock of a dataset's preparation, and wait for another process that holds it.

    The lock is a hidden file beside the folder, because hosts that share the data share no other
    folder. The file is removed afterwards, and so are the folders that were made for it if they are
    empty.

    Args:
      folder: of the prepared dataset, which need not exist.

    Raises:
      OSError: the file cannot be written.
    """
    path = folder.with_name(f".{folder.name}.lock")
    lock, made = _acquired(path, folder)
    try:
        yield
    finally:
        # Removed while it is held: `filelock` does not take a file that was removed before it
        # could be locked. Windows refuses to remove an open file, and `filelock` does it itself.
        with contextlib.suppress(OSError):
            os.unlink(path)
        lock.release()
        for parent in made:
            with contextlib.suppress(OSError):  # it holds something
                parent.rmdir()
