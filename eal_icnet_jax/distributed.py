"""Several processes or hosts that work as one: joining, agreeing, and telling when one is lost."""

import contextlib
import dataclasses
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from eal_icnet_jax.errors import (
    Interrupted,
    Interruption,
    UserError,
    ended_by_sigterm,
    tell,
    warn,
)

HEARTBEAT_SECONDS = 45
"""After which JAX gives a process up that is silent, and aborts."""
KEEPALIVE = {"KEEPIDLE": 10, "KEEPINTVL": 5, "KEEPCNT": 3}
"""TCP's, of the connections by which it is told before that: 25 seconds."""

DONE, LOST = b"+", b"-"
"""What processes tell each other of one of them."""
GONE = 4
"""How many bytes tell which."""


def data_mesh(devices: list[jax.Device] | None = None) -> Mesh:
    """Devices, all if not given, along one axis, `data`, over which batches are shared."""
    return Mesh(np.array(devices or jax.devices()), ("data",))


def on_all_devices(tree):
    """A tree of arrays, which every process has alike, whole on each device of all processes."""
    everywhere = NamedSharding(data_mesh(), PartitionSpec())
    if jax.process_count() == 1:
        return jax.device_put(tree, everywhere)

    def placed(array):
        if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(placed(jax.random.key_data(array)))
        return jax.make_array_from_process_local_data(everywhere, np.asarray(array))

    return jax.tree.map(placed, tree)


def on_this_process(tree):
    """A tree that `on_all_devices` placed, as arrays of this process alone."""
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(lambda array: array.addressable_data(0), tree)


@dataclasses.dataclass(frozen=True)
class Processes:
    """Those that share a work.

    index, count: of this one, and of all.
    """

    index: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes."""
        return self.index == 0

    def of_first(self, array: np.ndarray) -> np.ndarray:
        """The first process's array, in all of them; all wait for it."""
        if self.count == 1:
            return array
        return np.asarray(multihost_utils.broadcast_one_to_all(array))

    def gathered(self, value: Any) -> list[Any]:
        """Every process's value, of JSON types, in all of them; all wait for the last."""
        if self.count == 1:
            return [value]
        data = np.frombuffer(json.dumps(value).encode(), np.uint8)
        sizes = np.asarray(multihost_utils.process_allgather(np.array(len(data), np.int32)))
        padded = np.pad(data, (0, int(sizes.max()) - len(data)))
        parts = np.asarray(multihost_utils.process_allgather(padded))
        return [json.loads(bytes(p[:n])) for p, n in zip(parts, sizes.ravel(), strict=True)]


ALONE = Processes()


class _Lifeline:
    """A connection from every process to the first one, whose end tells that a process is gone.

    A process that dies ends its connections with it, and one whose host does ends them by TCP's
    keepalive; then this process says so and exits, where JAX alone would wait in a computation, or
    abort with a stack after a while.
    """

    def __init__(self, processes: Processes, host: str | None):
        self._processes = processes
        self._connections: dict[int, socket.socket] = {}
        try:
            self._connect(host)
        except OSError as error:
            warn(f"processes cannot reach each other beside JAX ({error}): should one be lost, the "
                 f"others are told after {HEARTBEAT_SECONDS} seconds")  # fmt: skip
            self._connections.clear()
        self._watchers = [
            threading.Thread(target=self._watch, args=(index, connection), daemon=True)
            for index, connection in self._connections.items()
        ]
        for watcher in self._watchers:
            watcher.start()

    def _connect(self, host: str | None):
        processes, address = self._processes, bytes(512)
        if processes.is_first:
            server = socket.create_server(("", 0), backlog=processes.count)
            token = secrets.token_hex(16)
            told = {
                "host": host or socket.gethostname(),
                "port": server.getsockname()[1],
                "token": token,
            }
            address = json.dumps(told).encode().ljust(512, b"\0")
        address = processes.of_first(np.frombuffer(address, np.uint8)).tobytes()
        told = json.loads(address.rstrip(b"\0"))
        if processes.is_first:
            self._accept(server, token.encode())
        else:
            connection = socket.create_connection((told["host"], told["port"]), timeout=60)
            connection.sendall(told["token"].encode() + processes.index.to_bytes(GONE))
            self._connections[0] = connection
        for connection in self._connections.values():
            connection.settimeout(None)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in KEEPALIVE.items():
                if option := getattr(socket, f"TCP_{name}", None):  # not on every system
                    connection.setsockopt(socket.IPPROTO_TCP, option, value)

    def _accept(self, server: socket.socket, token: bytes):
        server.settimeout(60)
        with server:
            while len(self._connections) < self._processes.count - 1:
                connection, _ = server.accept()
                connection.settimeout(10)
                said = connection.recv(len(token) + GONE, socket.MSG_WAITALL)
                if said[: len(token)] == token:
                    self._connections[int.from_bytes(said[len(token) :])] = connection

    def _watch(self, index: int, connection: socket.socket):
        try:
            said = connection.recv(1 + GONE, socket.MSG_WAITALL)
        except OSError:
            said = b""
        if said[:1] == DONE:
            return
        lost = int.from_bytes(said[1:]) if said else index
        self._say(LOST, lost)
        tell(
            UserError(
                f"process {lost} of {self._processes.count} failed or was lost: start all of them "
                "again, and they go on from what was saved"
            )
        )
        os._exit(1)

    def _say(self, what: bytes, index: int):
        for connection in self._connections.values():
            with contextlib.suppress(OSError):
                connection.sendall(what + index.to_bytes(GONE))

    def fail(self):
        """Tells the others that this one is about to exit."""
        self._say(LOST, self._processes.index)
        if self._processes.is_first:
            # With it goes what JAX reaches the others by, and it would tell of that at length.
            time.sleep(1)

    def end(self):
        """Waits until all are done, also where a signal asks all of them to stop."""
        with Interruption("waiting for the other processes to end"):
            if not self._processes.is_first:
                self._say(DONE, self._processes.index)
            for watcher in self._watchers:
                watcher.join()
            if self._processes.is_first:
                self._say(DONE, self._processes.index)


@contextlib.contextmanager
def joined(
    coordinator: str | None, count: int | None, index: int | None, cluster: bool
) -> Iterator[Processes]:
    """Joins the other processes; before anything is computed.

    Where this process fails, it tells why and exits, and the others do.

    Args:
      coordinator: host and port where the first process is reached.
      count, index: of the processes, and which this is, from 0.
      cluster: take the three from the environment of Slurm, Open MPI, Kubernetes or a cloud, as
        `jax.distributed.initialize` finds it.

    Raises:
      UserError: the arguments do not go together, or the others are not reached.
    """
    given = coordinator, count, index
    if not cluster and given == (None, None, None):
        yield ALONE
        return
    if not cluster and None in given:
        raise UserError("--coordinator, --processes and --process go together: name all three")
    try:
        jax.distributed.initialize(*given, heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
    except (RuntimeError, ValueError) as error:
        told = str(error).splitlines()[0]
        raise UserError(f"the other processes cannot be joined: {told}") from error
    processes = Processes(jax.process_index(), jax.process_count())
    host = coordinator.rpartition(":")[0].strip("[]") if coordinator else None
    lifeline = None
    try:
        with ended_by_sigterm():  # which JAX took over, to no end
            lifeline = _Lifeline(processes, host)
            yield processes
        lifeline.end()
    except Interrupted:  # which all of them are together
        lifeline.end()
        raise
    except BaseException as error:
        if isinstance(error, jax.errors.JaxRuntimeError):
            time.sleep(5)  # a computation that broke off because another is lost: that is told
        status = tell(error)
        if lifeline is not None:
            lifeline.fail()
        os._exit(status)  # Python's own exit would wait for the others
