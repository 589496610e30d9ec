"""The wheel holds what the package needs, and works outside a checkout."""

import configparser
import email
import os
import pathlib
import subprocess
import sys
import zipfile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    # Built from a copy, so that nothing is left in the checkout.
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


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory):
    """The wheel, installed into a folder of its own."""
    path = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(path)
    return path


@pytest.fixture(scope="module")
def requirements(site):
    """The requirements of the wheel: those of the extras, and those that are always installed."""
    (metadata,) = site.glob("*.dist-info/METADATA")
    lines = email.message_from_string(metadata.read_text()).get_all("Requires-Dist")
    parsed = [Requirement(line) for line in lines]
    extra = [each for each in parsed if "extra" in str(each.marker or "")]
    return extra, [each for each in parsed if each not in extra]


def test_the_wheel_holds_datasets_configs_and_templates_in_one_package(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"eal_icnet_jax"}
    for name in ("hy5syn", "ic_synthetic", "miic", "omc", "omv"):
        for file in (f"{name}_dataset_builder.py", "README.md", "TAGS.txt", "CITATIONS.bib"):
            assert f"eal_icnet_jax/datasets/{name}/{file}" in names
    for config in (ROOT / "configs").glob("*.py"):
        assert f"eal_icnet_jax/configs/{config.name}" in names
    for ending in ("html", "md", "tex"):
        assert f"eal_icnet_jax/comparison/templates/comparison.{ending}.jinja" in names
    assert "eal_icnet_jax/py.typed" in names
    assert any(name.endswith(".dist-info/licenses/THIRD_PARTY.md") for name in names)


def test_the_wheel_holds_every_module_of_the_checkout(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    folders = {"eal_icnet_jax": "eal_icnet_jax", "datasets": "eal_icnet_jax/datasets"}
    for folder, packaged in folders.items():
        for path in (ROOT / folder).rglob("*.py"):
            assert f"{packaged}/{path.relative_to(ROOT / folder)}" in names


def test_the_wheel_installs_the_command(site):
    (entry_points,) = site.glob("*.dist-info/entry_points.txt")
    parser = configparser.ConfigParser()
    parser.read(entry_points)
    assert dict(parser["console_scripts"]) == {"eal-icnet": "eal_icnet_jax.__main__:main"}


def test_the_default_install_needs_neither_tensorflow_nor_torch(requirements):
    extra, core = requirements
    names = {canonicalize_name(each.name) for each in core}
    assert not names & {"tensorflow", "torch", "shtab", "apache-beam"}
    assert {str(each.specifier) for each in extra if each.name == "torch"} == {">=2.6"}
    (cuda,) = [each for each in extra if each.extras and "cuda" in str(each.marker)]
    assert (cuda.name, cuda.extras) == ("jax", {"cuda13"})


def test_packages_without_a_windows_release_are_not_required_there(requirements):
    _, core = requirements
    environments = [{"sys_platform": platform} for platform in ("linux", "darwin", "win32")]
    needed = [
        {each.name for each in core if each.marker is None or each.marker.evaluate(environment)}
        for environment in environments
    ]
    assert needed[0] == needed[1]
    assert needed[0] - needed[2] == {"array-record", "grain"}


def test_every_requirement_has_a_lower_bound_and_a_known_licence(requirements):
    """The lower bounds are what `make test-lowest` installs."""
    extra, core = requirements
    for each in (*extra, *core):
        internal = each.name == "eal-icnet-jax" or "cuda13" in each.extras
        assert internal or ">=" in str(each.specifier), each
    rows = (ROOT / "THIRD_PARTY.md").read_text().splitlines()
    known = {canonicalize_name(row.split("|")[1].strip()) for row in rows if row.startswith("| ")}
    assert {canonicalize_name(each.name) for each in core} <= known


def test_the_installed_wheel_works_outside_the_checkout(site, tmp_path):
    """Its command finds the shipped dataset and config from another folder."""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    code = (
        "import eal_icnet_jax; print(eal_icnet_jax.__file__); "
        "from eal_icnet_jax.__main__ import main; main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, "prepare", "--config", "configs/synthetic.py",
         "--config.dataset.config=tiny", "--config.dataset.data_dir=data"],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(str(site))
    assert (tmp_path / "data/ic_synthetic/tiny/1.0.0/dataset_info.json").exists()
