"""Commands keep compiled programs on disk, and freed memory in the process."""

import os
import pathlib
import subprocess
import sys

import jax
import pytest

from eal_icnet_jax.system import jax_settings

CACHED = """
import sys, pathlib
from eal_icnet_jax.system import jax_settings
jax_settings.configure()
import jax, jax.numpy as jnp

def compute():
    jax.clear_caches()
    assert float(jax.jit(lambda x: (jnp.sin(x) + 1).sum())(jnp.zeros(1000))) == 1000

compute()
if "damage" in sys.argv:
    files = list(pathlib.Path(jax.config.jax_compilation_cache_dir).glob("*-cache"))
    contents = {path: path.read_bytes() for path in files}
    for damage in (
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: content[: len(content) // 2] + b"0000" + content[len(content) // 2 + 4 :],
    ):
        for path, content in contents.items():
            path.write_bytes(damage(content))
        compute()
    print(len(files))
"""

FAULTS = """
import ctypes, resource, sys
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: huge pages would hide the faults
from eal_icnet_jax.system import jax_settings
jax_settings.configure(training="training" in sys.argv)
import jax, jax.numpy as jnp

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

run, x, counts = jax.jit(lambda x: jnp.sin(x) + 1), jnp.ones(16_000_000), []
# Some rounds until the freed blocks of the heap have joined to one that is large enough.
for _ in range(60):
    before = faults()
    jax.block_until_ready(run(x))
    counts.append(faults() - before)
print(max(counts[-5:]))
"""


def run(program: str, *argv: str, **variables: str) -> str:
    """Run a program in a process of its own, with no other settings of the cache."""
    hidden = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    result = subprocess.run(
        [sys.executable, "-c", program, *argv],
        env=environment | variables,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def programs(folder: pathlib.Path) -> set[str]:
    return {path.name for path in folder.glob("eal_icnet_jax/programs/*/*-cache")}


ALWAYS = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
"""Programs are kept however quickly they compile."""


def test_compiled_programs_are_kept_and_compiled_anew_if_they_are_damaged(tmp_path):
    """Cut short, as by a loss of power, or with bytes changed."""
    run(CACHED, XDG_CACHE_HOME=str(tmp_path), **ALWAYS)
    first = programs(tmp_path)
    assert first
    count = run(CACHED, "damage", XDG_CACHE_HOME=str(tmp_path), **ALWAYS)
    assert programs(tmp_path) == first
    assert int(count) == len(first)


@pytest.fixture
def cache_dir():
    """A function that sets JAX's cache directory for the test."""
    earlier = jax.config.jax_compilation_cache_dir
    yield lambda path: jax.config.update("jax_compilation_cache_dir", path)
    jax.config.update("jax_compilation_cache_dir", earlier)


def test_a_cache_directory_that_the_user_set_is_used(tmp_path, monkeypatch, cache_dir):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache_dir(str(tmp_path / "elsewhere"))
    jax_settings.enable_compilation_cache()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "elsewhere")
    assert list(tmp_path.iterdir()) == []


def test_a_cache_directory_that_cannot_be_made_is_not_used(tmp_path, monkeypatch, cache_dir):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    cache_dir(None)
    jax_settings.enable_compilation_cache()
    assert jax.config.jax_compilation_cache_dir is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
@pytest.mark.parametrize("task", ["prediction", "training"])
def test_freed_memory_is_kept_unless_the_user_set_up_the_allocator(task):
    assert int(run(FAULTS, task)) < 1000 < 15000 < int(run(FAULTS, task, MALLOC_PERTURB_="0"))
