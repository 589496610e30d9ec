"""The work directory of a run: its files besides the checkpoints, and its lock."""

import contextlib
import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterator

from clu import parameter_overview
from flax import nnx
from ml_collections import ConfigDict

from eal_icnet_jax.models import named_arrays
from eal_icnet_jax.system import files
from eal_icnet_jax.system.errors import UserError, os_error_cause
from eal_icnet_jax.system.terminal import warn
from eal_icnet_jax.training import provenance
from eal_icnet_jax.training.run_files import check_same_config, read_provenance, read_records


class Workdir:
    """The files of a run, which one process at a time may write.

    - `config.json`: the resolved config.
    - `parameters.txt`: the table of parameters.
    - `provenance.json`: the seed, the data's digests, and for each start the releases, the commit
      and the machine.
    - `metrics.jsonl`: a record every few steps and one each epoch.
    - `tensorboard/`: the same records as TensorBoard events.

    Args:
      path: of the folder, which is created.
      config: of the run.
      writes: False in all but the first of several processes, which write and lock nothing.

    Raises:
      UserError: the folder cannot be written, holds a run with another config, or is locked.
    """

    def __init__(self, path: str | os.PathLike | None, config: ConfigDict, writes: bool = True):
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
            tempfile.TemporaryFile(dir=self.path).close()  # a read-only folder has no lock either
            self._lock = files.lock(
                self.path / ".lock",
                f"the workdir {self.path} is in use: another training writes it; wait for that or "
                "use a new --workdir",
            )
        except OSError as error:
            raise UserError(
                f"the workdir {self.path} cannot be written: {os_error_cause(error)}; name another"
            ) from error
        try:
            check_same_config(self.path, config)
        except UserError:
            self.release()
            raise

    def release(self):
        """Let other processes write here."""
        if self._lock is not None:
            self._lock.release()

    @contextlib.contextmanager
    def _reports_write_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"the workdir {self.path} cannot be written any more ({os_error_cause(error)}): "
                "mend that and run the same command again, which goes on from the last checkpoint"
            ) from error

    def describe(self, config: ConfigDict, model: nnx.Module):
        """Write the config and the table of parameters, once both are known to be right."""
        if not self._writes:
            return
        table = parameter_overview.get_parameter_overview(
            named_arrays.weight_arrays(nnx.state(model, nnx.Param)), include_stats=False
        )
        files.write_atomically(self.path / "parameters.txt", table + "\n")
        files.write_atomically(self.path / "config.json", config.to_json(indent=1) + "\n")

    def record_start(self, config: ConfigDict, step: int, data: dict[str, str]):
        """Add to provenance.json that a process begins at a step.

        Args:
          config: of the run.
          step: from which the run goes on, 0 for a new run.
          data: digest of each dataset that the run uses, by its name.

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
        now = provenance.current_provenance(step)
        then = record["starts"][-1] if record["starts"] else now
        if changes := provenance.differences(then["versions"], now["versions"]):
            warn(
                "the run goes on with other releases, and its results may differ: "
                + "; ".join(changes)
            )
        record["starts"].append(now)
        files.write_atomically(path, json.dumps(record, indent=1) + "\n")

    def open_logs(self, step: int, epoch_end_is_pending: bool = False):
        """Open the logs, without the records that a killed run wrote after the step.

        Args:
          step: from which the run goes on.
          epoch_end_is_pending: whether the record of the epoch that ends at this step is missing.
        """
        if not self._writes:
            return
        with self._reports_write_errors():
            kept = [
                record
                for record in self.records()
                if record["step"] < step
                or (record["step"] == step and not (epoch_end_is_pending and "epoch" in record))
            ]
            text = "".join(json.dumps(record) + "\n" for record in kept)
            files.write_atomically(self._records, text)
            self._events = _event_writer(self.path / "tensorboard", purge_step=step + 1)

    def records(self) -> list[dict]:
        """Return all records of metrics.jsonl."""
        return read_records(self._records)

    def log(self, step: int, record: dict[str, float]):
        """Add a record to metrics.jsonl and to the TensorBoard events."""
        if not self._writes:
            return
        with self._reports_write_errors():
            with self._records.open("r+") as file:  # fails if the file was deleted meanwhile
                file.seek(0, os.SEEK_END)
                file.write(json.dumps({"step": step, **record}) + "\n")
            for key, value in record.items():
                self._events.add_scalar(key, value, step)

    def flush(self):
        """Wait until all records would survive a loss of power."""
        if not self._writes:
            return
        with self._reports_write_errors():
            for path in self.path.iterdir():
                if path.is_file():
                    files.flush(path)

    def close_logs(self):
        """Close the TensorBoard events."""
        if self._events is not None:
            with contextlib.suppress(OSError):  # reported when it first happened
                self._events.close()


def _event_writer(folder: pathlib.Path, purge_step: int):
    """Return a writer of TensorBoard events.

    tensorboardX imports torch where that is installed, which takes seconds, for kinds of events
    that are not written here. So torch is hidden from it, unless it is there already.
    """
    hides = "torch" not in sys.modules
    if hides:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        from tensorboardX import SummaryWriter
    finally:
        if hides:
            del sys.modules["torch"]
    return SummaryWriter(str(folder), purge_step=purge_step)
