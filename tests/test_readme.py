"""The README's Python runs, and its files and configs exist."""

import pathlib
import re

import pytest

from eal_icnet_jax import models
from tests.golden import recipe

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    assert "mIoU" in capsys.readouterr().out


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"(?:docs|configs|datasets|tests)/[\w./]+\.\w+", TEXT)))
)
def test_what_the_readme_names_exists(path):
    assert (ROOT / path).is_file()


def test_the_table_lists_every_config():
    configs = {f"configs/{path.name}" for path in (ROOT / "configs").glob("*.py")}
    assert configs == set(re.findall(r"^\| `(configs/\w+\.py)` \|", TEXT, re.MULTILINE))


def test_the_table_lists_every_model_with_what_it_costs():
    told = {}
    for names, _, parameters, gflops in re.findall(
        r"^\| (`\w+`(?:, `\w+`)*) \| (.*) \| ([\d,; ]+) \| ([\d.; ]+) \|$", TEXT, re.MULTILINE
    ):
        columns = (re.findall(r"\w+", names), parameters.split("; "), gflops.split("; "))
        told |= {name: (count, cost) for name, count, cost in zip(*columns, strict=True)}
    known = {name: recipe.manifest(name) for name in models.MODELS}
    assert told == {
        name: (f"{model['parameters']:,}", f"{model['gflops_512']:.1f}")
        for name, model in known.items()
    }
