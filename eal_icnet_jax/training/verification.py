"""The check that the figures which a run recorded hold."""

import math
import pathlib
from collections.abc import Callable

from flax import nnx
from ml_collections import ConfigDict

from eal_icnet_jax.data import prepared_datasets
from eal_icnet_jax.models import checkpoints
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.training import provenance, runs
from eal_icnet_jax.training.config_check import check_config
from eal_icnet_jax.training.run_files import read_config, read_json, read_provenance, read_records

MEAN_TOLERANCE = 1e-3
"""Tolerance for means that are recomputed on another machine or with other releases."""

COUNT_TOLERANCE = 0.01, 2
"""The same for electrical counts: a fraction of the nets, and at least a number."""

Differences = dict[str, tuple[float, float]]
"""Figures that are not equal, by name: the recorded and the recomputed value."""


def run_config(workdir: pathlib.Path, data: ConfigDict | None) -> ConfigDict:
    """Return the config of a run.

    Args:
      workdir: of the run.
      data: a config whose `dataset.data_dir` and `dataset.manual_dir` say where the dataset is now.

    Raises:
      UserError: there is no run.
    """
    path = workdir / "config.json"
    if not path.exists():
        raise UserError(f"{workdir} holds no config.json: name the workdir of a training")
    config = read_config(path, "the run cannot be verified")
    if data is not None:
        config.dataset.data_dir = data.dataset.data_dir
        config.dataset.manual_dir = data.dataset.manual_dir
    check_config(config)
    return config


def _by_image(report: dict) -> dict:
    return {(row["name"], row["label"]): row for row in report["per_image"]}


def _unequal(recorded: dict, found: dict, prefix: str) -> Differences:
    """Return the figures of `found` that are not recorded with the same value."""
    return {
        f"{prefix}{name}": (recorded.get(name, math.nan), value)
        for name, value in found.items()
        if value != recorded.get(name)
    }


class FigureCheck:
    """The comparison of two evaluation reports.

    means: differences of figures averaged over a split.
    counts: differences of electrical counts summed over a split, with the tolerance of each.
    images: differences of single images.

    Raises:
      UserError: the reports are of different images.
      KeyError, TypeError, AttributeError: one is not a report.
    """

    def __init__(self, recorded: dict, found: dict):
        before, after = _by_image(recorded), _by_image(found)
        if before.keys() != after.keys():
            raise UserError(
                f"the report is of {len(before)} images and masks, the test split has "
                f"{len(after)}: the data or config.dataset.splits differ"
            )
        self.images: Differences = {}
        for key, row in after.items():
            self.images |= _unequal(before[key], row, f"{key[0]}: ")
        self.means: Differences = {}
        self.counts: dict[str, tuple[float, float, float]] = {}
        for label, figures in found["mean"].items():
            for name, values in _unequal(recorded["mean"][label], figures, "").items():
                self.means[f"mean {name} of {label}"] = values
        part, least = COUNT_TOLERANCE
        for label, counts in found["electrical"].items():
            tolerance = max(least, part * counts["nets"])
            for name, values in _unequal(recorded["electrical"][label], counts, "").items():
                self.counts[f"{name} of {label}"] = (*values, tolerance)

    def failures(self) -> list[str]:
        """Return a sentence for the worst figure of each kind that is beyond its tolerance."""
        out = []
        beyond = {
            name: abs(then - now)
            for name, (then, now) in self.means.items()
            if not abs(then - now) <= MEAN_TOLERANCE
        }
        if beyond:
            worst = max(beyond, key=beyond.get)
            then, now = self.means[worst]
            out.append(f"{worst} is {now:.6g}, recorded is {then:.6g}")
        out += [
            f"{name} is {now:g}, recorded is {then:g}"
            for name, (then, now, tolerance) in self.counts.items()
            if not abs(then - now) <= tolerance
        ]
        return out

    def summary(self, title: str) -> str:
        """Return a sentence for figures that hold."""
        count = len(self.means) + len(self.counts) + len(self.images)
        if not count:
            return f"all figures of {title} hold exactly"
        largest = max((abs(then - now) for then, now in self.means.values()), default=0.0)
        return f"{count} figures differ by rounding; no mean by more than {largest:.2g}"


def _data_problems(config: ConfigDict, recorded: dict[str, str], report: Callable) -> list[str]:
    problems = []
    for name, digest in prepared_datasets.digests(config.dataset).items():
        if recorded.get(name) == digest:
            report(f"{name} is the data of the run, SHA-256 {digest[:12]}")
        else:
            problems.append(f"{name} is not the data of the run")
    return problems


def _report_changes(start: dict, report: Callable):
    """Report what differs from the run's last start: releases, commit, devices, machine."""
    now = provenance.current_provenance(0)
    machine = {key: now[key] for key in ("git_commit", "devices", "machine")}
    for change in (
        *provenance.differences(start["versions"], now["versions"]),
        *provenance.differences(start, machine),
    ):
        report(f"differs from the run: {change}")


def _recorded_loss(workdir: pathlib.Path, step: str) -> float | None:
    losses = [
        record["validation_loss"]
        for record in read_records(workdir / "metrics.jsonl")
        if f"{record.get('step')}" == step and "validation_loss" in record
    ]
    return losses[-1] if losses else None


def _check_figures(
    config: ConfigDict, model: nnx.Module, recorded: dict, loss: float | None, where: pathlib.Path
) -> tuple[FigureCheck, str]:
    """Evaluate the model again; return the comparison and its title."""
    found_loss = runs.evaluated(config, model, "validation", 0).loss()
    found = runs.evaluated(config, model, "test", 0).report()
    try:
        check = FigureCheck(recorded, found)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{where} is damaged: evaluate again") from error
    if loss is not None and loss != found_loss:
        check.means["validation loss"] = (loss, found_loss)
    return check, f"{found['images']} test images and the validation loss"


def verify(workdir: pathlib.Path, data: ConfigDict | None, report: Callable[[str], None]):
    """Evaluate a run's best checkpoint again and report what holds.

    The data and the checkpoint must be the recorded ones to the byte. The validation loss and each
    figure of the test split must be equal to the recorded one. Where they differ by rounding, as
    on another machine or with another release, means may differ by `MEAN_TOLERANCE` and electrical
    counts by `COUNT_TOLERANCE`.

    Args:
      workdir: of a finished run.
      data: a config that says where the dataset is now; None: where it was.
      report: called with each line for the user.

    Raises:
      UserError: there is nothing to verify, or names everything that does not hold.
    """
    config = run_config(workdir, data)
    record = read_provenance(workdir / "provenance.json", "the run cannot be verified")
    metrics_path = workdir / "test" / "metrics.json"
    recorded = read_json(metrics_path, dict, "train to the end first")
    directory = checkpoints.resolve(workdir)
    model = checkpoints.load_model(directory, dtype=config.model.dtype)
    report(f"{directory} is as it was written")
    problems = _data_problems(config, record["data_sha256"], report)
    _report_changes(record["starts"][-1], report)
    loss = _recorded_loss(workdir, directory.name)
    if loss is None:
        problems.append(f"metrics.jsonl has no validation loss of step {directory.name}")
    check, title = _check_figures(config, model, recorded, loss, metrics_path)
    problems += check.failures()
    if problems:
        raise UserError(f"the figures of {workdir} do not hold: {'; '.join(problems)}")
    report(check.summary(title))
    report(f"{workdir} is verified")
