"""What a run was made with: releases, commit and machine."""

import datetime
import os
import pathlib
import platform
import subprocess
from importlib import metadata

import jax

import eal_icnet_jax

PACKAGES = (
    "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "array-record",
    "tensorflow-datasets", "numpy", "opencv-python-headless", "ml-collections",
)  # fmt: skip
"""Packages whose release can change the figures of a training or an evaluation."""


def versions() -> dict[str, str]:
    """Return the releases of Python, of this package, and of the installed `PACKAGES`."""
    out = {"python": platform.python_version(), "eal-icnet-jax": eal_icnet_jax.__version__}
    for name in PACKAGES:
        try:
            out[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # OpenCV has several package names
            continue
    return out


def commit() -> str | None:
    """Return the git commit that this package runs from, with `+` if files are changed.

    Returns None unless the package runs from a checkout of this project.
    """
    root = pathlib.Path(eal_icnet_jax.__file__).parents[1]
    if not (root / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", os.fspath(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def current_provenance(step: int) -> dict:
    """Return the record of a process that begins, or goes on, at a step."""
    return {
        "step": step,
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "git_commit": commit(),
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "processes": jax.process_count(),
        "machine": f"{platform.system()} {platform.machine()}",
    }


def differences(then: dict, now: dict) -> list[str]:
    """Describe each difference between two records, with both values."""
    return [
        f"{name} {then.get(name)} then, {value} now"
        for name, value in now.items()
        if then.get(name) != value
    ]
