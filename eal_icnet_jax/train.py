"""The training loop: one step function, one epoch, early stopping, checkpoints."""

import dataclasses
import itertools
import json
import math
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from clu import metrics as clu_metrics
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from eal_icnet_jax import checkpoints, input_pipeline, models, pictures
from eal_icnet_jax.configs import default
from eal_icnet_jax.distributed import (
    ALONE,
    Processes,
    data_mesh,
    on_all_devices,
    on_this_process,
)
from eal_icnet_jax.errors import Interrupted, Interruption, UserError, warn, without_interrupts
from eal_icnet_jax.evaluate import Evaluation, evaluate_examples
from eal_icnet_jax.layers import shared_by
from eal_icnet_jax.losses import bce_dice_loss
from eal_icnet_jax.predictor import Predictor
from eal_icnet_jax.workdir import Workdir, flat_config

CHECKED = ("loss", "gradients", "parameters")
"""What has to stay finite."""


@flax.struct.dataclass
class RunningLoss(clu_metrics.Collection):
    """The training loss since the epoch began."""

    loss: clu_metrics.Average.from_output("loss")


class TrainState(NamedTuple):
    """Everything that a step changes, on the devices.

    params, others: the model's parameters, and its batch statistics and random keys.
    optimizer: Adam's moments.
    running: the loss of the epoch so far.
    step: batches seen.
    """

    params: nnx.State
    others: nnx.State
    optimizer: optax.OptState
    running: RunningLoss
    step: jax.Array


class Told(NamedTuple):
    """What a step tells of itself.

    finite: which of `CHECKED` are, `[3]` bool.
    stops: whether any process asked to stop.
    """

    finite: jax.Array
    stops: jax.Array


@dataclasses.dataclass
class EarlyStopping:
    """Stops when the validation loss no longer falls, as the released script does.

    An epoch counts as better for stopping when it beats the best such epoch by more than
    `min_delta`; for keeping weights, when its loss is lower at all.
    """

    reference_loss: float = math.inf
    epochs_without_gain: int = 0
    best_loss: float = math.inf
    best_step: int | None = None

    def update(self, loss: float, step: int, min_delta: float):
        if loss < self.best_loss:
            self.best_loss, self.best_step = loss, step
        if self.reference_loss - loss > min_delta:
            self.reference_loss, self.epochs_without_gain = loss, 0
        else:
            self.epochs_without_gain += 1


def all_finite(tree) -> jax.Array:
    """Whether a tree's arrays hold neither NaN nor infinity."""
    return jnp.stack([jnp.isfinite(array).all() for array in jax.tree.leaves(tree)]).all()


def make_train_step(graphdef: nnx.GraphDef, optimizer: optax.GradientTransformation, loss: dict):
    """Compiled step `(state, batch)` to the next state and `Told`.

    The state is donated. The batch, `image` `[B, H, W, C]` and `label` `[B, H, W, L]`, is shared
    over all devices, and so batch statistics, loss and gradients are those of the whole batch. So
    may be `stops`, a bool of each device: one of several processes may have been asked to, and all
    have to at one step. It is part of the step, because programs that processes run in different
    orders would mix what they exchange.
    """

    mesh = data_mesh()

    def step(state: TrainState, batch) -> tuple[TrainState, Told]:
        def objective(params):
            model = nnx.merge(graphdef, params, state.others, copy=True)
            value = bce_dice_loss(model(batch["image"]), batch["label"], **loss)
            return value, nnx.state(model, nnx.Not(nnx.Param))

        with shared_by(mesh.size):
            (value, others), gradients = jax.value_and_grad(objective, has_aux=True)(state.params)
        updates, moments = optimizer.update(gradients, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        finite = jnp.stack([all_finite(part) for part in (value, gradients, params)])
        state = TrainState(
            params=params,
            others=others,
            optimizer=moments,
            running=state.running.merge(RunningLoss.single_from_model_output(loss=value)),
            step=state.step + 1,
        )
        return state, Told(finite, batch.get("stops", jnp.zeros(1, bool)).any())

    everywhere = NamedSharding(mesh, PartitionSpec())
    shared = NamedSharding(mesh, PartitionSpec("data"))
    return jax.jit(
        step, donate_argnums=0, in_shardings=(everywhere, shared), out_shardings=everywhere
    )


def initial_state(model: nnx.Module, optimizer) -> tuple[nnx.GraphDef, TrainState]:
    """A model in training mode split for `make_train_step`, on all devices."""
    model.train()
    graphdef, params, others = nnx.split(model, nnx.Param, ...)
    state = TrainState(
        params=params,
        others=others,
        optimizer=optimizer.init(params),
        running=RunningLoss.empty(),
        step=jnp.zeros((), jnp.int32),
    )
    return graphdef, on_all_devices(state)


def make_optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """Adam, which gradients reach clipped where the config says so."""
    adam = optax.adam(config.learning_rate)
    if not config.gradient_clip_norm:
        return adam
    return optax.chain(optax.clip_by_global_norm(config.gradient_clip_norm), adam)


def create_model(config: ConfigDict) -> nnx.Module:
    """The model of a config, with fresh weights or those of `config.model.checkpoint`."""
    if config.model.checkpoint:
        model = checkpoints.load_model(config.model.checkpoint, dtype=config.model.dtype)
        options = dict(model.spec.options)
        wanted = (config.model.name, config.model.in_channels, len(config.dataset.labels))
        if (model.spec.name, options["in_channels"], options["classes"]) != wanted:
            raise UserError(
                f"config.model.checkpoint={config.model.checkpoint} holds {model.spec.name} with "
                f"{model.spec.options_text()}, but the config asks for {wanted[0]} with "
                f"in_channels={wanted[1]} and {wanted[2]} labels"
            )
        return model
    return models.create_model(
        config.model.name,
        in_channels=config.model.in_channels,
        classes=len(config.dataset.labels),
        rngs=nnx.Rngs(config.seed),
        dtype=config.model.dtype,
        **config.model.options,
    )


def _like(value, default) -> bool:
    """Whether a knob's value is of the kind of its default."""
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool | int)
    kinds = (int, float) if isinstance(default, float) else (type(default),)
    if isinstance(default, tuple | list):
        kinds = tuple, list
    return isinstance(value, kinds)


def check_config(config: ConfigDict):
    """Raises a `UserError` that names every knob that configs/default.py does not have."""
    known, given = flat_config(default.get_config()), flat_config(config)
    unknown = [key for key in given if key not in known and not key.startswith("model.options.")]
    missing = [key for key in known if key not in given]
    if unknown or missing:
        told = [f"unknown key {key}" for key in unknown] + [f"missing key {key}" for key in missing]
        raise UserError(f"the config has {', '.join(told)}: configs/default.py lists every key")
    for key, value in known.items():
        if not _like(given[key], value):
            raise UserError(
                f"config.{key} is {given[key]!r}: it must be like {value!r}, a "
                f"{type(value).__name__}"
            )
    for key in ("batch_size", "epochs", "log_every_steps", "evaluation.batch_size"):
        if given[key] < 1:
            raise UserError(f"config.{key} is {given[key]}: it must be at least 1")
    if not given["loss.epsilon"] > 0:
        raise UserError(
            f"config.loss.epsilon is {given['loss.epsilon']}: it must be above 0, or the loss of "
            "images without foreground is not a number"
        )
    if not given["gradient_clip_norm"] >= 0:
        raise UserError(
            f"config.gradient_clip_norm is {given['gradient_clip_norm']}: it must be above 0, or 0 "
            "for no clipping"
        )


class Progress:
    """A line with loss, speed and time left, rewritten in place on a terminal."""

    def __init__(self, steps: int, batch_size: int, first_step: int, silent: bool = False):
        self._steps, self._batch_size = steps, batch_size
        self._seconds, self._counted = 0.0, 0
        self._mark = (first_step, time.perf_counter())
        self._terminal = sys.stdout.isatty()
        self._silent = silent

    def restart(self, step: int):
        """Leaves out what happened since the last line: validation, checkpoints, compilation."""
        self._mark = (step, time.perf_counter())

    def line(self, step: int, epoch: int, epochs: int, loss: float) -> float:
        """Prints, and returns the images per second since the last mark."""
        now = time.perf_counter()
        steps, seconds = step - self._mark[0], now - self._mark[1]
        self._counted, self._seconds = self._counted + steps, self._seconds + seconds
        left = (self._steps - step) * self._seconds / max(self._counted, 1)
        speed = steps * self._batch_size / seconds
        minutes, rest = divmod(round(left), 60)
        self.show(
            f"epoch {epoch}/{epochs}  step {step}/{self._steps}  loss {loss:.4f}  "
            f"{speed:.1f} images/s  {minutes}:{rest:02d} left",
            last=False,
        )
        self._mark = (step, now)
        return speed

    def show(self, text: str, last: bool = True):
        if self._silent:
            return
        if self._terminal:
            print(f"\r\033[K{text}", end="\n" if last else "", flush=True)
        else:
            print(text, flush=True)


class Trainer:
    """One run: the state, where it is saved, and the loop.

    Args:
      config: of the run.
      workdir: its folder, which is locked until `run` ends.
      processes: that train together, and share every batch.
    """

    def __init__(self, config: ConfigDict, workdir: str | None, processes: Processes = ALONE):
        check_config(config)
        self.config = config
        self.processes = processes
        self.workdir = Workdir(workdir, config, writes=processes.is_first)
        try:
            self._begin()
        except BaseException:
            self.workdir.release()
            raise

    def _begin(self):
        config, processes = self.config, self.processes
        train_source = input_pipeline.open_split(config.dataset, "train")
        self.validation_source = input_pipeline.open_split(config.dataset, "validation")
        self.batches = input_pipeline.TrainingBatches(config, train_source, processes)
        model = create_model(config)
        self.workdir.describe(config, model)
        optimizer = make_optimizer(config)
        graphdef, self.state = initial_state(model, optimizer)
        self.loss = dict(config.loss)
        self.train_step = make_train_step(graphdef, optimizer, self.loss)
        self.spec = model.spec
        model.eval()
        self.predictor = Predictor(model, **self.loss)
        self.stopping = EarlyStopping()
        self.checkpoints = checkpoints.TrainingCheckpoints(self.workdir.path, processes)
        self._restore()
        if processes.is_first:
            digests = input_pipeline.digests(config.dataset)
            self.workdir.record_start(config, int(self.state.step), digests)

    def _training_tree(self, state: TrainState) -> dict:
        """The state but for the weights: the optimizer, the random keys, the running loss."""
        tree = state._asdict()
        del tree["params"]
        tree["others"] = nnx.filter_state(tree["others"], nnx.Not(nnx.BatchStat))
        return tree

    def _arrays(self) -> tuple[checkpoints.Arrays, checkpoints.Arrays]:
        """What a checkpoint's `model` and `training` hold."""
        state = on_this_process(self.state)
        weights = checkpoints.weight_arrays(state.params, state.others)
        return weights, checkpoints.tree_arrays(self._training_tree(state))

    def _restore(self):
        restored = self.checkpoints.restore(*self._arrays())
        if restored is None:
            return
        weights, training, metadata = restored
        state = on_this_process(self.state)
        tree = checkpoints.with_tree_arrays(self._training_tree(state), training)
        statistics = checkpoints.with_weights(state.others, weights)
        tree["others"] = nnx.merge_state(statistics, tree["others"])
        params = checkpoints.with_weights(state.params, weights)
        self.state = on_all_devices(TrainState(params=params, **tree))
        self.stopping = EarlyStopping(**metadata["early_stopping"])
        self.batches.set_state(metadata["iterator"])
        self._check_best(weights)
        self._say(f"resuming from step {metadata['step']} in {self.workdir.path}")

    def _check_best(self, weights: checkpoints.Arrays):
        """Should the best checkpoint be damaged, the best of what follows takes its place."""
        best = self.stopping.best_step
        whole = best is None or self.checkpoints.is_whole(best, weights)
        if not all(self.processes.gathered(whole)):
            self.stopping.best_step, self.stopping.best_loss = None, math.inf
            if self.processes.is_first:
                warn(
                    f"the best checkpoint, {self.checkpoints.directory(best)}, is damaged or gone: "
                    "the best of the epochs that follow is kept instead"
                )

    def _say(self, text: str):
        if self.processes.is_first:
            print(text, flush=True)

    def _save(self, step: int, iterator_state: dict):
        metadata = {
            "model": self.spec.to_json(),
            "step": step,
            "epoch": step // self.batches.batches_per_epoch,
            "early_stopping": dataclasses.asdict(self.stopping),
            "iterator": iterator_state,
            "config": json.loads(self.config.to_json()),
        }
        self.workdir.flush()  # first: a run that goes on from a step has the records before it
        self.checkpoints.save(step, *self._arrays(), metadata)

    def _check(self, step: int, told: Told):
        """Waits for a step.

        Raises:
          UserError: its loss, gradients or parameters were not finite, or a checkpoint cannot be
            written.
        """
        self.checkpoints.check()
        finite = np.asarray(told.finite)
        if finite.all():
            return
        self.checkpoints.wait()
        last = self.checkpoints.latest_step()
        kept = (
            "there is no checkpoint yet"
            if last is None
            else f"the checkpoint of step {last} is kept"
        )
        names = self.batches.names(step - 1)
        images = ", ".join(names[:8]) + (f" and {len(names) - 8} others" if len(names) > 8 else "")
        raise UserError(
            f"the {CHECKED[int(np.argmin(finite))]} of step {step} became NaN or infinite on images"
            f" {images}; {kept}: look at these images, lower config.learning_rate or set "
            "config.gradient_clip_norm"
        )

    def _loss(self) -> float:
        """The epoch's loss so far; waits for the devices."""
        return float(on_this_process(self.state.running).compute()["loss"])

    def validate(self, interruption: Interruption) -> Evaluation | None:
        """Evaluates the validation split, of which each process takes a share.

        Returns:
          None where any process is interrupted.
        """
        state = on_this_process(self.state)
        self.predictor.load(nnx.merge_state(state.params, state.others))
        config = self.config
        evaluation = Evaluation(config.dataset.labels, config.evaluation.threshold, keep=0)
        examples = input_pipeline.evaluation_examples(
            config, self.validation_source, self.processes.index, self.processes.count
        )
        size = config.evaluation.batch_size
        examples = itertools.takewhile(lambda _: not interruption.requested, examples)
        evaluate_examples(self.predictor, examples, evaluation, size)
        share = {"rows": evaluation.rows, "stops": interruption.requested}
        shares = self.processes.gathered(share)
        if any(share["stops"] for share in shares):
            return None
        evaluation.take_turns([share["rows"] for share in shares])
        return evaluation

    def _is_to_end_epoch(self) -> bool:
        """Whether the steps of an epoch are done, and what follows them is not."""
        steps = int(self.state.step)
        counted = float(on_this_process(self.state.running).loss.count)
        return steps % self.batches.batches_per_epoch == 0 and counted > 0

    def _end_epoch(self, step: int, progress: Progress, interruption: Interruption) -> bool:
        """Validates; False where that was interrupted, and then is still to be done."""
        epoch = step // self.batches.batches_per_epoch
        train_loss = self._loss()
        evaluation = self.validate(interruption)
        if evaluation is None:
            return False
        loss = evaluation.loss()
        if not math.isfinite(loss):
            raise UserError(
                f"the validation loss after step {step} is not finite: lower config.learning_rate"
            )
        self.stopping.update(loss, step, self.config.early_stopping.min_delta)
        figures = evaluation.summary()
        named = {
            f"validation/{name}" if len(figures) == 1 else f"validation/{label}/{name}": value
            for label, own in figures.items()
            for name, value in own.items()
        }
        record = {"epoch": epoch, "train_loss": train_loss, "validation_loss": loss, **named}
        self.workdir.log(step, record)
        best = "  (best)" if self.stopping.best_step == step else ""
        mean = sum(own["mIoU"] for own in figures.values()) / len(figures)
        progress.show(
            f"epoch {epoch}/{self.config.epochs}  train loss {train_loss:.4f}  "
            f"validation loss {loss:.4f}  mIoU {100 * mean:.2f}{best}"
        )
        self.state = self.state._replace(running=on_all_devices(RunningLoss.empty()))
        return True

    def run(self, requested: bool = False):
        """Trains to the end, or on from where the workdir's latest checkpoint is.

        Args:
          requested: whether a signal came before, and the run is to stop after a step.

        Raises:
          Interrupted: SIGTERM or SIGINT came, and a checkpoint is written.
          UserError: the run cannot go on.
        """
        self.workdir.open_logs(int(self.state.step), self._is_to_end_epoch())
        try:
            with Interruption("finishing the step, then a checkpoint is written") as interruption:
                interruption.requested |= requested
                self._loop(interruption)
                self.checkpoints.wait()
        finally:
            self.checkpoints.close()
            self.workdir.close_logs()
            self.workdir.release()
        if self.processes.is_first:
            pictures.curves(self.workdir.path / "curves.png", self.workdir.records())

    def _stop(self, step: int, saved: int, iterator_state: dict):
        """Saves what is not, and raises `Interrupted`."""
        if step > saved:
            self._save(step, iterator_state)
        self.checkpoints.wait()
        where = f"the checkpoint of step {step} is in {self.workdir.path}"
        what = where if step else "no step is done"
        raise Interrupted(f"{what}; run the same command again to go on")

    def _loop(self, interruption: Interruption):
        config = self.config
        per_epoch = self.batches.batches_per_epoch
        steps = config.epochs * per_epoch
        first = step = int(self.state.step)
        sharding = NamedSharding(data_mesh(), PartitionSpec("data"))
        batches = input_pipeline.to_devices(self.batches, sharding, config.prefetch)
        progress = Progress(steps, config.batch_size, step, silent=not self.processes.is_first)
        alone, told, saved = self.processes.count == 1, None, step
        iterator_state = self.batches.get_state()
        if self._is_to_end_epoch() and not self._end_epoch(step, progress, interruption):
            self._stop(step, saved, iterator_state)
        with without_interrupts():  # which its processes inherit: they end when this one does
            batches = itertools.chain([next(batches)] if step < steps else [], batches)
        while step < steps and self.stopping.epochs_without_gain < config.early_stopping.patience:
            try:
                batch, iterator_state = next(batches)
            except Exception:
                if interruption.requested and alone:  # of processes that the signal ended too
                    self._stop(step, saved, iterator_state)
                raise
            if not alone:
                flags = np.full(jax.local_device_count(), interruption.requested)
                batch["stops"] = jax.make_array_from_process_local_data(sharding, flags)
            earlier = told
            self.state, told = self.train_step(self.state, batch)
            if earlier is not None:
                self._check(step, earlier)  # while the devices are at the next
            step += 1
            epoch = -(-step // per_epoch)
            every = config.checkpoint_every_steps
            stops = interruption.requested if alone else earlier is not None and bool(earlier.stops)
            ends_epoch, logs = step % per_epoch == 0, step % config.log_every_steps == 0
            saves = ends_epoch or stops or (every and step % every == 0)
            if saves or logs or step == first + 1:
                self._check(step, told)  # no checkpoint holds weights that a step has spoilt
            if step == first + 1:
                progress.restart(step)  # the first step compiles
            elif logs:
                loss = self._loss()
                speed = progress.line(step, epoch, config.epochs, loss)
                self.workdir.log(step, {"loss": loss, "images_per_second": speed})
            if ends_epoch and not self._end_epoch(step, progress, interruption):
                stops = True
            if saves:
                self._save(step, iterator_state)
                saved = step
                progress.restart(step)
            if stops:
                self._stop(step, saved, iterator_state)
        if self.stopping.epochs_without_gain >= config.early_stopping.patience:
            self._say(f"stopped early: {self.stopping.epochs_without_gain} epochs without gain")


def train(
    config: ConfigDict, workdir: str | None, checkpoint: str = "", processes: Processes = ALONE
):
    """Trains, then evaluates the best checkpoint on the test split into `workdir/test`."""
    if checkpoint:
        raise UserError(
            "--checkpoint is for --mode=evaluate: to start from it, set config.model.checkpoint"
        )
    trainer, requested = _begun(config, workdir, processes)
    trainer.run(requested)
    if processes.is_first:
        evaluate(config, workdir)


def _begun(config: ConfigDict, workdir: str | None, processes: Processes) -> tuple[Trainer, bool]:
    """A trainer, and whether a signal came meanwhile.

    Of several processes each goes on after it to the step at which all of them stop.

    Raises:
      Interrupted: it came, and this process is the only one.
    """
    if processes.count > 1:
        with Interruption("the next step is the last") as interruption:
            trainer = Trainer(config, workdir, processes)
        return trainer, interruption.requested
    try:
        return Trainer(config, workdir), False
    except KeyboardInterrupt as error:
        raise Interrupted("no step was done; run the same command again to go on") from error


def _until(interruption: Interruption, examples: Iterator[dict]) -> Iterator[dict]:
    for example in examples:
        if interruption.requested:
            raise Interrupted("nothing of the evaluation is kept; run the same command again")
        yield example


def evaluated(config: ConfigDict, model: nnx.Module, split: str, keep: int) -> Evaluation:
    """A model's evaluation on a split of the config's dataset.

    Args:
      keep: how many of the best and worst images to keep for pictures.

    Raises:
      UserError: the model does not fit the dataset.
      Interrupted: SIGTERM or SIGINT came.
    """
    options = dict(model.spec.options)
    if options["classes"] != len(config.dataset.labels):
        raise UserError(
            f"the checkpoint predicts {options['classes']} masks, but config.dataset.labels names "
            f"{len(config.dataset.labels)}: use the config that it was trained with"
        )
    config = config.copy_and_resolve_references()
    config.model.in_channels = options["in_channels"]
    source = input_pipeline.open_split(config.dataset, split)
    evaluation = Evaluation(config.dataset.labels, config.evaluation.threshold, keep)
    with Interruption("stopping after this image") as interruption:
        examples = _until(interruption, input_pipeline.evaluation_examples(config, source))
        predictor = Predictor(model, **config.loss)
        evaluate_examples(predictor, examples, evaluation, config.evaluation.batch_size)
    evaluation.check()
    return evaluation


def evaluate(config: ConfigDict, workdir: str | None, checkpoint: str = ""):
    """Evaluates a checkpoint on the test split; tables and pictures go to `workdir/test`."""
    check_config(config)
    if not workdir:
        raise UserError("no --workdir: name a folder for tables and pictures")
    model = checkpoints.load_model(checkpoint or workdir, dtype=config.model.dtype)
    evaluation = evaluated(config, model, "test", config.evaluation.pictures)
    folder = pathlib.Path(workdir).expanduser() / "test"
    evaluation.write(folder)
    print(f"test split, {evaluation.images} images, percent:\n{evaluation.table()}")
    print(f"tables and pictures in {folder}", flush=True)


def prepare(config: ConfigDict, workdir: str | None, checkpoint: str = ""):
    """Prepares the dataset where it is missing."""
    if workdir or checkpoint:
        raise UserError("--mode=prepare takes --config alone")
    check_config(config)
    input_pipeline.prepare(config.dataset)
