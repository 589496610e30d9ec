"""Peak memory of a process and of an accelerator."""

import sys


def process_peak_bytes() -> int:
    """Return the largest memory that this process has held, in bytes."""
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
