"""What a run was made with: versions, commit, machine, and the digest of its data."""

import datetime
import hashlib
import os
import pathlib
import platform
import subprocess
from importlib import metadata

import eal_icnet_jax

PACKAGES = (
    "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "array-record",
    "tensorflow-datasets", "numpy", "opencv-python-headless", "ml-collections",
)  # fmt: skip
"""Those whose release a training's or an evaluation's figures may depend on."""


def versions() -> dict[str, str]:
    """Releases by name: Python's, this package's, and those of `PACKAGES` that are installed."""
    out = {"python": platform.python_version(), "eal-icnet-jax": eal_icnet_jax.__version__}
    for name in PACKAGES:
        try:
            out[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # OpenCV comes under several names
            continue
    return out


def commit() -> str | None:
    """The git commit that this package runs from, with `+` where files are changed; None: no git.

    Only a checkout of this project counts, not one around an installed package.
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


def of_now(step: int) -> dict:
    """What a process is that begins at a step, or goes on from it."""
    import jax

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
    """What of two records is not alike, each told with both values."""
    return [
        f"{name} {then.get(name)} then, {value} now"
        for name, value in now.items()
        if then.get(name) != value
    ]


def data_digest(folder: pathlib.Path) -> str:
    """SHA-256 of a prepared dataset: its record files' names and bytes."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.array_record*")):
        with path.open("rb") as file:
            own = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.name} {own}\n".encode())
    return digest.hexdigest()
