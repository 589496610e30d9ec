"""What a wheel holds, and that it works outside the checkout."""

import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    # A copy, so that building leaves nothing in the checkout.
    source = out / "source"
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    if tracked.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, tracked.stdout.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
         "--wheel-dir", str(out), str(source)], check=True,
    )  # fmt: skip
    (path,) = out.glob("*.whl")
    return path


def test_wheel_holds_datasets_and_configs_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"eal_icnet_jax"}
    for name in ("hy5syn", "ic_synthetic", "miic", "omc", "omv"):
        for file in (f"{name}_dataset_builder.py", "README.md", "TAGS.txt", "CITATIONS.bib"):
            assert f"eal_icnet_jax/datasets/{name}/{file}" in names
    assert "eal_icnet_jax/configs/synthetic.py" in names
    for ending in ("html", "md", "tex"):
        assert f"eal_icnet_jax/templates/comparison.{ending}.jinja" in names


def test_core_requirements_are_light(wheel):
    archive = zipfile.ZipFile(wheel)
    (metadata,) = [name for name in archive.namelist() if name.endswith("METADATA")]
    lines = archive.read(metadata).decode().splitlines()
    required = [line for line in lines if line.startswith("Requires-Dist")]
    core = [line.split()[1].lower() for line in required if "extra ==" not in line]
    assert not any(name.startswith(("tensorflow>", "tensorflow<", "torch")) for name in core)
    assert any("jax[cuda13]" in line and "extra == 'cuda'" in line.replace('"', "'")
               for line in required)  # fmt: skip


def test_an_installed_wheel_works_outside_the_checkout(wheel, tmp_path):
    """Its commands find the shipped dataset and config from another folder."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    result = subprocess.run(
        [sys.executable, "-m", "eal_icnet_jax.main", "--config=configs/synthetic.py",
         "--config.dataset.config=tiny", "--config.dataset.data_dir=data", "--mode=prepare"],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "data/ic_synthetic/tiny/1.0.0/dataset_info.json").exists()
    code = "import eal_icnet_jax; print(eal_icnet_jax.__file__)"
    where = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert where.stdout.startswith(str(tmp_path / "site"))


def test_requirements_have_lower_bounds_and_known_licences(wheel):
    """The bounds are what `make test-lowest` installs."""
    archive = zipfile.ZipFile(wheel)
    (metadata,) = [name for name in archive.namelist() if name.endswith("METADATA")]
    lines = archive.read(metadata).decode().splitlines()
    required = [line.split(": ")[1] for line in lines if line.startswith("Requires-Dist")]
    known = (ROOT / "THIRD_PARTY.md").read_text().lower().replace("_", "-")
    for requirement in required:
        name, bounded, _ = requirement.partition(">=")
        if "extra ==" in requirement:
            assert bounded or "jax[cuda13]" in requirement, requirement
        else:
            assert bounded, requirement
            assert f"\n| {name.lower()} |" in known, name
