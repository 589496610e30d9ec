"""The rows and notes of a comparison, read from the files of its trials."""

import json
import statistics
from importlib import metadata

from eal_icnet_jax.comparison.contenders import Contender
from eal_icnet_jax.comparison.plan import Plan
from eal_icnet_jax.comparison.table import Row, duration
from eal_icnet_jax.evaluation.metrics import COUNTS, METRICS
from eal_icnet_jax.training.run_files import read_records


def _contender_rows(plan: Plan, contender: Contender, measured: dict) -> list[Row]:
    """Return a network's row for each label, from its finished trials."""
    finished = contender.finished_trials()
    folders = [contender.trial_folder(k) for k in finished]
    scores = [json.loads((f / "test" / "metrics.json").read_text()) for f in folders]
    results = [contender.trial_result(k) for k in finished]
    logs = [read_records(folder / "metrics.jsonl") for folder in folders]
    cost = plan.costs[contender.name]
    not_measured = dict.fromkeys(("images_per_second", "relative_speed", "peak_bytes"))
    return [
        Row(
            model=contender.name,
            title=contender.title,
            label=label,
            scores={m: [trial["mean"][label][m] for trial in scores] for m in METRICS}
            | {c: [trial["electrical"][label][c] for trial in scores] for c in COUNTS},
            seeds=finished,
            parameters=cost.parameters,
            gflop=cost.image / 1e9,
            **measured["models"].get(contender.name, not_measured),
            trial_seconds=statistics.median(result["seconds"] for result in results),
            training_peak_bytes=statistics.median(result["peak_bytes"] for result in results),
            curves=[[record for record in log if "validation_loss" in record] for log in logs],
        )
        for label in plan.config.dataset.labels
    ]


def read_rows(plan: Plan, measured: dict) -> list[Row]:
    """Return the rows of all networks with a finished trial, label after label.

    Args:
      plan: of the comparison.
      measured: by `measurement.measure_all`.
    """
    finished = [contender for contender in plan.contenders if contender.finished_trials()]
    by_contender = [_contender_rows(plan, contender, measured) for contender in finished]
    return [row for rows in zip(*by_contender, strict=True) for row in rows]


def _cost_notes(plan: Plan, measured: dict, titles: dict[str, str]) -> list[str]:
    """Return the sentences that say how costs were taken, and which networks have none."""
    batch, height, width, _ = plan.shape
    missing = [title for name, title in titles.items() if name not in measured["models"]]
    if not measured["models"]:
        return [f"GFLOP is that of prediction at {height}x{width}. No network could be measured."]
    notes = [
        f"GFLOP, images a second, speed relative to {titles[measured['reference']]} and peak "
        f"memory are those of prediction at {height}x{width}, batch size {batch}, "
        f"{plan.config.model.dtype}, on {measured['device']} with jax {metadata.version('jax')}."
    ]
    if missing:
        notes.append(f"Speed and memory of {', '.join(missing)} could not be measured.")
    return notes


def notes(plan: Plan, measured: dict, rows: list[Row]) -> list[str]:
    """Return the sentences that a reader of the table needs.

    Args:
      plan: of the comparison.
      measured: by `measurement.measure_all`.
      rows: by `read_rows`.
    """
    config = plan.config
    name = config.dataset.name + (f"/{config.dataset.config}" if config.dataset.config else "")
    crop = config.dataset.crop_size
    crops = f"{crop}x{crop} crops of " if crop else ""
    trials = len(plan.contenders[0].configs)
    seconds = sum(row.trial_seconds * len(row.seeds) for row in rows if row.label == rows[0].label)
    return [
        f"{name}: trained for up to {config.epochs} epochs on {crops}{plan.images['train']} "
        f"images, batch size {config.batch_size}, tested on {plan.images['test']}; percent, mean ± "
        f"standard deviation over {trials} trials, which took {duration(seconds)} in all.",
        "Opens, shorts, false positives (FP) and false negatives (FN) are electrically significant "
        "differences (Rothaug et al., ASHES 2023), summed over the test images.",
        f"A star marks a mean that differs from that of {rows[0].title} at 95%, by a paired t-test "
        "over the trials.",
        *_cost_notes(plan, measured, {row.model: row.title for row in rows}),
    ]
