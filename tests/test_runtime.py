"""Commands keep compiled programs on disk, and memory in the process."""

import os
import pathlib
import subprocess
import sys

PROGRAM = """
import resource
from eal_icnet_jax import runtime
runtime.configure()
import jax, jax.numpy as jnp
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
run, x, found = jax.jit(lambda x: jnp.sin(x) + 1), jnp.ones(16_000_000), []
for _ in range(30):
    before = faults()
    jax.block_until_ready(run(x))
    found.append(faults() - before)
print(min(found))
"""


def run(cache: pathlib.Path, **variables: str) -> int:
    """Pages that a call of a compiled program faults in, in a process of its own."""
    hidden = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    environment |= {"XDG_CACHE_HOME": str(cache), **variables}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return int(result.stdout)


def programs(folder: pathlib.Path) -> int:
    return len(list(folder.glob("eal_icnet_jax/programs/*/*-cache")))


def test_compiled_programs_are_kept(tmp_path):
    always = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    run(tmp_path / "cache", **always)
    first = programs(tmp_path / "cache")
    assert first > 0
    run(tmp_path / "cache", **always)
    assert programs(tmp_path / "cache") == first
    elsewhere = tmp_path / "elsewhere"
    run(tmp_path / "unused", JAX_COMPILATION_CACHE_DIR=str(elsewhere), **always)
    assert list(elsewhere.glob("*-cache")) and not programs(tmp_path / "unused")


def test_programs_that_are_damaged_are_compiled_anew(tmp_path):
    """Cut short, as when power is lost, or with bytes changed."""
    always = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    run(tmp_path, **always)
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*-cache")}
    for damaged in (
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: content[: len(content) // 2] + b"0000" + content[len(content) // 2 + 4 :],
    ):
        for path, content in kept.items():
            path.write_bytes(damaged(content))
        run(tmp_path, **always)


def test_a_cache_that_cannot_be_made_is_done_without(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    run(file)


def test_freed_memory_is_kept(tmp_path):
    """After a few calls, none faults pages in; `MALLOC_` variables leave the allocator alone."""
    if not sys.platform.startswith("linux"):
        return
    assert run(tmp_path) < 5000 < run(tmp_path, MALLOC_PERTURB_="0")
