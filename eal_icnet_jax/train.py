"""The training loop: one step function, one epoch, early stopping, checkpoints."""

import contextlib
import dataclasses
import errno
import json
import math
import os
import pathlib
import sys
import time
from typing import NamedTuple

import flax
import jax
import jax.numpy as jnp
import optax
from clu import metrics as clu_metrics
from clu import parameter_overview
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict
from tensorboardX import SummaryWriter

from eal_icnet_jax import checkpoints, input_pipeline, models, pictures
from eal_icnet_jax.configs import default
from eal_icnet_jax.errors import UserError
from eal_icnet_jax.evaluate import Evaluation, evaluate_examples
from eal_icnet_jax.files import write_whole
from eal_icnet_jax.losses import bce_dice_loss
from eal_icnet_jax.predictor import Predictor, data_mesh

FREE_TO_CHANGE = (
    "epochs",
    "evaluation",
    "log_every_steps",
    "checkpoint_every_steps",
    "prefetch",
    "workers",
)
"""Knobs that a run may be resumed with other values of."""
FREE_OF_DATASET = ("dataset.data_dir", "dataset.manual_dir", "dataset.prepare")
"""So are these: where the dataset lies, not what it is."""


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
    first_bad_step: the first step whose loss or gradient was not finite, -1 for none.
    """

    params: nnx.State
    others: nnx.State
    optimizer: optax.OptState
    running: RunningLoss
    step: jax.Array
    first_bad_step: jax.Array


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


def make_train_step(graphdef: nnx.GraphDef, optimizer: optax.GradientTransformation, loss: dict):
    """Compiled step `(state, batch)` to state; the state is donated.

    The batch, `image` `[B, H, W, C]` and `label` `[B, H, W, L]`, is shared over all devices, and
    so batch statistics, loss and gradients are those of the whole batch.
    """

    def step(state: TrainState, batch) -> TrainState:
        def objective(params):
            model = nnx.merge(graphdef, params, state.others, copy=True)
            value = bce_dice_loss(model(batch["image"]), batch["label"], **loss)
            return value, nnx.state(model, nnx.Not(nnx.Param))

        (value, others), gradients = jax.value_and_grad(objective, has_aux=True)(state.params)
        updates, moments = optimizer.update(gradients, state.optimizer, state.params)
        finite = jax.tree.map(lambda array: jnp.all(jnp.isfinite(array)), (value, gradients))
        bad = (state.first_bad_step < 0) & ~jnp.stack(jax.tree.leaves(finite)).all()
        return TrainState(
            params=optax.apply_updates(state.params, updates),
            others=others,
            optimizer=moments,
            running=state.running.merge(RunningLoss.single_from_model_output(loss=value)),
            step=state.step + 1,
            first_bad_step=jnp.where(bad, state.step + 1, state.first_bad_step),
        )

    mesh = data_mesh()
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
        first_bad_step=jnp.full((), -1, jnp.int32),
    )
    return graphdef, jax.device_put(state, NamedSharding(data_mesh(), PartitionSpec()))


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


def check_config(config: ConfigDict):
    """Raises a `UserError` that names every knob that configs/default.py does not have."""
    known, given = flat_config(default.get_config()), flat_config(config)
    unknown = [key for key in given if key not in known and not key.startswith("model.options.")]
    missing = [key for key in known if key not in given]
    if unknown or missing:
        told = [f"unknown key {key}" for key in unknown] + [f"missing key {key}" for key in missing]
        raise UserError(f"the config has {', '.join(told)}: configs/default.py lists every key")
    for key in ("batch_size", "epochs", "log_every_steps", "evaluation.batch_size"):
        if given[key] < 1:
            raise UserError(f"config.{key} is {given[key]}: it must be at least 1")


def flat_config(config: ConfigDict, prefix: str = "") -> dict:
    """Every knob's value by its dotted name."""
    out = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            out.update(flat_config(value, f"{prefix}{key}."))
        else:
            out[prefix + key] = value
    return out


def check_same_config(workdir: pathlib.Path, config: ConfigDict):
    """A run is resumed with the config that it was begun with.

    Raises:
      UserError: a run with another is in the workdir.
    """
    if not (workdir / "config.json").exists():
        return
    try:
        there = ConfigDict(json.loads((workdir / "config.json").read_text()))
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{workdir / 'config.json'} is damaged ({error}): use a new --workdir"
        ) from error
    there, here = flat_config(there), flat_config(ConfigDict(json.loads(config.to_json())))
    changed = [
        f"{key} ({there.get(key)} there, {here.get(key)} here)"
        for key in sorted(there.keys() | here.keys())
        if there.get(key) != here.get(key)
        and key.split(".")[0] not in FREE_TO_CHANGE
        and key not in FREE_OF_DATASET
    ]
    if changed:
        raise UserError(
            f"the workdir {workdir} holds a run with another config, "
            f"{', '.join(changed)}: use a new --workdir or that config"
        )


def read_records(path: pathlib.Path) -> list[dict]:
    """The lines of a metrics.jsonl, none where there is no file."""
    if not path.exists():
        return []
    out = []
    for line in path.read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):  # a killed run's last, half line
            out.append(json.loads(line))
    return out


class Workdir:
    """The files of a run beside its checkpoints.

    config.json: the resolved config. parameters.txt: the parameter table. metrics.jsonl: a record
    every few steps and one an epoch. tensorboard/: the same as events.
    """

    def __init__(self, path: str | None, config: ConfigDict):
        if not path:
            raise UserError("no --workdir: name a folder for what the run writes")
        self.path = pathlib.Path(path).expanduser()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            check_same_config(self.path, config)
            if not os.access(self.path, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise UserError(
                f"the workdir {self.path} cannot be written: {error.strerror}; name another"
            ) from error
        self._records = self.path / "metrics.jsonl"

    def describe(self, config: ConfigDict, model: nnx.Module):
        """Writes what the run is, once all of it is known to be right."""
        table = parameter_overview.get_parameter_overview(
            checkpoints.weight_arrays(nnx.state(model, nnx.Param)), include_stats=False
        )
        write_whole(self.path / "parameters.txt", table + "\n")
        write_whole(self.path / "config.json", config.to_json(indent=1) + "\n")

    def open_logs(self, step: int):
        """Readies the logs for what follows a step, dropping what a killed run wrote after it."""
        kept = [record for record in self.records() if record["step"] <= step]
        write_whole(self._records, "".join(json.dumps(record) + "\n" for record in kept))
        self._events = SummaryWriter(str(self.path / "tensorboard"), purge_step=step + 1)

    def records(self) -> list[dict]:
        return read_records(self._records)

    def log(self, step: int, record: dict[str, float]):
        with self._records.open("a") as file:
            file.write(json.dumps({"step": step, **record}) + "\n")
        for key, value in record.items():
            self._events.add_scalar(key, value, step)

    def close_logs(self):
        self._events.close()


class Progress:
    """A line with loss, speed and time left, rewritten in place on a terminal."""

    def __init__(self, steps: int, batch_size: int, first_step: int):
        self._steps, self._batch_size = steps, batch_size
        self._seconds, self._counted = 0.0, 0
        self._mark = (first_step, time.perf_counter())
        self._terminal = sys.stdout.isatty()

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
        if self._terminal:
            print(f"\r\033[K{text}", end="\n" if last else "", flush=True)
        else:
            print(text, flush=True)


class Trainer:
    """One run: the state, where it is saved, and the loop."""

    def __init__(self, config: ConfigDict, workdir: str | None):
        check_config(config)
        self.config = config
        self.workdir = Workdir(workdir, config)
        train_source = input_pipeline.open_split(config.dataset, "train")
        self.validation_source = input_pipeline.open_split(config.dataset, "validation")
        self.batches = input_pipeline.TrainingBatches(config, train_source)
        model = create_model(config)
        self.workdir.describe(config, model)
        optimizer = optax.adam(config.learning_rate)
        graphdef, self.state = initial_state(model, optimizer)
        self.loss = dict(config.loss)
        self.train_step = make_train_step(graphdef, optimizer, self.loss)
        self.spec = model.spec
        model.eval()
        self.predictor = Predictor(model, **self.loss)
        self.stopping = EarlyStopping()
        self.checkpoints = checkpoints.TrainingCheckpoints(self.workdir.path)
        if self.checkpoints.latest_step() is not None:
            self._restore()

    def _training_tree(self) -> dict:
        """The state but for the weights: the optimizer, the random keys, the running loss."""
        tree = self.state._asdict()
        del tree["params"]
        tree["others"] = nnx.filter_state(tree["others"], nnx.Not(nnx.BatchStat))
        return tree

    def _arrays(self) -> tuple[checkpoints.Arrays, checkpoints.Arrays]:
        """What a checkpoint's `model` and `training` hold."""
        weights = checkpoints.weight_arrays(self.state.params, self.state.others)
        return weights, checkpoints.tree_arrays(self._training_tree())

    def _restore(self):
        weights, training, metadata = self.checkpoints.restore(*self._arrays())
        tree = checkpoints.with_tree_arrays(self._training_tree(), training)
        statistics = checkpoints.with_weights(self.state.others, weights)
        tree["others"] = nnx.merge_state(statistics, tree["others"])
        params = checkpoints.with_weights(self.state.params, weights)
        self.state = TrainState(params=params, **tree)
        self.stopping = EarlyStopping(**metadata["early_stopping"])
        self.batches.set_state(metadata["iterator"])
        print(f"resuming from step {metadata['step']} in {self.workdir.path}", flush=True)

    def _save(self, step: int, iterator_state: dict):
        metadata = {
            "model": self.spec.to_json(),
            "step": step,
            "epoch": step // self.batches.batches_per_epoch,
            "early_stopping": dataclasses.asdict(self.stopping),
            "iterator": iterator_state,
            "config": json.loads(self.config.to_json()),
        }
        self.checkpoints.save(step, *self._arrays(), metadata)

    def _loss(self) -> float:
        """The epoch's loss so far; waits for the devices.

        Raises:
          UserError: some step's loss or gradient was not finite.
        """
        bad = int(self.state.first_bad_step)
        if bad >= 0:
            self.checkpoints.wait()
            last = self.checkpoints.latest_step()
            kept = (
                f"the checkpoint of step {last} is kept" if last else "there is no checkpoint yet"
            )
            raise UserError(
                f"the loss or gradient of step {bad} is not finite; {kept}: lower "
                "config.learning_rate or look for broken images in its epoch"
            )
        return float(self.state.running.compute()["loss"])

    def validate(self) -> Evaluation:
        self.predictor.load(nnx.merge_state(self.state.params, self.state.others))
        return self._evaluate(self.validation_source, keep=0)

    def _evaluate(self, source, keep: int) -> Evaluation:
        config = self.config
        evaluation = Evaluation(config.dataset.labels, config.evaluation.threshold, keep)
        examples = input_pipeline.evaluation_examples(config, source)
        size = config.evaluation.batch_size
        return evaluate_examples(self.predictor, examples, evaluation, size)

    def _end_epoch(self, step: int, epoch: int, progress: Progress):
        train_loss = self._loss()
        evaluation = self.validate()
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
        self.state = self.state._replace(
            running=jax.device_put(RunningLoss.empty(), self.state.step.sharding)
        )

    def run(self):
        """Trains to the end, or on from where the workdir's latest checkpoint is."""
        self.workdir.open_logs(int(self.state.step))
        try:
            self._loop()
        finally:
            self.checkpoints.close()
            self.workdir.close_logs()
        pictures.curves(self.workdir.path / "curves.png", self.workdir.records())

    def _loop(self):
        config = self.config
        per_epoch = self.batches.batches_per_epoch
        steps = config.epochs * per_epoch
        first = step = int(self.state.step)
        sharding = NamedSharding(data_mesh(), PartitionSpec("data"))
        batches = input_pipeline.to_devices(self.batches, sharding, config.prefetch)
        progress = Progress(steps, config.batch_size, step)
        while step < steps and self.stopping.epochs_without_gain < config.early_stopping.patience:
            batch, iterator_state = next(batches)
            self.state = self.train_step(self.state, batch)
            step += 1
            epoch = -(-step // per_epoch)
            if step == first + 1:
                self._loss()
                progress.restart(step)  # the first step compiles
            elif step % config.log_every_steps == 0:
                loss = self._loss()
                speed = progress.line(step, epoch, config.epochs, loss)
                self.workdir.log(step, {"loss": loss, "images_per_second": speed})
            ends_epoch = step % per_epoch == 0
            every = config.checkpoint_every_steps
            if ends_epoch:
                self._end_epoch(step, epoch, progress)
            elif every and step % every == 0:
                self._loss()  # no checkpoint holds weights that a bad loss has spoilt
            else:
                continue
            self._save(step, iterator_state)
            progress.restart(step)
        if self.stopping.epochs_without_gain >= config.early_stopping.patience:
            print(f"stopped early: {self.stopping.epochs_without_gain} epochs without gain")


def train(config: ConfigDict, workdir: str | None, checkpoint: str = ""):
    """Trains, then evaluates the best checkpoint on the test split into `workdir/test`."""
    if checkpoint:
        raise UserError(
            "--checkpoint is for --mode=evaluate: to start from it, set config.model.checkpoint"
        )
    Trainer(config, workdir).run()
    evaluate(config, workdir)


def evaluate(config: ConfigDict, workdir: str | None, checkpoint: str = ""):
    """Evaluates a checkpoint on the test split; tables and pictures go to `workdir/test`."""
    check_config(config)
    if not workdir:
        raise UserError("no --workdir: name a folder for tables and pictures")
    model = checkpoints.load_model(checkpoint or workdir, dtype=config.model.dtype)
    classes = dict(model.spec.options)["classes"]
    if classes != len(config.dataset.labels):
        raise UserError(
            f"the checkpoint predicts {classes} masks, but config.dataset.labels names "
            f"{len(config.dataset.labels)}: use the config that it was trained with"
        )
    config = config.copy_and_resolve_references()
    config.model.in_channels = dict(model.spec.options)["in_channels"]
    source = input_pipeline.open_split(config.dataset, "test")
    evaluation = Evaluation(
        config.dataset.labels, config.evaluation.threshold, config.evaluation.pictures
    )
    examples = input_pipeline.evaluation_examples(config, source)
    predictor = Predictor(model, **config.loss)
    evaluate_examples(predictor, examples, evaluation, config.evaluation.batch_size)
    folder = pathlib.Path(workdir) / "test"
    evaluation.write(folder)
    print(f"test split, {len(source)} images, percent:\n{evaluation.table()}")
    print(f"tables and pictures in {folder}", flush=True)


def prepare(config: ConfigDict, workdir: str | None, checkpoint: str = ""):
    """Prepares the dataset where it is missing."""
    if workdir or checkpoint:
        raise UserError("--mode=prepare takes --config alone")
    check_config(config)
    input_pipeline.prepare(config.dataset)


MODES = {"train": train, "evaluate": evaluate, "prepare": prepare}
