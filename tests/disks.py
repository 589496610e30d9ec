"""File systems made for a test. Only root can make them: otherwise the test is skipped."""

import contextlib
import fcntl
import os
import pathlib
import shutil
import struct
import subprocess
import time

import pytest


def _as_root(*command: str | os.PathLike):
    if shutil.which(command[0]) is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a file system can only be made and mounted by root")


@contextlib.contextmanager
def mounted(path: pathlib.Path, options: str):
    """Mount a file system in memory; yield a function that mounts it again with other options."""
    path.mkdir(exist_ok=True)
    _as_root("mount", "-t", "tmpfs", "-o", options, "tmpfs", path)
    try:
        yield lambda other: subprocess.run(["mount", "-o", f"remount,{other}", path], check=True)
    finally:
        subprocess.run(["umount", "-l", path], check=True)


SHUTDOWN = 0x8004587D
"""EXT4_IOC_SHUTDOWN of Linux."""

JOURNAL_UNWRITTEN = 2
"""Flag of that call: the journal is not written."""


class Ext4:
    """An ext4 file system that can lose its power.

    Args:
      folder: for its image and its mount point.
      megabytes: size of the image.

    Attributes:
      path: of the mount point.
    """

    def __init__(self, folder: pathlib.Path, megabytes: int = 200):
        self.path = folder / "disk"
        self._image = folder / "disk.img"
        self.path.mkdir()
        with self._image.open("wb") as file:
            file.truncate(megabytes << 20)
        _as_root("mkfs.ext4", "-q", "-F", self._image)
        self._mount()

    def _mount(self):
        _as_root("mount", "-o", "loop", self._image, self.path)

    def unmount(self):
        """Unmount it, once the last process that was killed is gone."""
        for _ in range(50):
            if subprocess.run(["umount", self.path], capture_output=True).returncode == 0:
                return
            time.sleep(0.2)
        raise OSError(f"{self.path} is in use")

    def commit(self):
        """Write names and sizes, as the kernel does every five seconds, but no waiting content."""
        with (self.path / "commit").open("w") as file:
            os.fsync(file.fileno())

    def stop(self):
        """Write nothing from now on, not even what the kernel holds in memory."""
        folder = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, SHUTDOWN, struct.pack("I", JOURNAL_UNWRITTEN))
        finally:
            os.close(folder)

    def start(self):
        """Mount it again, with what was on disk."""
        self.unmount()
        self._mount()

    def lose_power(self):
        """Stop and start."""
        self.stop()
        self.start()


@contextlib.contextmanager
def ext4(folder: pathlib.Path):
    """Yield an `Ext4` in a folder."""
    disk = Ext4(folder)
    try:
        yield disk
    finally:
        disk.unmount()
