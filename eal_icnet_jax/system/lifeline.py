"""A TCP connection from every process to the first one, whose end shows that a process is lost.

JAX's own coordination service aborts the healthy processes with a stack trace after its heartbeat
timeout. Here they exit within seconds, with a sentence that names the lost process and status 1.
"""

import contextlib
import json
import os
import secrets
import socket
import threading
import time

from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.signals import Interruption
from eal_icnet_jax.system.terminal import report_error

KEEPALIVE = {"KEEPIDLE": 10, "KEEPINTVL": 5, "KEEPCNT": 3}
"""TCP keepalive settings: a host that is gone is noticed after 25 seconds."""

CONNECT_SECONDS = 60
"""Time that the processes have to connect."""

DONE, LOST = b"+", b"-"
"""Messages about a process; its index follows."""

INDEX_BYTES = 4
"""Size of a process index in a message."""


class Lifeline:
    """The connections of one process: to all others in the first process, to the first elsewhere.

    A process that dies closes its connections. A host that is gone lets TCP's keepalive close them.

    Args:
      index: of this process.
      count: number of processes.
    """

    ADDRESS_BYTES = 512

    def __init__(self, index: int, count: int):
        self._index, self._count = index, count
        self._connections: dict[int, socket.socket] = {}
        self._watchers: list[threading.Thread] = []
        self._server: socket.socket | None = None
        self._token = ""

    def listen(self, host: str | None) -> bytes:
        """Open a port in the first process, and return the address that the others connect to."""
        try:
            self._server = socket.create_server(("", 0), backlog=self._count)
        except OSError:
            return b"{}"
        self._token = secrets.token_hex(16)
        address = {
            "host": host or socket.gethostname(),
            "port": self._server.getsockname()[1],
            "token": self._token,
        }
        return json.dumps(address).encode()

    def connect(self, address: bytes) -> str:
        """Connect to the others; return the reason if that fails, otherwise an empty text."""
        try:
            if self._index == 0:
                self._accept()
            else:
                self._connect(json.loads(address.rstrip(b"\0")))
            for connection in self._connections.values():
                _keep_alive(connection)
        except (OSError, KeyError) as error:
            return str(error) or type(error).__name__
        return ""

    def _connect(self, address: dict):
        place = address["host"], address["port"]
        connection = socket.create_connection(place, timeout=CONNECT_SECONDS)
        connection.sendall(address["token"].encode() + self._index.to_bytes(INDEX_BYTES))
        self._connections[0] = connection

    def _accept(self):
        if self._server is None:
            raise OSError("no port can be opened")
        until = time.monotonic() + CONNECT_SECONDS
        token = self._token.encode()
        with self._server as server:
            while len(self._connections) < self._count - 1:
                server.settimeout(max(0.1, until - time.monotonic()))
                connection, _ = server.accept()
                connection.settimeout(10)
                greeting = connection.recv(len(token) + INDEX_BYTES, socket.MSG_WAITALL)
                if greeting[: len(token)] == token:
                    self._connections[int.from_bytes(greeting[len(token) :])] = connection

    def close(self):
        """Close all connections. Nobody watches them any more."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def watch(self):
        """Exit this process as soon as another one is lost."""
        self._watchers = [
            threading.Thread(target=self._watch, args=item, daemon=True)
            for item in self._connections.items()
        ]
        for watcher in self._watchers:
            watcher.start()

    def _watch(self, index: int, connection: socket.socket):
        try:
            message = connection.recv(1 + INDEX_BYTES, socket.MSG_WAITALL)
        except OSError:
            message = b""
        if message[:1] == DONE:
            return
        lost = int.from_bytes(message[1:]) if message else index
        self._send(LOST, lost)
        report_error(
            UserError(
                f"process {lost} of {self._count} failed or was lost: start all of them again, "
                "and they go on from what was saved"
            )
        )
        os._exit(1)

    def _send(self, message: bytes, index: int):
        for connection in self._connections.values():
            with contextlib.suppress(OSError):
                connection.sendall(message + index.to_bytes(INDEX_BYTES))

    def fail(self):
        """Announce to the others that this process is about to exit."""
        self._send(LOST, self._index)
        if self._index == 0:
            # JAX's coordinator ends with this process. The others exit before they notice that.
            time.sleep(1)

    def end(self):
        """Wait until all processes are done, even if a signal asks all of them to stop."""
        with Interruption("waiting for the other processes to end"):
            if self._index != 0:
                self._send(DONE, self._index)
            for watcher in self._watchers:
                watcher.join()
            if self._index == 0:
                self._send(DONE, self._index)


def _keep_alive(connection: socket.socket):
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if option := getattr(socket, f"TCP_{name}", None):  # not on every system
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
