"""Config files are found, overridden and refused in the same way however they are named."""

import pathlib

import pytest

from eal_icnet_jax import main
from eal_icnet_jax.commands import config_arguments
from eal_icnet_jax.commands.config_arguments import config_from, load_config
from eal_icnet_jax.configs import default
from eal_icnet_jax.system.errors import UserError
from tests.conftest import SMALL_CONFIG

SHIPPED = pathlib.Path(default.__file__).parent


def parse(*argv):
    """Return the config that arguments of `main` name."""
    arguments, arguments_left = main.build_parser().parse_known_args(argv)
    arguments.config_overrides = arguments_left
    return config_from(arguments)


@pytest.mark.parametrize(
    "flags", [("--config=configs/omv.py",), ("--config", "configs/omv.py")], ids=["=", "space"]
)
@pytest.mark.parametrize("outside", [True, False], ids=["outside a checkout", "in a checkout"])
def test_a_shipped_config_is_found_with_either_form_of_the_flag(
    flags, outside, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path if outside else pathlib.Path(__file__).parents[2])
    config = parse(*flags, "--config.epochs=7", "--workdir", "run")
    assert (config.dataset.name, config.epochs) == ("omv", 7)


def test_an_override_may_stand_before_the_config():
    assert parse("--config.epochs=7", f"--config={SMALL_CONFIG}").epochs == 7


def test_a_config_file_in_the_current_folder_takes_precedence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config_arguments.packaged("configs/cross.py:omv") == f"{SHIPPED / 'cross.py'}:omv"
    assert config_arguments.packaged("configs/mine.py") == "configs/mine.py"
    assert config_arguments.packaged("other/cross.py") == "other/cross.py"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "cross.py").touch()
    assert config_arguments.packaged("configs/cross.py:omv") == "configs/cross.py:omv"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("def get_config(: pass", "the config cannot be used: SyntaxError"),
        ("def get_config(): return 1 / 0", "ZeroDivisionError, division by zero"),
    ],
)
def test_a_config_file_that_cannot_be_run_is_reported_in_one_line(tmp_path, content, message):
    (tmp_path / "bad.py").write_text(content)
    with pytest.raises(UserError) as error:
        load_config(str(tmp_path / "bad.py"), [])
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--config.bach_size=2"], "the config has no bach_size (did you mean batch_size?)"),
        (["--config.nonsense.x=2"], "the config has no nonsense; configs/default.py lists"),
        (["--config.epochs=many"], "many"),
        (["--fly"], "fly"),
        (["here"], "unknown argument 'here': options begin with --"),
    ],
)
def test_a_wrong_override_is_reported_in_one_line(overrides, message):
    with pytest.raises(UserError) as error:
        load_config(str(SMALL_CONFIG), overrides)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_loading_a_config_depends_on_its_arguments_only(monkeypatch):
    """`ml_collections` would otherwise read overrides from the command line of the process."""
    monkeypatch.setattr("sys.argv", ["program", "--config.epochs=99"])
    assert load_config(str(SMALL_CONFIG), ["--config.seed=5"]).seed == 5
    assert load_config(str(SMALL_CONFIG), []).epochs == 3
