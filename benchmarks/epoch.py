"""What an epoch costs beside its training steps, and a validation beside its predictions.

    python benchmarks/epoch.py --work=NEW --output=benchmarks/results

Trains `configs/omv.py` on drawn images of 512x512 pixels, and validates on the same ones. After
each epoch, as many of the same compiled steps run on one batch that lies in memory: without
reading, augmentation, logs and checkpoints. Each validation is followed by the predictions and
losses of its images alone, which are decoded before. Ratios of the epochs' pairs, after a first
epoch that compiles; medians, with quartiles. Writes epoch.csv and epoch.txt.
"""

import argparse
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
from reporting import drawn_data_flags, machine, run_command, write_results
from tabulate import tabulate

from eal_icnet_jax.commands.config_arguments import load_config
from eal_icnet_jax.data import decoded_examples
from eal_icnet_jax.evaluation.evaluation import predict_examples
from eal_icnet_jax.system import jax_settings
from eal_icnet_jax.system.signals import Interruption
from eal_icnet_jax.training.trainer import Trainer


class MeasuredTrainer(Trainer):
    """A trainer that measures itself.

    Attributes:
      seconds: what was measured, by name, a number for each epoch.
    """

    def __init__(self, config, workdir):
        super().__init__(config, workdir)
        self.seconds = {name: [] for name in ("epoch", "steps", "validation", "predictions")}
        compiled = self.train_step

        def step(state, batch):
            self._batch = batch
            return compiled(state, batch)

        self.train_step, self._compiled_step = step, compiled
        self._examples = list(decoded_examples.evaluation_examples(config, self.validation_source))
        self._mark = time.perf_counter()

    def _add(self, name: str, start: float):
        self.seconds[name].append(time.perf_counter() - start)

    def _end_epoch(self, step: int, interruption: Interruption) -> bool:
        jax.block_until_ready(self.state)
        self._add("epoch", self._mark)
        self._measure_steps()
        ended = super()._end_epoch(step, interruption)
        self._mark = time.perf_counter()
        return ended

    def _measure_steps(self):
        state = jax.block_until_ready(jax.tree.map(jnp.copy, self.state))
        start = time.perf_counter()
        for _ in range(self.batches.batches_per_epoch):
            state, report = self._compiled_step(state, self._batch)
            np.asarray(report.finite)
        jax.block_until_ready(state)
        self._add("steps", start)

    def validate(self, interruption: Interruption):
        start = time.perf_counter()
        evaluation = super().validate(interruption)
        self._add("validation", start)
        start = time.perf_counter()
        for _ in predict_examples(
            self.predictor, self._examples, self.config.evaluation.batch_size
        ):
            pass
        self._add("predictions", start)
        return evaluation


def row(seconds: dict[str, list[float]], whole: str, part: str) -> dict[str, str]:
    """Return how long a part of the time takes, and the whole."""
    pairs = np.array([seconds[whole][1:], seconds[part][1:]])
    low, middle, high = np.quantile(pairs[0] / pairs[1], (0.25, 0.5, 0.75))
    return {
        "whole": whole, "seconds": f"{np.median(pairs[0]):.2f}",
        "part": part, "part_seconds": f"{np.median(pairs[1]):.2f}",
        "ratio": f"{middle:.3f}", "quartiles": f"{low:.3f} to {high:.3f}",
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    add = parser.add_argument
    add("--work", type=pathlib.Path, required=True, help="new folder for drawn data")
    add("--output", type=pathlib.Path, required=True, help="for the table")
    add("--images", type=int, default=60, help="of all splits")
    add("--epochs", type=int, default=6)
    add("--batch", type=int, default=1)
    arguments = parser.parse_args()
    work = arguments.work.absolute()
    work.mkdir(parents=True)
    images = f"--images={arguments.images}"
    run_command("draw", "dataset", "omv", work / "tree", images, "--size=512")
    jax_settings.configure(training=True)
    flags = [
        *drawn_data_flags(work),
        "--config.dataset.splits.validation=train",
        f"--config.epochs={arguments.epochs}",
        f"--config.batch_size={arguments.batch}",
    ]
    trainer = MeasuredTrainer(load_config("configs/omv.py", flags), work / "run")
    trainer.run()
    rows = [
        row(trainer.seconds, "epoch", "steps"),
        row(trainer.seconds, "validation", "predictions"),
    ]
    text = (
        f"{machine()}\n\n{trainer.batches.batches_per_epoch} steps of {arguments.batch} and "
        f"{len(trainer._examples)} validation images of 512x512 in an epoch\n\n"
        f"{tabulate(rows, 'keys', disable_numparse=True)}\n"
    )
    print(text)
    write_results(arguments.output, "epoch", text, rows)


if __name__ == "__main__":
    main()
