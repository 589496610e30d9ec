"""Speed and memory of the compared networks in prediction."""

import contextlib
import json
import pathlib
import statistics
from collections.abc import Callable

import numpy as np

from eal_icnet_jax.comparison import interleaved_timing
from eal_icnet_jax.comparison.contenders import Contender
from eal_icnet_jax.comparison.memory import peak_bytes
from eal_icnet_jax.comparison.plan import Plan
from eal_icnet_jax.imaging import png
from eal_icnet_jax.models import checkpoints
from eal_icnet_jax.system import jax_settings
from eal_icnet_jax.system.files import write_atomically
from eal_icnet_jax.system.terminal import warn

ROUNDS = 7
"""Rounds of the timing."""


def prediction_folder(contender: Contender) -> pathlib.Path:
    """Return the folder of a network's masks `EXAMPLE_LABEL.png` of the shown images."""
    return contender.folder / "predictions"


def prepare_measurement(
    checkpoint: pathlib.Path,
    shape: tuple[int, int, int, int],
    shown: list[np.ndarray],
    threshold: float,
    folder: pathlib.Path,
) -> Callable[[], dict]:
    """Write the masks of the shown images, and return a function that predicts a batch.

    Args:
      checkpoint: of the network.
      shape: `[B, H, W, C]` of the batch.
      shown: images `[H, W, C]` in [0, 1].
      threshold: probability from which a pixel belongs to a mask.
      folder: for the masks.
    """
    import jax

    from eal_icnet_jax.inference.predictor import Predictor

    jax_settings.configure()
    predictor = Predictor(checkpoints.load_model(checkpoint))
    for number, image in enumerate(shown):
        masks = predictor.probabilities(image[None])[0] >= threshold
        for k in range(masks.shape[-1]):
            png.write(folder / f"{number}_{k}.png", 255 * masks[..., k].astype(np.uint8))
    batch = np.random.default_rng(0).random(shape, np.float32)
    device = f"{jax.device_count()} x {jax.devices()[0].device_kind}"

    def run() -> dict:
        predictor.probabilities(batch)
        return {"peak": peak_bytes(), "device": device}

    return run


def _start_worker(plan: Plan, contender: Contender) -> interleaved_timing.Worker:
    """Start the worker that predicts with the checkpoint of the first finished trial."""
    folder = prediction_folder(contender)
    folder.mkdir(exist_ok=True)
    return interleaved_timing.Worker(
        prepare_measurement,
        contender.trial_folder(contender.finished_trials()[0]),
        plan.shape,
        [example["image"] for example in plan.shown],
        plan.config.evaluation.threshold,
        folder,
        environment={"XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
    )


def _conditions(plan: Plan, contenders: list[Contender]) -> dict:
    """Return what a measurement depends on, as JSON values."""
    trials = {c.name: c.trial_result(c.finished_trials()[0]) for c in contenders}
    threshold = plan.config.evaluation.threshold
    return {"shape": list(plan.shape), "threshold": threshold, "trials": trials}


def measure_all(plan: Plan, path: pathlib.Path, report: Callable[[str], None]) -> dict:
    """Time the best checkpoint of each network's first finished trial.

    Each network runs alternately with the reference, the first network that can be measured. The
    measurement is kept in a file and repeated only for other trials or conditions.

    Args:
      plan: of the comparison.
      path: of the file.
      report: is called with a line for each network.

    Returns:
      A dict of `device`; `reference`, the name of that network, empty if none can be measured; and
      `models`, which maps names to `images_per_second`, `relative_speed` and `peak_bytes`.
    """
    contenders = [contender for contender in plan.contenders if contender.finished_trials()]
    conditions = _conditions(plan, contenders)
    if path.exists():
        kept = json.loads(path.read_text())
        if kept.get("conditions") == conditions:
            return kept
    measured = {"conditions": conditions, "device": "", "reference": "", "models": {}}
    reference = None
    with contextlib.ExitStack() as until_the_end:
        for contender in contenders:
            report(f"measuring {contender.name}")
            with contextlib.ExitStack() as own:
                try:
                    worker = own.enter_context(_start_worker(plan, contender))
                    workers = dict.fromkeys((reference or worker, worker))
                    interleaved_timing.interleave(workers, ROUNDS)
                except interleaved_timing.WorkerError as error:
                    warn(f"{contender.name} cannot be measured: {error}")
                    continue
                if reference is None:
                    until_the_end.push(own.pop_all())
                    reference, measured["reference"] = worker, contender.name
                measured["device"] = worker.last["device"]
                measured["models"][contender.name] = {
                    "images_per_second": plan.shape[0] / statistics.median(worker.seconds),
                    "relative_speed": 1 / interleaved_timing.ratio(reference, worker)[1],
                    "peak_bytes": worker.last["peak"],
                }
    write_atomically(path, json.dumps(measured, indent=1) + "\n")
    return measured
