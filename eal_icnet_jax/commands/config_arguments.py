"""The arguments of commands that a config file drives: --config, its overrides, --workdir."""

import argparse
import pathlib
import re
from typing import TYPE_CHECKING

from eal_icnet_jax.system.errors import UserError

if TYPE_CHECKING:
    from ml_collections import ConfigDict


def add_config_arguments(parser: argparse.ArgumentParser):
    """Add --config and --workdir. What the parser does not know overrides knobs of the config."""
    parser.add_argument(
        "--config", metavar="FILE", help="config file, such as configs/synthetic.py"
    )
    parser.add_argument("--workdir", metavar="DIR", help="folder for everything that a run writes")
    parser.set_defaults(config_overrides=[])
    note = "any knob of the config can be set: --config.epochs=10; configs/default.py lists them"
    parser.epilog = f"{parser.epilog}\n{note}" if parser.epilog else note


def packaged(path: str) -> str:
    """Return the packaged config file if `configs/NAME.py` is not there, as outside a checkout.

    Args:
      path: of a config file, with an argument after a colon if the file takes one.
    """
    from eal_icnet_jax.configs import default

    file, colon, argument = path.partition(":")
    given = pathlib.Path(file)
    shipped = pathlib.Path(default.__file__).parent / given.name
    if given.parent.name == "configs" and not given.exists() and shipped.exists():
        return f"{shipped}{colon}{argument}"
    return path


def load_config(path: str, overrides: list[str]) -> "ConfigDict":
    """Load a config file and set knobs of it.

    Args:
      path: of a Python file with `get_config()`; `FILE:ARGUMENT` calls `get_config(ARGUMENT)`.
      overrides: flags such as "--config.epochs=10".

    Raises:
      UserError: the file cannot be run, or a flag or its value is wrong.
    """
    from absl import flags
    from ml_collections import config_flags

    values = flags.FlagValues()
    argv = ["eal-icnet", f"--config={packaged(path)}", *overrides]
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
    try:
        rest = values(argv)
        config = values["config"].value
        config.keys()  # a file that cannot be loaded raises only here
    except flags.Error as error:
        message = str(error).strip().splitlines()[-1 if "Traceback" in str(error) else 0]
        if "Traceback" in str(error):  # raised by a config file with an argument
            raise UserError(f"the config cannot be used: {message}") from error
        text = " ".join(str(error).split())
        raise UserError(f"{text}; configs/default.py lists every knob") from error
    except Exception as error:  # whatever the user's config file raises
        message = " ".join(str(error).replace("\\n", " ").split())
        names = re.match(r"\W*'?(\w+)\W+(?:Did you mean \W?(\w+))?", message)
        keys = {part for flag in overrides for part in re.split(r"[-.=]", flag.partition("=")[0])}
        if isinstance(error, AttributeError | KeyError) and names and names[1] in keys:
            nearest = f" (did you mean {names[2]}?)" if names[2] else ""
            raise UserError(
                f"the config has no {names[1]}{nearest}; configs/default.py lists every knob"
            ) from error
        raise UserError(f"the config cannot be used: {type(error).__name__}, {message}") from error
    if len(rest) > 1:
        raise UserError(f"unknown argument {rest[1]!r}: options begin with --")
    return config


def config_from(arguments: argparse.Namespace) -> "ConfigDict":
    """Return the config that the arguments name, with its overrides.

    Raises:
      UserError: there is none, or it cannot be used.
    """
    if not arguments.config:
        raise UserError("no config: name one with --config, such as configs/synthetic.py")
    return load_config(arguments.config, arguments.config_overrides)
