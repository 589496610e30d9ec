"""What a command sets up for its process: compiled programs and freed memory are kept.

Programs of one's own may call `configure` too, before they compute anything.
"""

import ctypes
import hashlib
import os
import pathlib
import platform

import jax

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""Parameters of glibc's `mallopt`."""


def configure(training: bool = False):
    """Keeps compiled programs on disk, and memory that XLA frees in the process."""
    keep_programs()
    keep_memory(2**31 - 1 if training else 2**28)


def _processor() -> str:
    """A short name for what this machine's programs run on: they may not run on another."""
    described = [jax.__version__, platform.machine()]
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        described += sorted({x for x in lines if x.startswith(("flags", "Features", "model name"))})
    return hashlib.sha256("\n".join(described).encode()).hexdigest()[:12]


def keep_programs():
    """Turns JAX's persistent compilation cache on, so that the second start is quick.

    It lies under `$XDG_CACHE_HOME/eal_icnet_jax`, by default `~/.cache/eal_icnet_jax`, and may be
    deleted at any time. `JAX_COMPILATION_CACHE_DIR` names another place and
    `JAX_ENABLE_COMPILATION_CACHE=false` turns it off, as always with JAX. Where the folder cannot
    be made, as in a read-only home, programs are compiled each time.
    """
    if jax.config.jax_compilation_cache_dir is not None:
        return
    try:
        base = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
        folder = base / "eal_icnet_jax" / "programs" / _processor()
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def keep_memory(largest: int):
    """Lets glibc keep what is freed: XLA's CPU backend takes and frees all its buffers each call.

    Given back to the system, every page of them is faulted in anew: on CPU that is half a second of
    system time in a training step at 512x512. Elsewhere than on glibc, and where `MALLOC_`
    variables say otherwise, nothing is changed.

    Args:
      largest: bytes of the largest buffer to keep. Very large ones take long to compute, what their
        faults cost is little of that, and the gaps between them would raise the peak.
    """
    if platform.libc_ver()[0] != "glibc" or any(key.startswith("MALLOC_") for key in os.environ):
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_MMAP_THRESHOLD, largest)
    mallopt(M_TRIM_THRESHOLD, -1)
    # One heap for all threads: those of further arenas cannot hold large buffers.
    mallopt(M_ARENA_MAX, 1)
