"""The flags that commands driven by a config share."""

import pathlib

from absl import flags
from ml_collections import ConfigDict, config_flags

from eal_icnet_jax.configs import default
from eal_icnet_jax.errors import UserError, told_to_user

CONFIG = config_flags.DEFINE_config_file("config", None, "Config, such as configs/synthetic.py.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder for everything that a run writes.")


def packaged(argument: str) -> str:
    """`--config=configs/NAME.py` outside a checkout names the config that the package ships."""
    flag, _, value = argument.partition("=")
    path, colon, of_config = value.partition(":")
    shipped = pathlib.Path(default.__file__).parent / pathlib.Path(path).name
    is_config = flag in ("--config", "-config") and pathlib.Path(path).parent.name == "configs"
    if is_config and not pathlib.Path(path).exists() and shipped.exists():
        return f"{flag}={shipped}{colon}{of_config}"
    return argument


def parse(argv: list[str]) -> list[str]:
    """The parser for `absl.app.run`: what it cannot read is told in one sentence."""
    with told_to_user():
        try:
            rest = flags.FLAGS([packaged(argument) for argument in argv])
            if CONFIG.value is not None:
                CONFIG.value.keys()  # where a file that cannot be loaded says so
        except flags.Error as error:
            if "Traceback" in str(error):  # of what a config file with an argument raises
                told = str(error).strip().splitlines()[-1]
                raise UserError(f"the config cannot be used: {told}") from error
            raise UserError(f"{error}; see --helpfull") from error
        except Exception as error:  # whatever the user's config file raises
            told = " ".join(str(error).replace("\\n", " ").split())
            raise UserError(f"the config cannot be used: {type(error).__name__}, {told}") from error
        return rest


def given_config(argv: list[str]) -> ConfigDict:
    """The config, where nothing but flags was given.

    Raises:
      UserError: there is none, or something else was given.
    """
    if len(argv) > 1:
        raise UserError(f"unknown argument {argv[1]!r}: options begin with --")
    if CONFIG.value is None:
        raise UserError("no config: name one with --config, such as configs/synthetic.py")
    return CONFIG.value


def given_workdir(argv: list[str]) -> tuple[pathlib.Path, ConfigDict | None]:
    """The workdir, named by --workdir or alone, and the config where one is given.

    Raises:
      UserError: there is none, or something else was given.
    """
    named = [*argv[1:], *([WORKDIR.value] if WORKDIR.value else [])]
    if len(named) != 1:
        raise UserError(f"name one workdir to verify, not {len(named)}: --mode=verify WORKDIR")
    return pathlib.Path(named[0]).expanduser(), CONFIG.value
