"""One training run: its state, its checkpoints and its loop."""

import dataclasses
import itertools
import json
import math
import os
from collections.abc import Iterator

import jax
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from eal_icnet_jax import models
from eal_icnet_jax.data import decoded_examples, prepared_datasets, training_batches
from eal_icnet_jax.evaluation.evaluation import Evaluation, evaluate_examples
from eal_icnet_jax.inference.predictor import Predictor
from eal_icnet_jax.models import checkpoints
from eal_icnet_jax.models.creation import check_options, option_defaults, with_first_outputs
from eal_icnet_jax.models.named_arrays import Arrays
from eal_icnet_jax.models.network import Network
from eal_icnet_jax.models.registry import ModelSpec, Preprocessing
from eal_icnet_jax.system.devices import data_mesh, local_copy
from eal_icnet_jax.system.errors import Interrupted, UserError
from eal_icnet_jax.system.process_group import SINGLE_PROCESS, ProcessGroup
from eal_icnet_jax.system.signals import Interruption, sigint_ignored
from eal_icnet_jax.system.terminal import announce, warn
from eal_icnet_jax.training.config_check import BALANCED, check_config
from eal_icnet_jax.training.early_stopping import EarlyStopping
from eal_icnet_jax.training.loss_arguments import loss_arguments
from eal_icnet_jax.training.progress import Progress
from eal_icnet_jax.training.state import initial_state
from eal_icnet_jax.training.step import CHECKED_PARTS, StepReport, TrainStep, make_optimizer
from eal_icnet_jax.training.training_checkpoints import TrainingCheckpoints
from eal_icnet_jax.training.workdir import Workdir


def create_model(config: ConfigDict) -> nnx.Module:
    """Create the model of a config, with fresh weights or those of `config.model.checkpoint`.

    Raises:
      UserError: the options do not fit the network, or the checkpoint is of another network.
    """
    if config.model.checkpoint:
        model = checkpoints.load_model(config.model.checkpoint, dtype=config.model.dtype)
        model = _with_outputs_for(model, len(config.dataset.labels))
        _check_options(config, model.spec)
        options = dict(model.spec.options)
        wanted = (config.model.name, config.model.in_channels, len(config.dataset.labels))
        if (model.spec.name, options["in_channels"], options["classes"]) != wanted:
            raise UserError(
                f"config.model.checkpoint={config.model.checkpoint} holds {model.spec.name} with "
                f"{model.spec.options_text()}, but the config asks for {wanted[0]} with "
                f"in_channels={wanted[1]} and {wanted[2]} labels"
            )
    else:
        model = models.create_model(
            config.model.name,
            in_channels=config.model.in_channels,
            classes=len(config.dataset.labels),
            rngs=nnx.Rngs(config.seed),
            dtype=config.model.dtype,
            **config.model.options,
        )
    preprocessing = preprocessing_of(config, model.spec.preprocessing)
    model.spec = dataclasses.replace(model.spec, preprocessing=preprocessing)
    return model


def _check_options(config: ConfigDict, spec: ModelSpec):
    """Raise a `UserError` if the config's options of the network are not those of a checkpoint."""
    check_options(spec.name, config.model.options)
    own = {**option_defaults(spec.name), **dict(spec.options)}
    for key, value in config.model.options.items():
        if jax.tree.leaves(own[key]) != jax.tree.leaves(value):
            raise UserError(
                f"config.model.options.{key} is {value}, but the network in "
                f"config.model.checkpoint={config.model.checkpoint} has {own[key]}: remove one"
            )


def _with_outputs_for(model: Network, labels: int) -> Network:
    """Return a network without the outputs that have no label: the last ones."""
    outputs = model.spec.outputs
    if len(outputs) <= labels:
        return model
    announce(
        f"of the outputs {' and '.join(outputs)}, {' and '.join(outputs[:labels])} is trained, "
        "because config.dataset.labels names no more labels"
    )
    return with_first_outputs(model, labels)


def preprocessing_of(config: ConfigDict, default: Preprocessing) -> Preprocessing:
    """Return the preprocessing that a config names, or else the one that a checkpoint carries.

    The size of the crops is the config's, unless those of the checkpoint were larger: then it still
    predicts windows of their size, where it sees more around each place.

    Raises:
      UserError: there is a width of wires, but no crops that could be magnified to it.
    """
    stretch = tuple(map(float, config.preprocessing.stretch))
    wire_width = config.preprocessing.wire_width or default.wire_width
    if wire_width and not config.dataset.crop_size:
        raise UserError(
            f"the network is trained for wires of {wire_width:g} pixels: set "
            "config.dataset.crop_size, the side of the crops that are magnified to it, such as 256"
        )
    return Preprocessing(
        (stretch[0], stretch[1]) if stretch else default.stretch,
        wire_width,
        max(config.dataset.crop_size, default.crop_size) if wire_width else 0,
    )


class Trainer:
    """One run: the state, the files where it is saved, and the loop.

    Args:
      config: of the run.
      workdir: its folder, which stays locked until `run` ends.
      processes: that train together and share every batch.

    Raises:
      UserError: the config, the data or the work directory cannot be used. A config that cannot be
        used creates no work directory.
    """

    def __init__(
        self,
        config: ConfigDict,
        workdir: str | os.PathLike | None,
        processes: ProcessGroup = SINGLE_PROCESS,
    ):
        check_config(config)
        self.config = config
        self.processes = processes
        model = create_model(config)
        self._preprocessing = model.spec.preprocessing
        self.workdir = Workdir(workdir, config, writes=processes.is_first)
        try:
            self._open_data()
            self.workdir.describe(config, model)
            self._compile(model)
            self._restore()
            if processes.is_first:
                digests = prepared_datasets.digests(config.dataset)
                self.workdir.record_start(config, int(self.state.step), digests)
        except BaseException:
            self.workdir.release()
            raise

    def _open_data(self):
        config = self.config
        source = prepared_datasets.open_training_examples(config.dataset)
        self.validation_source = prepared_datasets.open_split(config.dataset, "validation")
        self.batches = training_batches.TrainingBatches(
            config,
            source,
            self.processes,
            self._preprocessing.stretch,
            self._preprocessing.wire_width,
        )
        self.steps = config.epochs * self.batches.batches_per_epoch

    def _compile(self, model: nnx.Module):
        optimizer, loss = make_optimizer(self.config, self.steps), loss_arguments(self.config)
        if self.config.loss.positive_weight == BALANCED:
            weights = zip(self.config.dataset.labels, loss["positive_weight"], strict=True)
            text = ", ".join(f"{label} {weight:.3g}" for label, weight in weights)
            self._announce(f"the cross-entropy weighs foreground by the balance: {text}")
        decay = self.config.average_decay
        self._structure, self.state = initial_state(model, optimizer, with_average=decay > 0)
        self.train_step = TrainStep(self._structure, optimizer, loss, decay)
        self.spec = model.spec
        model.eval()
        self.predictor = Predictor(model, **loss)

    def _restore(self):
        """Go on from the latest checkpoint, if there is one."""
        self.stopping = EarlyStopping()
        self.checkpoints = TrainingCheckpoints(self.workdir.path, self.processes)
        self._position = self.batches.get_state()
        self._saved_step = 0
        restored = self.checkpoints.restore(*self.state.to_arrays())
        if restored is None:
            return
        weights, training, metadata = restored
        self.state = self.state.from_arrays(weights, training)
        self.stopping = EarlyStopping(**metadata["early_stopping"])
        self.batches.set_state(metadata["iterator"])
        self._position = metadata["iterator"]
        self._saved_step = metadata["step"]
        self._check_best(weights)
        self._announce(f"resuming from step {self._saved_step} in {self.workdir.path}")

    def _check_best(self, weights: Arrays):
        """If the best checkpoint is damaged, the best of the epochs that follow replaces it."""
        best = self.stopping.best_step
        undamaged = best is None or self.checkpoints.is_undamaged(best, weights)
        if not all(self.processes.gathered(undamaged)):
            self.stopping.forget_best()
            if self.processes.is_first:
                warn(
                    f"the best checkpoint, {self.checkpoints.directory(best)}, is damaged or gone: "
                    "the best of the epochs that follow is kept instead"
                )

    def _announce(self, text: str):
        if self.processes.is_first:
            announce(text)

    def run(self, stop_requested: bool = False):
        """Train to the end, or on from the latest checkpoint of the work directory.

        Args:
          stop_requested: whether a signal has already arrived, so that the run stops after a step.

        Raises:
          Interrupted: SIGTERM or SIGINT arrived, and a checkpoint is written.
          UserError: the run cannot go on.
        """
        self.workdir.open_logs(int(self.state.step), self._epoch_end_is_pending())
        first_step, shown = int(self.state.step), self.processes.is_first
        self.progress = Progress(self.steps, first_step, self.config.batch_size, hidden=not shown)
        try:
            with Interruption("finishing the step, then a checkpoint is written") as interruption:
                interruption.requested |= stop_requested
                self._loop(interruption)
                self.checkpoints.wait()
        finally:
            self.progress.close()
            self.checkpoints.close()
            self.workdir.close_logs()
            self.workdir.release()
        if self.processes.is_first:
            from eal_icnet_jax.evaluation import pictures  # imports Matplotlib, which takes time

            pictures.draw_curves(self.workdir.path / "curves.png", self.workdir.records())

    def _loop(self, interruption: Interruption):
        config = self.config
        first_step = step = int(self.state.step)
        if self._epoch_end_is_pending() and not self._end_epoch(step, interruption):
            self._stop(step)
        report = None
        for batch in self._device_batches(step, interruption):
            previous = report
            self.state, report = self.train_step(self.state, batch)
            if previous is not None:
                self._check(step, previous)  # while the devices compute this step
            step += 1
            stops = self._stops(interruption, previous)
            ends_epoch = step % self.batches.batches_per_epoch == 0
            logs, is_first = step % config.log_every_steps == 0, step == first_step + 1
            every = config.checkpoint_every_steps
            saves = ends_epoch or stops or (every and step % every == 0)
            if saves or logs or is_first:
                self._check(step, report)  # no checkpoint may hold weights that are not finite
            if is_first:
                self.progress.restart(step)  # the first step compiles
            elif logs:
                self._log(step)
            if ends_epoch and not self._end_epoch(step, interruption):
                stops = True
            if saves:
                self._save(step)
                self.progress.restart(step)
            if stops:
                self._stop(step)
            if ends_epoch and self._stops_early():
                break
        if self._stops_early():
            epochs = self.stopping.epochs_without_gain
            self._announce(f"stopped early: {epochs} epochs without gain")

    def _stops_early(self) -> bool:
        return self.stopping.epochs_without_gain >= self.config.early_stopping.patience

    def _device_batches(self, step: int, interruption: Interruption) -> Iterator[dict]:
        """Yield the batches that are left, on the devices, and keep the position after each."""
        if step >= self.steps or self._stops_early():
            return
        sharding = NamedSharding(data_mesh(), PartitionSpec("data"))
        batches = training_batches.to_devices(self.batches, sharding, self.config.prefetch)
        with sigint_ignored():  # the reading processes inherit it: they end with this one
            batches = itertools.chain([next(batches)], batches)
        alone = self.processes.count == 1
        while step < self.steps:
            try:
                batch, self._position = next(batches)
            except Exception:
                if interruption.requested and alone:  # the signal has ended the readers too
                    self._stop(step)
                raise
            if not alone:
                flags = np.full(jax.local_device_count(), interruption.requested)
                batch["stops"] = jax.make_array_from_process_local_data(sharding, flags)
            yield batch
            step += 1

    def _stops(self, interruption: Interruption, previous: StepReport | None) -> bool:
        """Return whether the run stops here. Several processes agree by the step before."""
        if self.processes.count == 1:
            return interruption.requested
        return previous is not None and bool(previous.stops)

    def _check(self, step: int, report: StepReport):
        """Wait for a step and check it.

        Raises:
          UserError: its loss, gradients or parameters are not finite, or a checkpoint cannot be
            written.
        """
        self.checkpoints.check()
        finite = np.asarray(report.finite)
        if finite.all():
            return
        self.checkpoints.wait()
        last = self.checkpoints.latest_step()
        kept = "there is no checkpoint yet"
        if last is not None:
            kept = f"the checkpoint of step {last} is kept"
        names = self.batches.names(step - 1)
        images = ", ".join(names[:8]) + (f" and {len(names) - 8} others" if len(names) > 8 else "")
        raise UserError(
            f"the {CHECKED_PARTS[int(np.argmin(finite))]} of step {step} became NaN or infinite on "
            f"images {images}; {kept}: look at these images, lower config.learning_rate or set "
            "config.gradient_clip_norm"
        )

    def _log(self, step: int):
        loss, _ = self.state.epoch_loss()
        epoch = -(-step // self.batches.batches_per_epoch)
        speed = self.progress.report(step, f"{epoch}/{self.config.epochs}", loss)
        self.workdir.log(step, {"loss": loss, "images_per_second": speed})

    def _save(self, step: int):
        metadata = {
            "model": self.spec.to_json(),
            "step": step,
            "epoch": step // self.batches.batches_per_epoch,
            "early_stopping": dataclasses.asdict(self.stopping),
            "iterator": self._position,
            "config": json.loads(self.config.to_json()),
        }
        self.workdir.flush()  # first: a run that goes on from a step needs the records before it
        self.checkpoints.save(step, *self.state.to_arrays(), metadata)
        self._saved_step = step

    def _stop(self, step: int):
        """Save what is not saved yet, and raise `Interrupted`."""
        if step > self._saved_step:
            self._save(step)
        self.checkpoints.wait()
        saved = f"the checkpoint of step {step} is in {self.workdir.path}"
        raise Interrupted(
            f"{saved if step else 'no step is done'}; run the same command again to go on"
        )

    def _epoch_end_is_pending(self) -> bool:
        """Return whether the steps of an epoch are done, but not its validation."""
        _, steps = self.state.epoch_loss()
        return int(self.state.step) % self.batches.batches_per_epoch == 0 and steps > 0

    def validate(self, interruption: Interruption) -> Evaluation | None:
        """Evaluate this process's share of the validation split, and gather the others.

        Returns:
          The evaluation of all images, or None if any process was interrupted.
        """
        config = self.config
        state = self._structure.state(self.state.weights(), local_copy(self.state.random))
        self.predictor.load(state)
        evaluation = Evaluation(config.dataset.labels, config.evaluation.threshold, keep=0)
        examples = decoded_examples.evaluation_examples(
            config,
            self.validation_source,
            self.processes.index,
            self.processes.count,
            self._preprocessing,
        )
        examples = itertools.takewhile(lambda _: not interruption.requested, examples)
        evaluate_examples(self.predictor, examples, evaluation, config.evaluation.batch_size)
        share = {"rows": evaluation.rows, "stops": interruption.requested}
        shares = self.processes.gathered(share)
        if any(share["stops"] for share in shares):
            return None
        evaluation.merge_shares([share["rows"] for share in shares])
        return evaluation

    def _end_epoch(self, step: int, interruption: Interruption) -> bool:
        """Validate and log; return False if that was interrupted, and then is still to do."""
        epoch = step // self.batches.batches_per_epoch
        train_loss, _ = self.state.epoch_loss()
        evaluation = self.validate(interruption)
        if evaluation is None:
            return False
        loss = evaluation.loss()
        if not math.isfinite(loss):
            raise UserError(
                f"the validation loss after step {step} is not finite: lower config.learning_rate"
            )
        self.stopping.update(loss, step, self.config.early_stopping.min_delta)
        summary = evaluation.summary()
        self.workdir.log(
            step,
            {
                "epoch": epoch,
                "train_loss": train_loss,
                "validation_loss": loss,
                **_validation_records(summary),
            },
        )
        mean = sum(figures["mIoU"] for figures in summary.values()) / len(summary)
        best = "  (best)" if self.stopping.best_step == step else ""
        self.progress.line(
            f"epoch {epoch}/{self.config.epochs}  train loss {train_loss:.4f}  "
            f"validation loss {loss:.4f}  mIoU {100 * mean:.2f}{best}"
        )
        self.state = self.state.at_epoch_start()
        return True


def _validation_records(summary: dict[str, dict[str, float]]) -> dict[str, float]:
    """Name metrics `validation/METRIC`, or `validation/LABEL/METRIC` of several labels."""
    return {
        f"validation/{name}" if len(summary) == 1 else f"validation/{label}/{name}": value
        for label, figures in summary.items()
        for name, value in figures.items()
    }
