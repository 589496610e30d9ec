"""The text files of a work directory, read with checks: config, provenance and metrics."""

import contextlib
import json
import pathlib

from ml_collections import ConfigDict

from eal_icnet_jax.configs import default
from eal_icnet_jax.system.errors import UserError, first_line, os_error_cause

FREE_TO_CHANGE = (
    "epochs",
    "evaluation",
    "log_every_steps",
    "checkpoint_every_steps",
    "prefetch",
    "workers",
)
"""Knobs that may change when a run is resumed."""

FREE_OF_DATASET = ("dataset.data_dir", "dataset.manual_dir", "dataset.prepare")
"""Knobs that may change too: they say where the dataset is, not what it is."""


def flat_config(config: ConfigDict, prefix: str = "") -> dict:
    """Return every knob's value by its dotted name."""
    out = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            out.update(flat_config(value, f"{prefix}{key}."))
        else:
            out[prefix + key] = value
    return out


def read_json(path: pathlib.Path, kind: type, advice: str):
    """Read a JSON file whose outermost value has a type.

    Args:
      path: of the file.
      kind: the type, `dict` or `list`.
      advice: what to do if it cannot be read, for the error message.

    Raises:
      UserError: it cannot be read, or is not JSON of this kind.
    """
    try:
        content = json.loads(path.read_text())
        if not isinstance(content, kind):
            raise TypeError(f"it holds a {type(content).__name__}")
        return content
    except OSError as error:
        raise UserError(f"{path} cannot be read: {os_error_cause(error)}; {advice}") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}): {advice}") from error


def read_config(path: pathlib.Path, advice: str) -> ConfigDict:
    """Read the config of a run. A knob that the run did not have yet gets its default.

    Raises:
      UserError: it cannot be read or is no config; `advice` says what to do.
    """
    content = read_json(path, dict, advice)
    try:
        config = ConfigDict(json.loads(default.get_config().to_json()))
        with config.unlocked():
            config.update_from_flattened_dict(flat_config(ConfigDict(content)))
        return config
    except Exception as error:  # the keys and values of a stranger's file can raise anything
        raise UserError(f"{path} is damaged ({first_line(error)}): {advice}") from error


def read_provenance(path: pathlib.Path, advice: str) -> dict:
    """Read what `Workdir.record_start` wrote.

    Raises:
      UserError: it cannot be read or is something else; `advice` says what to do.
    """
    record = read_json(path, dict, advice)
    data, starts = record.get("data_sha256"), record.get("starts")
    if not (isinstance(data, dict) and isinstance(starts, list) and starts) or not all(
        isinstance(start, dict) and isinstance(start.get("versions"), dict) for start in starts
    ):
        raise UserError(f"{path} is damaged (it has no record of a start): {advice}")
    return record


def read_records(path: pathlib.Path) -> list[dict]:
    """Return the records of a metrics.jsonl, none if there is no file."""
    if not path.exists():
        return []
    out = []
    for line in path.read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):  # the last line of a killed run is cut off
            out.append(json.loads(line))
    return out


def check_same_config(workdir: pathlib.Path, config: ConfigDict):
    """Check that a work directory holds no run with another config.

    Raises:
      UserError: names every knob that differs.
    """
    path = workdir / "config.json"
    if not path.exists():
        return
    stored = flat_config(read_config(path, "use a new --workdir"))
    given = flat_config(ConfigDict(json.loads(config.to_json())))
    changed = [
        f"{key} ({stored.get(key)} there, {given.get(key)} here)"
        for key in sorted(stored.keys() | given.keys())
        if stored.get(key) != given.get(key)
        and key.split(".")[0] not in FREE_TO_CHANGE
        and key not in FREE_OF_DATASET
    ]
    if changed:
        raise UserError(
            f"the workdir {workdir} holds a run with another config, "
            f"{', '.join(changed)}: use a new --workdir or that config"
        )
