"""The folder of a run: what is in it beside the checkpoints, and who may write there."""

import contextlib
import errno
import json
import os
import pathlib
import time
from collections.abc import Iterator

from clu import parameter_overview
from flax import nnx
from ml_collections import ConfigDict
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2
from tensorboardX.summary import scalar

from eal_icnet_jax import checkpoints, files, provenance
from eal_icnet_jax.configs import default
from eal_icnet_jax.errors import UserError, warn

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


def flat_config(config: ConfigDict, prefix: str = "") -> dict:
    """Every knob's value by its dotted name."""
    out = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            out.update(flat_config(value, f"{prefix}{key}."))
        else:
            out[prefix + key] = value
    return out


def read_json(path: pathlib.Path, kind: type, advice: str):
    """What a file of a workdir holds.

    Raises:
      UserError: it cannot be read, or is not JSON of this kind; says the advice.
    """
    try:
        content = json.loads(path.read_text())
        if not isinstance(content, kind):
            raise TypeError(f"it holds a {type(content).__name__}")
        return content
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}; {advice}") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}): {advice}") from error


def read_config(path: pathlib.Path, advice: str) -> ConfigDict:
    """The config of a run; a knob that there was not yet has the value that is now its default.

    Raises:
      UserError: it cannot be read, or is no config; says the advice.
    """
    content = read_json(path, dict, advice)
    try:
        config = ConfigDict(json.loads(default.get_config().to_json()))
        there = flat_config(ConfigDict(content))
        with config.unlocked():
            config.update_from_flattened_dict(there)
        return config
    except Exception as error:  # of whatever its keys and values are
        told = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        raise UserError(f"{path} is damaged ({told}): {advice}") from error


def read_provenance(path: pathlib.Path, advice: str) -> dict:
    """What `Workdir.record_start` wrote.

    Raises:
      UserError: it cannot be read, or is something else; says the advice.
    """
    record = read_json(path, dict, advice)
    data, starts = record.get("data_sha256"), record.get("starts")
    if not (isinstance(data, dict) and isinstance(starts, list) and starts) or not all(
        isinstance(start, dict) and isinstance(start.get("versions"), dict) for start in starts
    ):
        raise UserError(f"{path} is damaged (it tells of no start): {advice}")
    return record


def read_records(path: pathlib.Path) -> list[dict]:
    """The lines of a metrics.jsonl, none where there is no file."""
    if not path.exists():
        return []
    out = []
    for line in path.read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):  # a killed run's last, half line
            out.append(json.loads(line))
    return out


def check_same_config(workdir: pathlib.Path, config: ConfigDict):
    """A run is resumed with the config that it was begun with.

    Raises:
      UserError: a run with another is in the workdir.
    """
    path = workdir / "config.json"
    if not path.exists():
        return
    there = flat_config(read_config(path, "use a new --workdir"))
    here = flat_config(ConfigDict(json.loads(config.to_json())))
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


class Workdir:
    """The files of a run beside its checkpoints, which are for one process at a time to write.

    config.json: the resolved config. parameters.txt: the parameter table. provenance.json: the
    seed, the data's digest, and of each start the versions, commit and machine. metrics.jsonl: a
    record every few steps and one an epoch. tensorboard/: the same as events.

    Args:
      path: of the folder, which is made.
      config: of the run.
      writes: False in all but the first of several processes: nothing is written or locked then.

    Raises:
      UserError: it cannot be written, holds a run with another config, or is another's right now.
    """

    def __init__(self, path: str | None, config: ConfigDict, writes: bool = True):
        if not path:
            raise UserError("no --workdir: name a folder for what the run writes")
        self.path = pathlib.Path(path).expanduser()
        self._records = self.path / "metrics.jsonl"
        self._writes = writes
        self._lock = self._events = None
        if not writes:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not os.access(self.path, os.W_OK | os.X_OK):
                fixed = os.statvfs(self.path).f_flag & os.ST_RDONLY
                code = errno.EROFS if fixed else errno.EACCES
                raise OSError(code, os.strerror(code))
            self._lock = files.lock(
                self.path / ".lock",
                f"the workdir {self.path} is in use: another training writes it; wait for that or "
                "use a new --workdir",
            )
        except OSError as error:
            raise UserError(
                f"the workdir {self.path} cannot be written: {error.strerror}; name another"
            ) from error
        try:
            check_same_config(self.path, config)
        except UserError:
            self.release()
            raise

    def release(self):
        """Lets others write here."""
        if self._lock is not None:
            self._lock.release()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turns what keeps a file from being written into a sentence."""
        try:
            yield
        except OSError as error:
            raise UserError(
                f"the workdir {self.path} cannot be written any more ({error.strerror or error}): "
                "mend that and run the same command again, which goes on from the last checkpoint"
            ) from error

    def describe(self, config: ConfigDict, model: nnx.Module):
        """Writes what the run is, once all of it is known to be right."""
        if not self._writes:
            return
        table = parameter_overview.get_parameter_overview(
            checkpoints.weight_arrays(nnx.state(model, nnx.Param)), include_stats=False
        )
        files.write_whole(self.path / "parameters.txt", table + "\n")
        files.write_whole(self.path / "config.json", config.to_json(indent=1) + "\n")

    def record_start(self, config: ConfigDict, step: int, data: dict[str, str]):
        """Adds to provenance.json that a process begins at this step.

        Args:
          data: the digest of each dataset that the run uses, by its name.

        Raises:
          UserError: the run was begun with other data.
        """
        if not self._writes:
            return
        path = self.path / "provenance.json"
        record = {"seed": config.seed, "data_sha256": data, "starts": []}
        if step and path.exists():
            record = read_provenance(path, "use a new --workdir")
            if changed := [name for name in data if record["data_sha256"].get(name) != data[name]]:
                raise UserError(
                    f"dataset {', '.join(changed)} is not what the run in {self.path} was begun "
                    "with: bring that back, or use a new --workdir"
                )
        now = provenance.of_now(step)
        then = record["starts"][-1] if record["starts"] else now
        if other := provenance.differences(then["versions"], now["versions"]):
            warn("the run goes on with other releases, and may end otherwise: " + "; ".join(other))
        record["starts"].append(now)
        files.write_whole(path, json.dumps(record, indent=1) + "\n")

    def open_logs(self, step: int, ends_epoch: bool = False):
        """Readies the logs for what follows a step, dropping what a killed run wrote after it.

        Args:
          step: from which the run goes on.
          ends_epoch: whether the record of the epoch that it ends is still to come.
        """
        if not self._writes:
            return
        with self._told():
            kept = [
                record
                for record in self.records()
                if record["step"] < step
                or (record["step"] == step and not (ends_epoch and "epoch" in record))
            ]
            text = "".join(json.dumps(record) + "\n" for record in kept)
            files.write_whole(self._records, text)
            folder = self.path / "tensorboard"
            folder.mkdir(exist_ok=True)
            # Written here and now: tensorboardX's own thread would keep an error to itself.
            self._events = EventsWriter(str(folder / "events"), f".{os.getpid()}")
            self._add_event(
                step + 1, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            )

    def _add_event(self, step: int, **content):
        event = event_pb2.Event(wall_time=time.time(), step=step, **content)
        self._events.write_event(event)
        self._events.flush()

    def records(self) -> list[dict]:
        return read_records(self._records)

    def log(self, step: int, record: dict[str, float]):
        """A line of metrics.jsonl, and events."""
        if not self._writes:
            return
        with self._told():
            with self._records.open("r+") as file:  # of no new file, should it have been deleted
                file.seek(0, os.SEEK_END)
                file.write(json.dumps({"step": step, **record}) + "\n")
            for key, value in record.items():
                self._add_event(step, summary=scalar(key, value))

    def flush(self):
        """Waits until all records are where no loss of power takes them."""
        if not self._writes:
            return
        with self._told():
            for path in self.path.iterdir():
                if path.is_file():
                    files.flush(path)

    def close_logs(self):
        if self._events is not None:
            with contextlib.suppress(OSError):  # which was told where it was first met
                self._events.close()
