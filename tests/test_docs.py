"""README.md and the pages in docs/ say nothing that the code does not do."""

import csv
import pathlib
import re
import shlex
import sys

import pytest

import eal_icnet_jax
from eal_icnet_jax import __main__ as command
from eal_icnet_jax import main
from eal_icnet_jax.commands import config_arguments, convert
from eal_icnet_jax.commands.parser import CommandParser
from tests import benchmark_modules

ROOT = pathlib.Path(__file__).parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
"""The text of every page, by its path."""

FOLDERS = ("benchmarks", "configs", "datasets", "docs", "eal_icnet_jax", "tests")


def code_blocks(text: str, *languages: str) -> list[str]:
    """Return the code of a page's blocks in these languages."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [code for language, code in blocks if language in languages]


def commands(text: str) -> list[str]:
    """Return the command lines of a page that run this package."""
    lines = []
    for language in ("sh", "console"):
        for code in code_blocks(text, language):
            for line in code.replace("\\\n", " ").splitlines():
                if language == "sh" or line.startswith("$ "):
                    lines.append(" ".join(line.removeprefix("$ ").split()))
    return [x for x in lines if x.startswith(("eal-icnet ", "python -m eal_icnet_jax"))]


def parse(argv: list[str]):
    """Parse a command line as the command does, and return its arguments and what is left over."""
    if argv[0] == "eal-icnet":
        return command.build_parser(argv[1:2]).parse_known_args(argv[1:])
    module = argv[2]
    if module == "eal_icnet_jax.main":
        return main.build_parser().parse_known_args(argv[3:])
    assert module == "eal_icnet_jax.convert", f"there is no command python -m {module}"
    parser = CommandParser()
    convert.add_arguments(parser)
    return parser.parse_known_args(argv[3:])


COMMANDS = [(page, line) for page, text in PAGES.items() for line in commands(text)]


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_a_command_parses(page, line, monkeypatch):
    argv = shlex.split(line, comments=True)
    monkeypatch.setattr(sys, "argv", argv)  # where ml_collections looks for overrides
    if argv[1:2] == ["--help"]:
        return
    arguments, rest = parse(argv)
    if not rest:
        return
    assert hasattr(arguments, "config_overrides"), f"unknown argument {rest[0]}"
    config_arguments.load_config(arguments.config or "configs/default.py", rest)


def test_every_command_is_shown():
    shown = {line.split()[1] for _, line in COMMANDS if line.startswith("eal-icnet ")}
    assert shown >= set(command.COMMANDS)


@pytest.mark.parametrize("page", PAGES)
def test_named_files_exist(page):
    pattern = rf"(?<![\w./-])(?:{'|'.join(FOLDERS)})/[\w./-]*\w"
    paths = set(re.findall(pattern, PAGES[page]))
    missing = [path for path in sorted(paths) if not (ROOT / path).exists()]
    missing = [path for path in missing if not path.endswith("/NAME.py")]
    assert not missing


@pytest.mark.parametrize("page", PAGES)
def test_linked_files_exist(page):
    targets = set(re.findall(r"\]\(([^)#]+)[^)]*\)", PAGES[page]))
    targets = {target for target in targets if not target.startswith("http")}
    missing = [x for x in sorted(targets) if not ((ROOT / page).parent / x).exists()]
    assert not missing


@pytest.mark.parametrize("page", ["README.md", "docs/api.md"])
def test_the_python_examples_run(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    for code in code_blocks(PAGES[page], "python"):
        exec(compile(code, page, "exec"), {})
    assert "mIoU" in capsys.readouterr().out


def test_the_config_example_loads(tmp_path):
    (code,) = code_blocks(PAGES["docs/training.md"], "python")
    path = tmp_path / "mine.py"
    path.write_text(code)
    config = config_arguments.load_config(str(path), [])
    assert config.epochs == 100
    assert tuple(config.model.options.block_2_dilations) == (2, 2, 4, 4, 6, 6)


def test_every_config_is_listed():
    configs = {f"configs/{path.name}" for path in (ROOT / "configs").glob("*.py")}
    listed = re.findall(r"^\| `(configs/\w+\.py)` \|", PAGES["docs/data.md"], re.MULTILINE)
    assert sorted(listed) == sorted(configs)


def test_the_knobs_have_the_documented_defaults():
    config = config_arguments.load_config("configs/default.py", [])
    rows = re.findall(
        r"^\| (`config\.(?!json).*?) \|(.*?)\|", PAGES["docs/training.md"], re.MULTILINE
    )
    assert rows
    for names, default in rows:
        first, *others = re.findall(r"`(.+?)`", names)
        section = first.rpartition(".")[0]
        for name in (first, *(section + other for other in others)):
            value = config
            for part in name.split(".")[1:]:
                value = value[part]
            text = default.strip(" `")
            documented = float(text) if re.fullmatch(r"[\d.e-]+", text) else text
            assert documented in (value, str(value).replace("'", '"')), name


def test_every_public_name_is_documented():
    names = re.findall(r"^::: eal_icnet_jax\.(\w+)$", PAGES["docs/api.md"], re.MULTILINE)
    assert sorted(names) == sorted(eal_icnet_jax.__all__)


def test_the_table_of_networks_is_what_the_code_and_the_comparison_say():
    module = benchmark_modules.load("models_table")
    assert module.MARKS.search(PAGES["docs/networks.md"])[2] == module.table()


def table_rows(text: str) -> list[list[str]]:
    """Return the cells of all table rows of a page."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_comparison_is_that_of_the_results():
    results = ROOT / "benchmarks" / "results"
    with (results / "comparison.csv").open() as file:
        count = len(list(csv.DictReader(file)))
    expected = {row[0]: row[1:] for row in table_rows((results / "comparison.md").read_text())}
    shown = {}
    for name, *cells in table_rows(PAGES["docs/comparison.md"]):
        shown.setdefault(name, []).extend(cells)
    models = [name for name in expected if name != "model" and set(name) != {"-"}]
    assert len(models) == count
    for name in ("model", *models):
        assert shown[name] == expected[name]


@pytest.mark.parametrize("name", ["comparison.png", "size.png", "speed.png"])
def test_pictures_of_results_are_the_latest(name):
    """The site shows copies, because it holds only what is in docs/."""
    copy, original = ROOT / "docs" / "images" / name, ROOT / "benchmarks" / "results" / name
    assert copy.read_bytes() == original.read_bytes(), f"copy {original} to {copy}"
