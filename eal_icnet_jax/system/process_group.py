"""Several processes or hosts that work as one: joining, agreeing, and ending together."""

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from eal_icnet_jax.system.errors import Interrupted, UserError, first_line
from eal_icnet_jax.system.lifeline import Lifeline
from eal_icnet_jax.system.signals import sigterm_raises
from eal_icnet_jax.system.terminal import report_error, warn

HEARTBEAT_SECONDS = 45
"""Time after which JAX gives up on a silent process and aborts the others."""


@dataclasses.dataclass(frozen=True)
class ProcessGroup:
    """The processes that share the work of a command.

    index: of this process, from 0.
    count: number of processes.
    """

    index: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files."""
        return self.index == 0

    def broadcast_from_first(self, array: np.ndarray) -> np.ndarray:
        """Return the first process's array in every process. All wait for the first."""
        if self.count == 1:
            return array
        return np.asarray(multihost_utils.broadcast_one_to_all(array))

    def gathered(self, value: Any) -> list[Any]:
        """Return the values of all processes in every process. All wait for the last.

        Args:
          value: of JSON types.
        """
        if self.count == 1:
            return [value]
        data = np.frombuffer(json.dumps(value).encode(), np.uint8)
        sizes = np.asarray(multihost_utils.process_allgather(np.array(len(data), np.int32)))
        padded = np.pad(data, (0, int(sizes.max()) - len(data)))
        parts = np.asarray(multihost_utils.process_allgather(padded))
        return [json.loads(bytes(p[:n])) for p, n in zip(parts, sizes.ravel(), strict=True)]


SINGLE_PROCESS = ProcessGroup()


def _lifeline(group: ProcessGroup, host: str | None) -> Lifeline:
    """Connect the processes, or none of them if one cannot be reached."""
    lifeline = Lifeline(group.index, group.count)
    address = lifeline.listen(host) if group.is_first else b""
    address = group.broadcast_from_first(
        np.frombuffer(address.ljust(lifeline.ADDRESS_BYTES, b"\0"), np.uint8)
    )
    problems = [problem for problem in group.gathered(lifeline.connect(bytes(address))) if problem]
    if problems:
        lifeline.close()
        if group.is_first:
            warn(
                f"the processes cannot reach each other on a second port ({problems[0]}): if one "
                f"is lost, the others notice after {HEARTBEAT_SECONDS} seconds"
            )
    else:
        lifeline.watch()
    return lifeline


def _initialize(coordinator: str | None, count: int | None, index: int | None, cluster: bool):
    given = coordinator, count, index
    if not cluster and None in given:
        raise UserError("--coordinator, --processes and --process go together: name all three")
    try:
        jax.distributed.initialize(*given, heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the other processes cannot be joined: {first_line(error)}") from error


def _is_failed_collective(error: BaseException) -> bool:
    """Return whether an error can come from a collective, for which JAX raises several types."""
    names = "Gloo", "NCCL"
    return isinstance(error, jax.errors.JaxRuntimeError) or any(n in str(error) for n in names)


@contextlib.contextmanager
def joined(
    coordinator: str | None, count: int | None, index: int | None, cluster: bool
) -> Iterator[ProcessGroup]:
    """Join the other processes, before anything is computed.

    If this process fails inside, it reports the error and exits, and the others exit too.

    Args:
      coordinator: host and port at which the first process is reached.
      count: number of processes.
      index: of this process, from 0.
      cluster: whether `jax.distributed.initialize` finds all three in the environment of Slurm,
        Open MPI, Kubernetes or a cloud. If False and the others are None, there is one process.

    Raises:
      UserError: the arguments do not go together, or the others are not reached.
    """
    if not cluster and (coordinator, count, index) == (None, None, None):
        yield SINGLE_PROCESS
        return
    _initialize(coordinator, count, index, cluster)
    group = ProcessGroup(jax.process_index(), jax.process_count())
    host = coordinator.rpartition(":")[0].strip("[]") if coordinator else None
    lifeline = None
    try:
        with sigterm_raises():  # JAX replaced the SIGTERM handler: restore ours
            lifeline = _lifeline(group, host)
            yield group
        lifeline.end()
    except Interrupted:  # all processes are interrupted together
        lifeline.end()
        raise
    except BaseException as error:
        if _is_failed_collective(error):
            # Another process may be lost: let the lifeline report that.
            time.sleep(5)
        status = report_error(error)
        if lifeline is not None:
            lifeline.fail()
        os._exit(status)  # Python's own exit would wait for the other processes
