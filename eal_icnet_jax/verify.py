"""Whether the figures that a run recorded hold."""

import math
import pathlib

from ml_collections import ConfigDict

from eal_icnet_jax import checkpoints, input_pipeline, provenance, train
from eal_icnet_jax.errors import UserError
from eal_icnet_jax.workdir import read_config, read_json, read_records

TOLERANCE = 1e-3
"""By which a figure may differ elsewhere than where it was made, where roundings are others."""

NOT_FIGURES = ("name", "label")


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


def _differences(there: dict, here: dict) -> dict[str, tuple[float, float]]:
    """The figures of two reports that are not equal, by image and name."""
    before = {(row["name"], row["label"]): row for row in there["per_image"]}
    after = {(row["name"], row["label"]): row for row in here["per_image"]}
    if before.keys() != after.keys():
        raise UserError(
            f"the report is of {len(before)} images and masks, the test split has {len(after)}: "
            "the data or config.dataset.splits are others"
        )
    out = {}
    for key, row in after.items():
        for name in row.keys() - set(NOT_FIGURES):
            if row[name] != before[key].get(name):
                out[f"{name} of {key[0]}"] = (before[key].get(name, math.nan), row[name])
    for label, figures in here["mean"].items():
        for name, value in figures.items():
            if value != there["mean"][label][name]:
                out[f"mean {name} of {label}"] = (there["mean"][label][name], value)
    return out


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
    record = read_json(workdir / "provenance.json", dict, "the run cannot be verified")
    report = read_json(workdir / "test" / "metrics.json", dict, "train to the end first")
    directory = checkpoints.resolve(workdir)
    model = checkpoints.load_model(directory, dtype=config.model.dtype)
    print(f"{directory} is as it was written")
    failed = []
    data = input_pipeline.digests(config.dataset)
    for name, digest in data.items():
        if record.get("data_sha256", {}).get(name) == digest:
            print(f"{name} is the data of the run, SHA-256 {digest[:12]}")
        else:
            failed.append(f"{name} is not the data of the run")
    now, then = provenance.of_now(0), record["starts"][-1]
    others = [
        f"{name} {then['versions'].get(name)} then, {version} now"
        for name, version in now["versions"].items()
        if then["versions"].get(name) != version
    ]
    others += [
        f"{key} {then.get(key)} then, {now[key]} now"
        for key in ("git_commit", "devices", "machine")
        if then.get(key) != now[key]
    ]
    for told in others:
        print(f"made otherwise: {told}")
    evaluation = train.evaluated(config, model, "validation", 0)
    best = int(directory.name) if directory.name.isdigit() else None
    logged = [r for r in read_records(workdir / "metrics.jsonl") if r.get("step") == best]
    logged = [r["validation_loss"] for r in logged if "validation_loss" in r]
    figures = {}
    if logged and evaluation.loss() != logged[0]:
        figures["validation loss"] = (logged[0], evaluation.loss())
    figures |= _differences(report, train.evaluated(config, model, "test", 0).report())
    means = {k: v for k, v in figures.items() if k.startswith(("mean ", "validation"))}
    worst = max((abs(a - b) for a, b in means.values()), default=0.0)
    if not figures:
        print(f"all figures of {report['images']} test images and the validation loss hold exactly")
    elif worst <= TOLERANCE:
        print(f"{len(figures)} figures differ in roundings; no mean by more than {worst:.2g}")
    else:
        name, (before, after) = max(means.items(), key=lambda item: abs(item[1][0] - item[1][1]))
        failed.append(f"{name} is {after:.6g}, recorded is {before:.6g}")
    if failed:
        raise UserError(f"the figures of {workdir} do not hold: {'; '.join(failed)}")
    print(f"{workdir} is verified")
