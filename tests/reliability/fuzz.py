"""Coverage-guided fuzzing of one target with atheris, for `make soak`.

    python -m tests.reliability.fuzz TARGET SECONDS FIGURES

Prints atheris's own report, and writes the numbers of inputs that were read and refused.
"""

import json
import pathlib
import sys
import tempfile
import time

import atheris

with atheris.instrument_imports(include=["eal_icnet_jax", "tifffile", "defusedxml", "zarr"]):
    from eal_icnet_jax.imaging import decoding, mosaic_files  # noqa: F401
    from eal_icnet_jax.models import checkpoints, torch_files  # noqa: F401
    from tests.reliability import targets


def peak_megabytes() -> int:
    """Return this process's peak memory. `getrusage` would count the parent's memory, too."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def main():
    name, seconds, figures = sys.argv[1:4]
    counts = {"read": 0, "refused": 0}
    folder = pathlib.Path(tempfile.mkdtemp())
    corpus = pathlib.Path(tempfile.mkdtemp())
    for number, seed in enumerate(targets.seeds(name)):
        assert targets.outcome(name, seed, folder) in counts
        (corpus / str(number)).write_bytes(seed)

    written = time.monotonic()

    def run_input(data: bytes):
        nonlocal written
        counts[targets.outcome(name, data, folder)] += 1
        if time.monotonic() - written > 1:  # atheris ends the process at any moment
            written = time.monotonic()
            counts["peak_mb"] = peak_megabytes()
            pathlib.Path(figures).write_text(json.dumps(counts))

    options = [f"-max_total_time={seconds}", "-max_len=65536", "-rss_limit_mb=4096", "-timeout=60"]
    # Failing inputs are written beside the figures.
    options.append(f"-artifact_prefix={pathlib.Path(figures).parent}/")
    atheris.Setup([sys.argv[0], *options, str(corpus)], run_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
