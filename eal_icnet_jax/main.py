"""Prepares, trains or evaluates what a config file describes."""

import sys

from absl import app, flags

from eal_icnet_jax import command_line, runtime, train
from eal_icnet_jax.errors import told_to_user

MODE = flags.DEFINE_enum("mode", "train", list(train.MODES), "What to do.")
CHECKPOINT = flags.DEFINE_string("checkpoint", "", "To evaluate; else the best of the workdir.")


def main(argv: list[str]):
    with told_to_user():
        config = command_line.given_config(argv)
        runtime.configure(training=MODE.value == "train")
        train.MODES[MODE.value](config, command_line.WORKDIR.value, CHECKPOINT.value)


if __name__ == "__main__":
    app.run(main, argv=sys.argv, flags_parser=command_line.parse)
