"""Whether the figures that a run recorded hold."""

import math
import pathlib

from ml_collections import ConfigDict

from eal_icnet_jax import checkpoints, input_pipeline, provenance, train
from eal_icnet_jax.errors import UserError
from eal_icnet_jax.workdir import read_config, read_json, read_provenance, read_records

TOLERANCE = 1e-3
"""By which a figure may differ elsewhere than where it was made, where roundings are others."""


def config_of(workdir: pathlib.Path, given: ConfigDict | None) -> ConfigDict:
    """The config of a run; of one that is given, where its dataset lies.

    Raises:
      UserError: there is no run.
    """
    path = workdir / "config.json"
    if not path.exists():
        raise UserError(f"{workdir} holds no config.json: name the workdir of a training")
    config = read_config(path, "the run cannot be verified")
    if given is not None:
        config.dataset.data_dir = given.dataset.data_dir
        config.dataset.manual_dir = given.dataset.manual_dir
    train.check_config(config)
    return config


Differences = dict[str, tuple[float, float]]
"""Figures that are not equal by what they are: recorded, and found."""


def _differences(there: dict, here: dict) -> tuple[Differences, Differences]:
    """What is not equal in two reports: of the means, and of the images.

    Raises:
      UserError: they are of other images.
      KeyError, TypeError, AttributeError: one is no report.
    """
    before = {(row["name"], row["label"]): row for row in there["per_image"]}
    after = {(row["name"], row["label"]): row for row in here["per_image"]}
    if before.keys() != after.keys():
        raise UserError(
            f"the report is of {len(before)} images and masks, the test split has {len(after)}: "
            "the data or config.dataset.splits are others"
        )
    of_images = {
        f"{name} of {key[0]}": (before[key].get(name, math.nan), value)
        for key, row in after.items()
        for name, value in row.items()
        if value != before[key].get(name)
    }
    of_means = {
        f"mean {name} of {label}": (there["mean"][label][name], value)
        for label, figures in here["mean"].items()
        for name, value in figures.items()
        if value != there["mean"][label][name]
    }
    return of_means, of_images


def _check_data(config: ConfigDict, recorded: dict[str, str]) -> list[str]:
    """Prints which datasets are those of the run, and returns what is to say of the others."""
    failed = []
    for name, digest in input_pipeline.digests(config.dataset).items():
        if recorded.get(name) == digest:
            print(f"{name} is the data of the run, SHA-256 {digest[:12]}")
        else:
            failed.append(f"{name} is not the data of the run")
    return failed


def _check_figures(means: Differences, others: Differences, what: str) -> list[str]:
    """Prints how well figures hold, recorded and found, and returns what is to say if they do not.

    Args:
      means, others: those that are not equal; of whole splits, and of images.
      what: they are of.
    """
    if not means and not others:
        print(f"all figures of {what} hold exactly")
        return []
    by = {name: abs(then - now) for name, (then, now) in means.items()}
    largest = max(by.values(), default=0.0)
    if largest <= TOLERANCE:
        count = len(means) + len(others)
        print(f"{count} figures differ in roundings; no mean by more than {largest:.2g}")
        return []
    worst = max(by, key=by.get)
    then, now = means[worst]
    return [f"{worst} is {now:.6g}, recorded is {then:.6g}"]


def verify(workdir: pathlib.Path, given: ConfigDict | None = None):
    """Evaluates a run's best checkpoint again, and prints what holds.

    The data has to be the recorded one to the byte, and the checkpoint as it was written. The
    validation loss, and each image's figures on the test split, have to be the recorded ones; where
    they differ in roundings, as on another machine or with another release, the means may by
    `TOLERANCE`.

    Args:
      workdir: of a run that ended.
      given: a config that says where the dataset lies now; None: where it lay.

    Raises:
      UserError: there is nothing to verify, or says all that does not hold.
    """
    config = config_of(workdir, given)
    record = read_provenance(workdir / "provenance.json", "the run cannot be verified")
    report = read_json(workdir / "test" / "metrics.json", dict, "train to the end first")
    directory = checkpoints.resolve(workdir)
    model = checkpoints.load_model(directory, dtype=config.model.dtype)
    print(f"{directory} is as it was written")
    failed = _check_data(config, record["data_sha256"])
    then, now = record["starts"][-1], provenance.of_now(0)
    here = {key: now[key] for key in ("git_commit", "devices", "machine")}
    for told in (
        *provenance.differences(then["versions"], now["versions"]),
        *provenance.differences(then, here),
    ):
        print(f"made otherwise: {told}")
    losses = [
        line["validation_loss"]
        for line in read_records(workdir / "metrics.jsonl")
        if f"{line.get('step')}" == directory.name and "validation_loss" in line
    ]
    if not losses:
        failed.append(f"metrics.jsonl has no validation loss of step {directory.name}")
    found_loss = train.evaluated(config, model, "validation", 0).loss()
    means = {}
    if losses and losses[-1] != found_loss:
        means["validation loss"] = (losses[-1], found_loss)
    found = train.evaluated(config, model, "test", 0).report()
    try:
        of_means, of_images = _differences(report, found)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{workdir / 'test' / 'metrics.json'} is damaged: evaluate again"
        ) from error
    what = f"{found['images']} test images and the validation loss"
    failed += _check_figures(means | of_means, of_images, what)
    if failed:
        raise UserError(f"the figures of {workdir} do not hold: {'; '.join(failed)}")
    print(f"{workdir} is verified")
