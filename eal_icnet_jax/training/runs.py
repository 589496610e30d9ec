"""Training, evaluation and preparation as a config describes them."""

import os
import pathlib
from collections.abc import Iterator

from flax import nnx
from ml_collections import ConfigDict

from eal_icnet_jax.data import decoded_examples, prepared_datasets
from eal_icnet_jax.evaluation.evaluation import Evaluation, evaluate_examples
from eal_icnet_jax.inference.predictor import Predictor
from eal_icnet_jax.models import checkpoints
from eal_icnet_jax.system.errors import Interrupted, UserError
from eal_icnet_jax.system.process_group import SINGLE_PROCESS, ProcessGroup
from eal_icnet_jax.system.signals import Interruption
from eal_icnet_jax.training.config_check import check_config
from eal_icnet_jax.training.loss_arguments import loss_arguments
from eal_icnet_jax.training.trainer import Trainer


def train(
    config: ConfigDict,
    workdir: str | os.PathLike | None,
    processes: ProcessGroup = SINGLE_PROCESS,
) -> str:
    """Train, then evaluate the best checkpoint on the test split into `workdir/test`.

    Args:
      config: of the run.
      workdir: folder of the run. A run that was stopped goes on from its latest checkpoint.
      processes: that train together.

    Returns:
      The text of the test split's evaluation; empty in all but the first process.

    Raises:
      UserError: the run cannot begin or go on.
      Interrupted: SIGTERM or SIGINT arrived.
    """
    trainer, stop_requested = _create_trainer(config, workdir, processes)
    trainer.run(stop_requested)
    return evaluate(config, workdir) if processes.is_first else ""


def _create_trainer(
    config: ConfigDict, workdir: str | os.PathLike | None, processes: ProcessGroup
) -> tuple[Trainer, bool]:
    """Return a trainer, and whether a signal arrived meanwhile.

    Several processes go on after a signal, to the step at which all of them stop.

    Raises:
      Interrupted: a signal arrived, and this is the only process.
    """
    if processes.count > 1:
        with Interruption("the next step is the last") as interruption:
            trainer = Trainer(config, workdir, processes)
        return trainer, interruption.requested
    try:
        return Trainer(config, workdir), False
    except KeyboardInterrupt as error:
        raise Interrupted("no step was done; run the same command again to go on") from error


def _until_interrupted(interruption: Interruption, examples: Iterator[dict]) -> Iterator[dict]:
    for example in examples:
        if interruption.requested:
            raise Interrupted("nothing of the evaluation is kept; run the same command again")
        yield example


def evaluated(config: ConfigDict, model: nnx.Module, split: str, keep: int) -> Evaluation:
    """Evaluate a model on a split of the config's dataset.

    Args:
      config: of the dataset and the evaluation.
      model: in evaluation mode.
      split: "validation" or "test".
      keep: number of the best and of the worst images that are kept for pictures.

    Raises:
      UserError: the model does not fit the dataset.
      Interrupted: SIGTERM or SIGINT arrived.
    """
    options = dict(model.spec.options)
    if options["classes"] != len(config.dataset.labels):
        raise UserError(
            f"the checkpoint predicts {options['classes']} masks, but config.dataset.labels names "
            f"{len(config.dataset.labels)}: use the config that it was trained with"
        )
    config = config.copy_and_resolve_references()
    config.model.in_channels = options["in_channels"]
    source = prepared_datasets.open_split(config.dataset, split)
    evaluation = Evaluation(config.dataset.labels, config.evaluation.threshold, keep)
    with Interruption("stopping after this image") as interruption:
        examples = decoded_examples.evaluation_examples(
            config, source, preprocessing=model.spec.preprocessing
        )
        evaluate_examples(
            Predictor(model, **loss_arguments(config)),
            _until_interrupted(interruption, examples),
            evaluation,
            config.evaluation.batch_size,
        )
    evaluation.check()
    return evaluation


def evaluate(config: ConfigDict, workdir: str | os.PathLike | None, checkpoint: str = "") -> str:
    """Evaluate a checkpoint on the test split. Tables and pictures go to `workdir/test`.

    Args:
      config: of the dataset and the evaluation.
      workdir: folder of a run, or any folder if a checkpoint is named.
      checkpoint: to evaluate; by default the best one of the work directory.

    Returns:
      The table of metrics as text.

    Raises:
      UserError: there is no checkpoint, or it does not fit the dataset.
    """
    check_config(config)
    if not workdir:
        raise UserError("no --workdir: name a folder for tables and pictures")
    model = checkpoints.load_model(checkpoint or workdir, dtype=config.model.dtype)
    evaluation = evaluated(config, model, "test", config.evaluation.pictures)
    folder = pathlib.Path(workdir).expanduser() / "test"
    evaluation.write(folder)
    return (
        f"test split, {evaluation.images} images, percent:\n{evaluation.table()}\n"
        f"tables and pictures in {folder}"
    )
