"""Peak memory of a process and of an accelerator."""

import pathlib
import sys

_LINUX_STATUS = pathlib.Path("/proc/self/status")


def process_peak_bytes() -> int:
    """Return the largest memory that this process has held, in bytes.

    On Linux, `getrusage` would be wrong: its figure of a process that was started by another one is
    at least the memory of the other one.
    """
    if _LINUX_STATUS.exists():
        _, peak, kilobytes = _LINUX_STATUS.read_text().partition("VmHWM:")
        if peak:
            return 1024 * int(kilobytes.split()[0])
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return psutil.Process().memory_info().peak_wset
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def peak_bytes() -> int:
    """Return the largest memory held on the first accelerator, or by the process on CPU."""
    import jax

    statistics = jax.local_devices()[0].memory_stats() or {}
    return statistics.get("peak_bytes_in_use") or process_peak_bytes()
