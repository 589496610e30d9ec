"""Prepares, trains or evaluates what a config file describes."""

import sys

from absl import app, flags
from ml_collections import config_flags

from eal_icnet_jax import train
from eal_icnet_jax.errors import UserError, told_to_user

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config file, such as configs/synthetic.py."
)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder for everything that a run writes.")
MODE = flags.DEFINE_enum("mode", "train", list(train.MODES), "What to do.")
CHECKPOINT = flags.DEFINE_string("checkpoint", "", "To evaluate; else the best of the workdir.")


def parse(argv: list[str]) -> list[str]:
    with told_to_user():
        try:
            rest = flags.FLAGS(argv)
        except flags.Error as error:
            raise UserError(f"{error}; see --helpfull") from error
        except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
            raise UserError(f"the config cannot be used: {str(error).splitlines()[0]}") from error
        return rest


def main(argv: list[str]):
    with told_to_user():
        if len(argv) > 1:
            raise UserError(f"unknown argument {argv[1]!r}: options begin with --")
        if CONFIG.value is None:
            raise UserError("no config: name one with --config, such as configs/synthetic.py")
        train.MODES[MODE.value](CONFIG.value, WORKDIR.value, CHECKPOINT.value)


def run():
    app.run(main, argv=sys.argv, flags_parser=parse)


if __name__ == "__main__":
    run()
