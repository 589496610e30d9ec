"""Coverage-guided fuzzing of one target with atheris, for `make soak`.

    python -m tests.reliability.fuzz TARGET SECONDS FIGURES

Prints atheris's own report, and writes how many inputs were read and refused.
"""

import json
import pathlib
import sys
import tempfile
import time

import atheris

with atheris.instrument_imports(include=["eal_icnet_jax", "tifffile", "defusedxml", "zarr"]):
    from eal_icnet_jax import convert, images, mosaics  # noqa: F401
    from tests.reliability import targets


def peak_megabytes() -> int:
    """Of this process; `getrusage` would count what its parent held when it began."""
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

    told = time.monotonic()

    def one(data: bytes):
        nonlocal told
        counts[targets.outcome(name, data, folder)] += 1
        if time.monotonic() - told > 1:  # atheris ends the process without a word
            told = time.monotonic()
            counts["peak_mb"] = peak_megabytes()
            pathlib.Path(figures).write_text(json.dumps(counts))

    options = [f"-max_total_time={seconds}", "-max_len=65536", "-rss_limit_mb=4096", "-timeout=60"]
    # What is found is left beside the figures.
    options.append(f"-artifact_prefix={pathlib.Path(figures).parent}/")
    atheris.Setup([sys.argv[0], *options, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
