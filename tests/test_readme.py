"""The README's Python runs, and its files and configs exist."""

import importlib.util
import pathlib
import re

import pytest

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


def test_the_table_of_networks_is_what_the_code_and_the_comparison_say():
    path = ROOT / "benchmarks" / "models_table.py"
    spec = importlib.util.spec_from_file_location("models_table", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.BETWEEN.search(TEXT)[2] == module.table()
