"""The lifeline connects all processes or none, and ends them if one is lost."""

import contextlib
import queue
import socket
import threading

import numpy as np
import pytest

from eal_icnet_jax.system import lifeline, process_group
from eal_icnet_jax.system.lifeline import Lifeline
from eal_icnet_jax.system.process_group import ProcessGroup

COUNT = 3


class Exchange:
    """What the processes of a group hand each other, here between threads."""

    def __init__(self):
        self._barrier = threading.Barrier(COUNT)
        self._values: list = [None] * COUNT

    def gathered(self, index, value):
        self._values[index] = value
        self._barrier.wait(30)
        values = list(self._values)
        self._barrier.wait(30)
        return values


class ThreadGroup(ProcessGroup):
    """A process of the group as a thread."""

    def __init__(self, index, exchange):
        super().__init__(index, COUNT)
        object.__setattr__(self, "exchange", exchange)

    def broadcast_from_first(self, array):
        return np.asarray(self.exchange.gathered(self.index, array)[0])

    def gathered(self, value):
        return self.exchange.gathered(self.index, value)


def connected_group() -> list[Lifeline]:
    """Return the lifelines of a group whose processes are threads, named by their index."""
    exchange, lifelines = Exchange(), [None] * COUNT

    def connect(index):
        group = ThreadGroup(index, exchange)
        lifelines[index] = process_group._lifeline(group, "127.0.0.1")

    threads = [threading.Thread(target=connect, args=[k], name=f"{k}") for k in range(COUNT)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert None not in lifelines, "a process does not go on"
    return lifelines


@pytest.fixture
def exits(monkeypatch):
    """A queue of exit statuses instead of the end of this process."""
    statuses: queue.Queue = queue.Queue()
    monkeypatch.setattr(lifeline.os, "_exit", statuses.put)
    monkeypatch.setattr(lifeline, "CONNECT_SECONDS", 1)
    return statuses


@pytest.fixture
def connect(exits):
    """A function that connects lifelines. Their threads end with the test."""
    opened = []

    def connect(make=connected_group):
        lifelines = make()
        opened.extend(lifelines)
        return lifelines

    yield connect
    for each in opened:
        for connection in each._connections.values():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
    for each in opened:
        for watcher in each._watchers:
            watcher.join(30)
            assert not watcher.is_alive()


def end_all(lifelines):
    """End all lifelines, as processes do that are done."""
    threads = [threading.Thread(target=each.end) for each in lifelines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a process waits for the others"


def test_processes_that_are_done_end_together(connect, exits):
    end_all(connect())
    assert exits.empty()


@pytest.mark.parametrize("unreachable", [0, 1, 2])
def test_if_one_cannot_be_reached_all_go_on_without_lifeline_and_the_first_warns(
    connect, exits, monkeypatch, capsys, unreachable
):
    """If it is the first process, it can open no port."""
    create_connection, create_server = socket.create_connection, socket.create_server

    def refusing_connection(*arguments, **options):
        if threading.current_thread().name == str(unreachable):
            raise ConnectionRefusedError("no route to host")
        return create_connection(*arguments, **options)

    def refusing_server(*arguments, **options):
        if unreachable == 0:
            raise OSError("permission denied")
        return create_server(*arguments, **options)

    monkeypatch.setattr(lifeline.socket, "create_connection", refusing_connection)
    monkeypatch.setattr(lifeline.socket, "create_server", refusing_server)
    lifelines = connect()
    assert not any(each._watchers or each._connections for each in lifelines)
    end_all(lifelines)
    assert exits.empty()
    message = capsys.readouterr().err
    assert message.count("warning: the processes cannot reach each other on a second port") == 1


def test_if_a_process_is_lost_the_others_report_it_and_exit_with_status_1(connect, exits, capsys):
    lifelines = connect()
    for connection in lifelines[1]._connections.values():
        connection.shutdown(socket.SHUT_RDWR)  # as the system does for a process that died
    # The lost process is a thread here, and reports that it lost the first one.
    assert [exits.get(timeout=30) for _ in range(3)] == [1, 1, 1]
    message = "error: process 1 of 3 failed or was lost: start all of them again"
    assert capsys.readouterr().err.count(message) >= 2


def test_a_process_that_fails_is_named_to_the_others(connect, exits, capsys):
    connect()[2].fail()
    assert [exits.get(timeout=30) for _ in range(2)] == [1, 1]
    assert capsys.readouterr().err.count("process 2 of 3 failed or was lost") >= 2


def test_a_stranger_on_the_port_is_ignored(connect, exits):
    first, second = connect(lambda: [Lifeline(0, 2), Lifeline(1, 2)])
    address = first.listen("127.0.0.1").ljust(Lifeline.ADDRESS_BYTES, b"\0")
    with socket.create_connection(("127.0.0.1", first._server.getsockname()[1])) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\nHost: a host of that name\r\n\r\n")
        connecting = threading.Thread(target=second.connect, args=[address])
        connecting.start()
        assert first.connect(address) == ""
        connecting.join(30)
    assert list(first._connections) == [1]
    for each in (first, second):
        each.watch()
    end_all([first, second])
    assert exits.empty()
