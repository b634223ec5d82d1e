"""Out of descriptors, clients wait in the backlog of the kernel, one is served, and it is told once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PRELUDE = """
import asyncio, logging, os, resource, socket, sys, time
from supervisor.control import acceptor
from supervisor.control.acceptor import Acceptor

complaints, moments = [], []

class Remember(logging.Handler):
    def emit(self, record):
        complaints.append(record.getMessage())
        moments.append(time.monotonic())

logging.getLogger("supervisor.control.acceptor").addHandler(Remember())

class Greeter(asyncio.Protocol):
    greeted = 0
    def connection_made(self, transport):
        Greeter.greeted += 1
        transport.write(b"hello")
        transport.close()

def listen(kind):
    if kind == "tcp":
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(sys.argv[2])
    listener.setblocking(False)
    listener.listen(100)
    return listener

def knock(listener, count):
    # Made while there are descriptors: what runs out is what the accepting side needs.
    clients = []
    for _ in range(count):
        client = socket.socket(listener.family)
        client.connect(listener.getsockname())
        client.setblocking(False)
        clients.append(client)
    return clients

async def heard(client):
    async with asyncio.timeout(60):
        data = b""
        while not data.endswith(b"hello"):
            more = await asyncio.get_running_loop().sock_recv(client, 16)
            assert more, data
            data += more

def no_more():
    # The next number would be the lowest free one.
    lowest = os.dup(0)
    os.close(lowest)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

async def tries(count):
    # Each try that finds no descriptor ends in a pause.
    seen, before = 0, None
    async with asyncio.timeout(60):
        while seen < count:
            timer = subject._retry
            if timer is not None and timer is not before:
                seen, before = seen + 1, timer
            await asyncio.sleep(0.001)
"""


def run(kind: str, path: Path, story: str) -> None:
    """Run a story in a process of its own, whose limits it may spoil."""
    code = f"{PRELUDE}\nasync def story():\n    global subject\n{story}\nasyncio.run(story())\n"
    done = subprocess.run(
        [sys.executable, "-c", code, kind, str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr


CROWD = """
    acceptor.RETRY_SECONDS = 0.05
    listener = listen(sys.argv[1])
    subject = Acceptor(listener, Greeter, "here", reserve=True)
    clients = knock(listener, 5)
    restore = no_more()
"""
"""Five clients, and no descriptor but the reserve."""

KINDS = pytest.mark.parametrize("kind", ["unix", "tcp"])


@KINDS
def test_many_are_served(kind: str, tmp_path: Path) -> None:
    """More than one turn takes; after `close` nobody is, and the descriptors are given back."""
    run(
        kind,
        tmp_path / "s",
        """
    held = len(os.listdir("/proc/self/fd"))
    listener = listen(sys.argv[1])
    subject = Acceptor(listener, Greeter, "here", reserve=True)
    clients = knock(listener, 50)
    for client in clients:
        await heard(client)
        client.close()
    assert Greeter.greeted == 50 > acceptor.ACCEPTS_PER_TURN
    subject.close()
    subject.close()
    await asyncio.sleep(0)
    assert len(os.listdir("/proc/self/fd")) == held
    assert complaints == []
""",
    )


@KINDS
def test_they_wait_until_there_is_room(kind: str, tmp_path: Path) -> None:
    """Nobody is turned away while descriptors are out, it is said once, and then all are served."""
    run(
        kind,
        tmp_path / "s",
        """
    acceptor.RETRY_SECONDS = 0.05
    listener = listen(sys.argv[1])
    subject = Acceptor(listener, Greeter, "here")
    clients = knock(listener, 30)
    restore = no_more()
    await tries(5)
    assert Greeter.greeted == 0
    assert complaints == [
        "cannot accept clients on here: too many open files; they wait until there is room again"
    ], complaints
    restore()
    for client in clients:
        await heard(client)
    assert Greeter.greeted == 30
    assert len(complaints) == 1
""",
    )


@KINDS
def test_one_at_a_time_is_served_from_the_reserve(kind: str, tmp_path: Path) -> None:
    """With a reserve, descriptors being out delays clients, and locks out none."""
    run(
        kind,
        tmp_path / "s",
        CROWD
        + """
    for client in clients:
        await heard(client)
    assert len(complaints) == 1, complaints
    # The reserve is there for the next one, too.
    async with asyncio.timeout(60):
        while subject._spare < 0:
            await asyncio.sleep(0.001)
    restore()
    await heard(knock(listener, 1)[0])
    assert Greeter.greeted == 6
""",
    )


def test_the_reserve_comes_back_before_anybody_else_can_take_it(tmp_path: Path) -> None:
    """Whoever waits for a descriptor never gets the one with which the next operator is served."""
    run(
        "unix",
        tmp_path / "s",
        CROWD
        + """
    taken = []
    def wait_for_one():
        try:
            taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        asyncio.get_running_loop().call_soon(wait_for_one)
    wait_for_one()
    for client in clients:
        await heard(client)
    assert taken == []
    restore()
""",
    )


def test_it_is_told_again_after_a_minute(tmp_path: Path) -> None:
    """One complaint in `SECONDS_BETWEEN_COMPLAINTS`, however often it is tried meanwhile."""
    run(
        "unix",
        tmp_path / "s",
        """
    acceptor.RETRY_SECONDS = 0.001
    assert acceptor.SECONDS_BETWEEN_COMPLAINTS == 60.0
    acceptor.SECONDS_BETWEEN_COMPLAINTS = 0.5
    listener = listen(sys.argv[1])
    subject = Acceptor(listener, Greeter, "here")
    clients = knock(listener, 1)
    no_more()
    async with asyncio.timeout(60):
        while len(complaints) < 3:
            await asyncio.sleep(0.001)
    gaps = [after - before for before, after in zip(moments, moments[1:])]
    assert min(gaps) > 0.45, gaps
    assert Greeter.greeted == 0
""",
    )


def test_a_client_that_has_gone_is_no_trouble(tmp_path: Path) -> None:
    """Connections that were closed before they were taken spoil nothing for the next."""
    run(
        "tcp",
        tmp_path / "s",
        """
    import struct
    listener = listen("tcp")
    gone = knock(listener, 20)
    for client in gone:
        # Closed with a reset.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    subject = Acceptor(listener, Greeter, "here")
    await heard(knock(listener, 1)[0])
    subject.close()
    assert complaints == []
""",
    )
