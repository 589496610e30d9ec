"""Trains and evaluates several networks several times, and writes what they reach at what cost.

    python -m eal_icnet_jax.compare --config=configs/synthetic.py --models=all --trials=3 \\
        --workdir=W

Each trial is a run of `python -m eal_icnet_jax.main` in W/MODEL/trial_K, with the config's seed and
those after it. Run again, the command goes on where it stopped. In the end it measures speed and
memory, each network in turns with the first one, and writes comparison.md, .csv, .tex, .png and
.html into W, beside plan.txt, what there was to do when it began. `--models=ablations` compares the
variants of configs/ablation.py.
"""

import dataclasses
import functools
import json
import multiprocessing
import pathlib
import signal
import statistics
import sys
import time
from importlib import metadata

import numpy as np
from absl import app, flags
from ml_collections import ConfigDict

from eal_icnet_jax import (
    checkpoints,
    command_line,
    cost,
    images,
    input_pipeline,
    models,
    report,
    runtime,
    train,
    turns,
)
from eal_icnet_jax.configs import ablation
from eal_icnet_jax.errors import (
    INTERRUPTED,
    Interrupted,
    UserError,
    end_with_parent,
    told_to_user,
    warn,
)
from eal_icnet_jax.files import write_whole
from eal_icnet_jax.metrics import COUNTS, METRICS
from eal_icnet_jax.workdir import (
    FREE_OF_DATASET,
    FREE_TO_CHANGE,
    check_same_config,
    flat_config,
    read_records,
)

MODELS = flags.DEFINE_list(
    "models",
    ["all"],
    "Networks, the first of which the others are compared with: names, `all`, or `ablations`, "
    "which is eal_icnet and the variants of configs/ablation.py.",
)
TRIALS = flags.DEFINE_integer("trials", 3, "Trainings of each, with seeds of their own.")
DRY_RUN = flags.DEFINE_bool("dry-run", False, "Only tell what would be done, and its cost.")

GROUPS = {"all": tuple(models.MODELS), "ablations": ("eal_icnet", *ablation.ABLATIONS)}

ROUNDS, SHOWN = 7, 6
"""Rounds of the measurement, and images of the test split that the page shows."""

STEP = 3
"""A training step's operations by a forward pass's."""

PART_OF_PEAK = 0.4
"""What part of the matrix product's rate networks reach, roughly, where nothing is known yet."""


@dataclasses.dataclass(frozen=True)
class Contender:
    """A network, or a variant of one, with the configs of its trials."""

    name: str
    configs: tuple[ConfigDict, ...]
    folder: pathlib.Path

    @property
    def title(self) -> str:
        if self.name in models.MODELS:
            return models.MODELS[self.name].title
        return self.name.replace("_", " ").replace("tssa", "TSSA").replace("dab", "DAB")

    def trial(self, k: int) -> pathlib.Path:
        return self.folder / f"trial_{k + 1}"

    def result(self, k: int) -> dict | None:
        """What a trial that has been trained and evaluated as its config says came to."""
        path = self.trial(k) / "trial.json"
        if not path.exists():
            return None
        result = json.loads(path.read_text())
        return result if result["config"] == _deciding(self.configs[k]) else None

    def done(self) -> list[int]:
        return [k for k in range(len(self.configs)) if self.result(k) is not None]

    def model(self):
        """The network without weights."""
        config = self.configs[0]
        model = models.blank_model(
            config.model.name,
            in_channels=config.model.in_channels,
            classes=len(config.dataset.labels),
            dtype=config.model.dtype,
            **config.model.options,
        )
        model.eval()
        return model


def _deciding(config: ConfigDict) -> dict:
    """What of a config decides what a trial comes to."""
    free = {*FREE_TO_CHANGE, *FREE_OF_DATASET} - {"epochs", "evaluation"}
    flat = flat_config(ConfigDict(json.loads(config.to_json())))
    return {key: value for key, value in flat.items() if not {key, key.split(".")[0]} & free}


def contenders(
    config: ConfigDict, names: list[str], trials: int, workdir: pathlib.Path
) -> list[Contender]:
    """The networks to compare, each once, in the order of their names.

    Raises:
      UserError: a name is unknown, the config is of one network alone, or the workdir holds trials
        with another config.
    """
    train.check_config(config)
    if trials < 1:
        raise UserError(f"--trials is {trials}: it must be at least 1")
    if config.model.checkpoint:
        raise UserError(
            "config.model.checkpoint is of one network: leave it empty to compare several"
        )
    out = []
    for name in dict.fromkeys(name for item in names for name in GROUPS.get(item, (item,))):
        if name not in models.MODELS and name not in ablation.ABLATIONS:
            known = (*GROUPS, *models.MODELS, *ablation.ABLATIONS)
            raise UserError(f"unknown model {name!r} in --models: choose of {', '.join(known)}")
        architecture = name if name in models.MODELS else "eal_icnet"
        configs = []
        for k in range(trials):
            own = config.copy_and_resolve_references()
            with own.unlocked():
                own.seed = config.seed + k
                if architecture != config.model.name:
                    own.model.options = ConfigDict()
                own.model.name = architecture
                own.model.options.update(ablation.ABLATIONS.get(name, {}))
            configs.append(own)
        contender = Contender(name, tuple(configs), workdir / name)
        for k, own in enumerate(configs):
            check_same_config(contender.trial(k), own)
        out.append(contender)
    if not out:
        raise UserError("--models names none: see --help")
    return out


class Plan:
    """What there is to do, and what it takes."""

    def __init__(self, config: ConfigDict, chosen: list[Contender]):
        self.config, self.contenders = config, chosen
        splits = ("train", "validation", "test")
        sources = {split: input_pipeline.open_split(config.dataset, split) for split in splits}
        self.images = {split: len(source) for split, source in sources.items()}
        if empty := [split for split, count in self.images.items() if not count]:
            raise UserError(f"there is no image in {', '.join(empty)}: see config.dataset.splits")
        decode = input_pipeline.Decode(config.model.in_channels, tuple(config.dataset.labels))
        chosen_images = np.unique(np.linspace(0, self.images["test"] - 1, SHOWN).astype(int))
        self.shown = [decode(sources["test"][int(k)]) for k in chosen_images]
        self.shape = (config.evaluation.batch_size, *self.shown[0]["image"].shape)

    @functools.cached_property
    def costs(self) -> dict[str, tuple[int, int, int]]:
        """Of each network: parameters, operations of an image, operations of a whole trial."""
        out = {}
        config, (_, height, width, channels) = self.config, self.shape
        crop = config.dataset.crop_size
        batches = config.epochs * (self.images["train"] // config.batch_size)
        evaluated = self.images["validation"] * config.epochs + self.images["test"]
        for contender in self.contenders:
            model = contender.model()
            image = cost.operations(model, (1, height, width, channels))
            cropped = cost.operations(model, (1, crop, crop, channels)) if crop else image
            trial = STEP * batches * config.batch_size * cropped + evaluated * image
            out[contender.name] = (cost.parameters(model), image, trial)
        return out

    def to_do(self) -> list[tuple[Contender, int]]:
        """Trials that are not done, all of one seed before those of the next."""
        trials = range(len(self.contenders[0].configs))
        return [(c, k) for k in trials for c in self.contenders if c.result(k) is None]

    def seconds(self) -> tuple[float, str]:
        """How long the rest may take, and what that is guessed from."""
        known = {}
        for contender in self.contenders:
            if done := contender.done():
                taken = [contender.result(k)["seconds"] for k in done]
                known[contender.name] = statistics.median(taken)
        if known:
            # The best: what small networks take is mostly not their operations.
            rate = max(self.costs[name][2] / taken for name, taken in known.items())
            told = "by the trials that are done"
        else:
            peak = _in_process(matrix_product_rate)
            rate = PART_OF_PEAK * peak
            told = (
                f"at {100 * PART_OF_PEAK:.0f}% of this machine's {peak / 1e9:,.0f} GFLOP/s in a "
                "matrix product, compilation apart"
            )
        rest = [contender.name for contender, _ in self.to_do()]
        return sum(known.get(name, self.costs[name][2] / rate) for name in rest), told

    def text(self) -> str:
        counts = ", ".join(f"{count} {split}" for split, count in self.images.items())
        height, width = self.shape[1:3]
        lines = [
            f"{counts} images; GFLOP for a {height}x{width} image, TFLOP for a trial",
            f"{'model':28s} {'done':>8s} {'parameters':>12s} {'GFLOP':>8s} {'TFLOP':>8s}",
        ]
        for contender in self.contenders:
            parameters, image, trial = self.costs[contender.name]
            done = f"{len(contender.done())} of {len(contender.configs)}"
            lines.append(
                f"{contender.name:28s} {done:>8s} {parameters:12,d} {image / 1e9:8.1f} "
                f"{trial / 1e12:8.1f}"
            )
        if rest := self.to_do():
            seconds, told = self.seconds()
            total = sum(self.costs[contender.name][2] for contender, _ in rest) / 1e12
            lines.append(
                f"to do: {len(rest)} trials, up to {total:,.0f} TFLOP, about "
                f"{report.duration(seconds)} {told}"
            )
        return "\n".join(lines)


def matrix_product_rate() -> float:
    """Operations a second of a 2048x2048 product of float32, the best of five."""
    import jax
    import jax.numpy as jnp

    product = jax.jit(lambda a: a @ a)
    a = jnp.ones((2048, 2048))
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        jax.block_until_ready(product(a))
        seconds.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(seconds[1:])


def _put(connection, function, arguments):
    """In the process: no trial goes on behind the back of a command that was killed."""
    end_with_parent()
    connection.send(function(*arguments))


def _in_process(function, *arguments):
    """What a function returns in a process of its own, which gives its devices back."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_put, args=(theirs, function, arguments))
    process.start()
    theirs.close()
    passed_on = []

    def pass_on(number, _):
        passed_on.append(number)
        process.terminate()

    earlier = {s: signal.signal(s, pass_on) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        return ours.recv()
    except EOFError:
        process.join()
        if process.exitcode == INTERRUPTED or passed_on:
            told = "what is done of the trials is saved; run the same command again to go on"
            raise Interrupted(told) from None
        return None
    finally:
        process.join()
        for number, handler in earlier.items():
            signal.signal(number, handler)


def run_trial(contender: Contender, k: int) -> bool:
    """In a process of its own: trains, evaluates, and says that it is done.

    What another command has done meanwhile in the same workdir is left as it is.
    """
    if contender.result(k) is not None:
        return True
    config, folder = contender.configs[k], contender.trial(k)
    with told_to_user():
        start = time.perf_counter()
        runtime.configure(training=True)
        train.train(config, str(folder))
        done = {
            "config": _deciding(config),
            "seconds": time.perf_counter() - start,
            "peak_bytes": peak_bytes(),
        }
        write_whole(folder / "trial.json", json.dumps(done, indent=1) + "\n")
    return True


def peak_bytes() -> int:
    """The most memory that was held on an accelerator, or on CPU by the process."""
    import jax

    on_device = jax.local_devices()[0].memory_stats() or {}
    return on_device.get("peak_bytes_in_use", turns.peak_bytes())


def train_all(plan: Plan) -> list[str]:
    """Runs what is to do, and returns the names of trials that failed."""
    failed = []
    todo = plan.to_do()
    for number, (contender, k) in enumerate(todo, 1):
        print(f"\n[{number}/{len(todo)}] {contender.name}, trial {k + 1}", flush=True)
        if not _in_process(run_trial, contender, k):
            failed.append(f"{contender.name} trial {k + 1}")
            warn(f"{failed[-1]} failed; going on with the others")
    return failed


def prepare_measurement(checkpoint, shape, shown, threshold: float, folder):
    """In a worker's process: writes the masks of the images to show, then what predicts a batch."""
    import jax

    from eal_icnet_jax.predictor import Predictor

    runtime.configure()
    predictor = Predictor(checkpoints.load_model(checkpoint))
    for number, image in enumerate(shown):
        masks = predictor.probabilities(image[None])[0] >= threshold
        for k in range(masks.shape[-1]):
            images.write(folder / f"{number}_{k}.png", 255 * masks[..., k].astype(np.uint8))
    batch = np.random.default_rng(0).random(shape, np.float32)
    device = f"{jax.device_count()} x {jax.devices()[0].device_kind}"

    def run() -> dict:
        predictor.probabilities(batch)
        return {"peak": peak_bytes(), "device": device}

    return run


def measure_all(plan: Plan, path: pathlib.Path) -> dict:
    """Times the best checkpoint of each network's first trial, in turns with the first network's.

    What is measured is kept in a file, and measured again when other networks are compared.

    Returns:
      `device`, and `models`: by name, `images_per_second`, `relative_speed` by the first network
      and `peak_bytes`.
    """
    threshold = plan.config.evaluation.threshold
    ready = [contender for contender in plan.contenders if contender.done()]
    checkpoint = {c.name: c.trial(c.done()[0]) for c in ready}
    about = {"shape": list(plan.shape), "threshold": threshold}
    about["trials"] = {
        name: json.loads((trial / "trial.json").read_text()) for name, trial in checkpoint.items()
    }
    if path.exists() and (kept := json.loads(path.read_text()))["about"] == about:
        return kept
    found, reference, device = {}, None, ""
    for contender in ready:
        print(f"measuring {contender.name}", flush=True)
        folder = contender.folder / "predictions"
        folder.mkdir(exist_ok=True)
        worker = turns.Worker(
            prepare_measurement, checkpoint[contender.name], plan.shape,
            [example["image"] for example in plan.shown], threshold, folder,
            environment={"XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
        )  # fmt: skip
        if "error" in worker.first:
            warn(f"{contender.name} cannot be measured: {worker.first['error']}")
            continue
        reference = reference or worker
        turns.take_turns(list(dict.fromkeys((reference, worker))), ROUNDS)
        device = worker.last["device"]
        found[contender.name] = {
            "images_per_second": plan.shape[0] / statistics.median(worker.seconds),
            "relative_speed": 1 / turns.ratio(reference, worker)[1],
            "peak_bytes": worker.last["peak"],
        }
        if worker is not reference:
            worker.end()
    if reference:
        reference.end()
    measured = {"about": about, "device": device, "models": found}
    write_whole(path, json.dumps(measured, indent=1) + "\n")
    return measured


def read_rows(plan: Plan, measured: dict) -> list[report.Row]:
    """What the trials that are done came to, those of the first network first."""
    rows = []
    for label in plan.config.dataset.labels:
        for contender in plan.contenders:
            done = contender.done()
            if not done:
                continue
            folders = [contender.trial(k) for k in done]
            told = [json.loads((f / "test" / "metrics.json").read_text()) for f in folders]
            results = [contender.result(k) for k in done]
            logs = [read_records(folder / "metrics.jsonl") for folder in folders]
            epochs = [[record for record in log if "validation_loss" in record] for log in logs]
            parameters, operations, _ = plan.costs[contender.name]
            unknown = dict.fromkeys(("images_per_second", "relative_speed", "peak_bytes"))
            rows.append(
                report.Row(
                    model=contender.name,
                    title=contender.title,
                    label=label,
                    scores={m: [one["mean"][label][m] for one in told] for m in METRICS}
                    | {c: [one["electrical"][label][c] for one in told] for c in COUNTS},
                    seeds=done,
                    parameters=parameters,
                    gflop=operations / 1e9,
                    **measured["models"].get(contender.name, unknown),
                    trial_seconds=statistics.median(one["seconds"] for one in results),
                    training_peak_bytes=statistics.median(one["peak_bytes"] for one in results),
                    curves=epochs,
                )
            )
    return rows


def sentences(plan: Plan, measured: dict, rows: list[report.Row]) -> list[str]:
    """What a reader has to know about the table."""
    config, (batch, height, width, _) = plan.config, plan.shape
    name = config.dataset.name + (f"/{config.dataset.config}" if config.dataset.config else "")
    crops = f"{config.dataset.crop_size}x{config.dataset.crop_size} crops of " * bool(
        config.dataset.crop_size
    )
    trials = len(plan.contenders[0].configs)
    seconds = sum(row.trial_seconds * len(row.seeds) for row in rows if row.label == rows[0].label)
    return [
        f"{name}: trained for up to {config.epochs} epochs on {crops}{plan.images['train']} "
        f"images, batch size {config.batch_size}, tested on {plan.images['test']}; percent, mean ± "
        f"standard deviation over {trials} trials, which took {report.duration(seconds)} in all.",
        "Opens, shorts, false positives (FP) and false negatives (FN) are electrically significant "
        "differences (Rothaug et al., ASHES 2023), summed over the test images.",
        f"A star marks what a paired t-test over trials tells apart from {rows[0].title} at 95%.",
        f"GFLOP, images a second, speed relative to {rows[0].title} and peak memory are those of "
        f"prediction at {height}x{width}, batch size {batch}, {config.model.dtype}, on "
        f"{measured['device'] or 'no device'} with jax {metadata.version('jax')}.",
    ]


def compare(config: ConfigDict, names: list[str], trials: int, workdir: str | None, dry_run: bool):
    """Trains what is missing, measures, and writes the comparison.

    Raises:
      UserError: bad input, or some trials failed; the comparison is then of the others.
    """
    if not workdir:
        raise UserError("no --workdir: name a folder for the trials and the tables")
    folder = pathlib.Path(workdir).expanduser()
    chosen = contenders(config, names, trials, folder)
    if dry_run:
        config = config.copy_and_resolve_references()
        config.dataset.prepare = False
    plan = Plan(config, chosen)
    told = plan.text()
    print(told, flush=True)
    if dry_run:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "plan.txt", told + "\n")
    except OSError as error:
        raise UserError(
            f"the workdir {folder} cannot be written: {error.strerror}; name another"
        ) from error
    failed = train_all(plan)
    measured = measure_all(plan, folder / "measured.json")
    rows = read_rows(plan, measured)
    if rows:
        about = sentences(plan, measured, rows)
        masks = {name: folder / name / "predictions" for name in measured["models"]}
        labels = list(config.dataset.labels)
        report.write(folder, report.Comparison(rows, about, labels, plan.shown, masks))
        print(f"\n{report.terminal(rows)}\ntables, plot and page in {folder}", flush=True)
    if failed:
        raise UserError(f"{', '.join(failed)} failed: run the same command again to try them again")


def main(argv: list[str]):
    with told_to_user():
        config = command_line.given_config(argv)
        # This process needs no device; its children have them.
        import jax

        jax.config.update("jax_platforms", "cpu")
        workdir = command_line.WORKDIR.value
        compare(config, MODELS.value, TRIALS.value, workdir, DRY_RUN.value)


if __name__ == "__main__":
    app.run(main, argv=sys.argv, flags_parser=command_line.parse)
