"""Prepares, trains, evaluates or verifies what a config file describes."""

import sys

from absl import app, flags

from eal_icnet_jax import command_line, distributed, runtime, train, verify
from eal_icnet_jax.errors import UserError, told_to_user

MODES = {"evaluate": train.evaluate, "prepare": train.prepare}

MODE = flags.DEFINE_enum("mode", "train", ["train", *MODES, "verify"], "What to do.")
CHECKPOINT = flags.DEFINE_string("checkpoint", "", "To evaluate; else the best of the workdir.")
COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "Training in several processes: HOST:PORT where the first is reached."
)
PROCESSES = flags.DEFINE_integer("processes", None, "Training in several processes: how many.")
PROCESS = flags.DEFINE_integer(
    "process", None, "Training in several processes: which this is, from 0."
)
DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Training in several processes, as the cluster's environment says."
)


def _check_flags():
    """Raises a `UserError` where one is given that the mode has no use for."""
    of_training = COORDINATOR, PROCESSES, PROCESS, DISTRIBUTED
    useless = [] if MODE.value == "train" else [*of_training]
    if MODE.value == "verify":
        useless.append(CHECKPOINT)
    if given := [f"--{flag.name}" for flag in useless if flag.present]:
        raise UserError(f"{', '.join(given)} does nothing with --mode={MODE.value}: leave it away")


def main(argv: list[str]):
    with told_to_user():
        _check_flags()
        workdir, checkpoint = command_line.WORKDIR.value, CHECKPOINT.value
        if MODE.value == "verify":
            runtime.configure()
            verify.verify(*command_line.given_workdir(argv))
            return
        config = command_line.given_config(argv)
        if MODE.value != "train":
            runtime.configure()
            MODES[MODE.value](config, workdir, checkpoint)
            return
        given = COORDINATOR.value, PROCESSES.value, PROCESS.value
        with distributed.joined(*given, DISTRIBUTED.value) as processes:
            runtime.configure(training=True)
            train.train(config, workdir, checkpoint, processes)


if __name__ == "__main__":
    app.run(main, argv=sys.argv, flags_parser=command_line.parse)
