"""JAX and memory settings of a process, which every command makes before it computes.

Programs that use the library may call `configure` too.
"""

import ctypes
import hashlib
import os
import pathlib
import platform

import jax

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -3, -4, -8
"""Parameters of glibc's `mallopt`."""


def configure(training: bool = False):
    """Keep compiled programs on disk, and keep memory that XLA frees in the process."""
    enable_compilation_cache()
    keep_freed_memory(training)
    if training:  # the thread that calls computes, so that its heap holds the large buffers
        jax.config.update("jax_cpu_enable_async_dispatch", False)


def _processor_id() -> str:
    """Return a short name of this processor and JAX release. Programs may not run on another."""
    description = [jax.__version__, platform.machine()]
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        prefixes = "flags", "Features", "model name"
        lines = cpuinfo.read_text().splitlines()
        description += sorted({line for line in lines if line.startswith(prefixes)})
    return hashlib.sha256("\n".join(description).encode()).hexdigest()[:12]


def enable_compilation_cache():
    """Turn on JAX's persistent compilation cache, so that the second start is quick.

    The cache is in `$XDG_CACHE_HOME/eal_icnet_jax`, by default `~/.cache/eal_icnet_jax`, and may be
    deleted at any time. JAX's own variables `JAX_COMPILATION_CACHE_DIR` and
    `JAX_ENABLE_COMPILATION_CACHE` move it or turn it off. If the folder cannot be made, as in a
    read-only home, programs are compiled each time.
    """
    if jax.config.jax_compilation_cache_dir is not None:
        return
    try:
        base = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
        folder = base / "eal_icnet_jax" / "programs" / _processor_id()
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def keep_freed_memory(training: bool):
    """Let glibc keep freed memory, because XLA's CPU backend frees all its buffers in each call.

    Otherwise the system takes the memory back and every page is faulted in again: half a second of
    system time in a training step at 512x512. Does nothing without glibc, or if a `MALLOC_`
    variable is set.

    Args:
      training: whether buffers of any size are kept, and threads have heaps of their own. With one
        heap for all, threads that compile wait for one another and take a third longer. Prediction
        compiles less, and one heap saves memory. Of its very large buffers, each takes long to
        compute, so their page faults cost little, and the gaps between them would raise the peak.
    """
    if platform.libc_ver()[0] != "glibc" or any(key.startswith("MALLOC_") for key in os.environ):
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_TRIM_THRESHOLD, -1)
    if training:
        mallopt(M_MMAP_MAX, 0)
    else:
        mallopt(M_MMAP_THRESHOLD, 2**28)
        mallopt(M_ARENA_MAX, 1)
