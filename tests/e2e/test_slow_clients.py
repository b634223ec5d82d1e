"""Hundreds of clients that send slowly, read slowly or not at all: a bounded cost, and nothing else."""

import re
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial

import pytest

from tests.e2e.daemon import Daemon
from tests.e2e.neighbours import assert_unharmed, kill_and_wait, memory_bytes, neighbours
from tests.proc import descriptor_count
from tests.waiting import eventually

Make = Callable[..., Daemon]

CLIENTS = 400
"""More than a listener serves at a time."""

SERVED = 256
MORE_MEMORY_BYTES = 32 * 1024 * 1024

HABITS = {
    "silent": b"",
    "half-a-line": b"GET /v1/sta",
    "half-a-head": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 15000,
    "half-a-body": b"POST /v1/drain HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 65536\r\n\r\n" + b" " * 60000,
    "reads-nothing": b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


def address(one: Daemon) -> tuple[str, int]:
    """Where the daemon listens on TCP."""
    found = re.search(r"and on (127\.0\.0\.1):(\d+)", one.log())
    assert found is not None
    return found.group(1), int(found.group(2))


def connected(client: socket.socket, to: tuple[str, int] | str) -> bool:
    """Whether it is; with a time-out, a unix socket whose backlog is full says no at once."""
    try:
        client.connect(to)
    except BlockingIOError:
        return False
    return True


def crowd(one: Daemon, stack: ExitStack, *, tcp: bool) -> list[socket.socket]:
    """Clients of all habits; those that are turned away at once are part of it."""
    clients = []
    for number in range(CLIENTS):
        client = stack.enter_context(socket.socket(socket.AF_INET if tcp else socket.AF_UNIX))
        client.settimeout(30)
        to: tuple[str, int] | str = address(one) if tcp else str(one.socket)
        with suppress(OSError):
            eventually(partial(connected, client, to))
            client.sendall([*HABITS.values()][number % len(HABITS)])
        clients.append(client)
    return clients


def trickle(clients: list[socket.socket]) -> None:
    """One more byte from each that is still listened to."""
    for client in clients:
        client.settimeout(0)
        with suppress(OSError):
            client.send(b"x")


@pytest.mark.parametrize("tcp", [True, False], ids=["tcp", "unix"])
def test_slow_clients_cost_little_and_nobody_else(daemon: Make, tcp: bool) -> None:
    """Bounded memory and descriptors; respawn, probes and logs go on; all of them are given up in the end."""
    one = daemon({"control": {"http": "127.0.0.1:0"}, "pools": neighbours()})
    one.wait_ready()
    held, memory = descriptor_count(one.pid), memory_bytes(one.pid)
    with ExitStack() as stack:
        clients = crowd(one, stack, tcp=tcp)
        # Whoever is one too many is accepted and closed, which takes a turn or two of the loop.
        eventually(lambda: descriptor_count(one.pid) <= held + SERVED + 4, 60)
        # The operator is served as ever: the other listener has places of its own, and on the same one
        # the slowest make way.
        trickle(clients)
        kill_and_wait(one)
        assert one.ctl("status").returncode == 0
        assert one.log().count(f"all {SERVED} places on ") == 1
        assert memory_bytes(one.pid) - memory < MORE_MEMORY_BYTES

        def given_up() -> bool:
            trickle(clients)
            return descriptor_count(one.pid) <= held + 8

        # 10 s for a request to arrive, 30 s between two, 30 s for an answer to be read.
        eventually(given_up, 120, "nobody holds a place for long")
        assert_unharmed(one)
    eventually(lambda: descriptor_count(one.pid) <= held + 2, 60)
