"""What a worker finds of the sockets that it is handed: all of them, at their numbers, and nothing else."""

import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.core.exits import ExitStatus
from supervisor.core.launch import Launch, ListenSocket, TcpListen
from supervisor.runtime.children import SpawnError, reap, spawn_failure, start_child
from supervisor.runtime.execution import prepare_to_spawn
from tests.runtime.process_harness import NOBODY, worker
from tests.runtime.process_harness import launch_of as plain_launch_of

ROOT = Path(__file__).resolve().parents[2]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may do this")
pytestmark = pytest.mark.usefixtures("way")


@pytest.fixture
def listeners() -> Iterator[list[socket.socket]]:
    """Five listening sockets."""
    made = [socket.create_server(("127.0.0.1", 0)) for _ in range(5)]
    yield made
    for one in made:
        one.close()


def launch_of(*argv: str, names: tuple[str, ...] = (), **fields: Any) -> Launch:
    """A launch that asks for sockets with these names."""
    sockets = tuple(ListenSocket(name, TcpListen("127.0.0.1", 1)) for name in names)
    return plain_launch_of(*argv, sockets=sockets, **fields)


def run(launch: Launch, sockets: list[int]) -> str:
    """Run to the end; why it never ran, if so."""
    child = start_child(launch, sockets=sockets)
    assert select.select([child], [], [], 30)[0], "it did not end"
    failure = spawn_failure(child, launch)
    status = reap(child)
    assert failure is not None or status == ExitStatus(code=0)
    return str(failure or "")


def report(tmp_path: Path, sockets: list[int], names: tuple[str, ...], **fields: Any) -> dict[str, Any]:
    """What a worker finds that is handed these descriptors."""
    for parent in (tmp_path, *tmp_path.parents):
        if parent.name.startswith(("pytest", "popen", "test")):
            parent.chmod(0o755)
    path = tmp_path / "report"
    path.touch()
    path.chmod(0o666)
    assert run(launch_of(*worker("listener.py", path), names=names, **fields), sockets) == ""
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.parametrize("fields", [{}, {"identity": NOBODY}], ids=["own", "nobody"])
def test_the_protocol(tmp_path: Path, listeners: list[socket.socket], fields: dict[str, Any]) -> None:
    """From descriptor 3 on in order, blocking, inheritable; named; and told its own pid."""
    if fields and os.geteuid() != 0:
        pytest.skip("only root may become somebody else")
    found = report(tmp_path, [one.fileno() for one in listeners[:2]], ("http", "app one"), **fields)
    assert found["environment"] == {
        "LISTEN_FDS": "2",
        "LISTEN_PID": str(found["pid"]),
        "LISTEN_FDNAMES": "http:app one",
    }
    assert found["inodes"] == [os.fstat(one.fileno()).st_ino for one in listeners[:2]]
    assert found["blocking"] == found["inheritable"] == [True, True]
    # 5 is what the worker lists its descriptors with.
    assert found["descriptors"] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("turn", range(5))
def test_any_numbers_in_any_order(tmp_path: Path, listeners: list[socket.socket], turn: int) -> None:
    """Whatever numbers the sockets, the plan and the report have in the child, none overwrites another."""
    chosen = listeners[turn:] + listeners[:turn]
    low = [os.dup(chosen[0].fileno())]
    try:
        sockets = [low[0], *(one.fileno() for one in reversed(chosen[1:]))]
        found = report(tmp_path, sockets, ("a", "b", "c", "d", "e"))
        assert found["inodes"] == [os.fstat(one).st_ino for one in sockets]
        assert found["descriptors"] == list(range(9))
    finally:
        os.close(low[0])


IN_THE_WAY = """
import os, select, socket, sys
from supervisor.core.launch import Launch, ListenSocket, LogPolicy, TcpListen
from supervisor.runtime.children import reap, spawn_failure, start_child
holes = [os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC) for _ in range(int(sys.argv[1]))]
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(5)]
assert min(holes + [one.fileno() for one in sockets]) == 3
for hole in holes:
    os.close(hole)
wanted = [one.fileno() for one in reversed(sockets)]
names = tuple(ListenSocket(name, TcpListen("127.0.0.1", 1)) for name in "abcde")
launch = Launch(tuple(sys.argv[2:]), {"PATH": os.defpath}, "/", LogPolicy(None), sockets=names)
child = start_child(launch, sockets=wanted)
select.select([child], [], [])
print(*(os.fstat(one).st_ino for one in wanted))
print(spawn_failure(child, launch) or "")
reap(child)
"""


@pytest.mark.parametrize("holes", range(4))
def test_nothing_is_in_the_way(tmp_path: Path, holes: int) -> None:
    """Where the numbers of the sockets, the plan and the report are those that the sockets are to have."""

    def run_alone(*argv: str) -> tuple[list[int], str]:
        command = [sys.executable, "-c", IN_THE_WAY, str(holes), *argv]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        inodes, failure = done.stdout.split("\n")[:2]
        return [int(word) for word in inodes.split()], failure

    inodes, failure = run_alone(*worker("listener.py", tmp_path / "report"))
    assert failure == ""
    found = json.loads((tmp_path / "report").read_text())
    assert found["inodes"] == inodes
    assert found["descriptors"] == list(range(9))
    assert "no such file" in run_alone("/no/such/program")[1]


def test_one_socket_under_two_names(tmp_path: Path, listeners: list[socket.socket]) -> None:
    """The same descriptor may be handed over twice."""
    one = listeners[0].fileno()
    found = report(tmp_path, [one, one], ("a", "b"))
    assert found["inodes"] == [os.fstat(one).st_ino] * 2
    assert found["environment"]["LISTEN_FDS"] == "2"


def test_a_low_limit_of_descriptors(tmp_path: Path, listeners: list[socket.socket]) -> None:
    """The sockets are in place before the worker's limits are."""
    sockets = [one.fileno() for one in listeners[:3]]
    found = report(tmp_path, sockets, ("a", "b", "c"), limits={"NOFILE": (8, 8)})
    assert len(found["inodes"]) == 3


def test_without_sockets(tmp_path: Path, listeners: list[socket.socket]) -> None:
    """A child that is handed none gets none, also where its launch names some: a probe's command."""
    found = report(tmp_path, [], ("http",))
    assert found["environment"] == {}
    assert found["descriptors"] == [0, 1, 2, 3]


def test_a_program_that_cannot_be_run(listeners: list[socket.socket]) -> None:
    """The failure comes back although the report had to move out of the way of the sockets."""
    launch = launch_of("/no/such/program", names=("a", "b", "c", "d", "e"))
    failure = run(launch, [one.fileno() for one in listeners])
    assert failure == (
        "cannot run /no/such/program: no such file (working directory /); correct the command or install it"
    )


def test_a_socket_that_is_closed() -> None:
    """A descriptor that is not open is an error, not a worker without its socket."""
    with pytest.raises(SpawnError, match="Bad file descriptor"):
        start_child(launch_of("true", names=("a",)), sockets=[900])


@needs_root
def test_the_daemons_own_sockets_do_not_leak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listeners: list[socket.socket]
) -> None:
    """What the daemon itself was handed by systemd never reaches a worker, by descriptor or by name."""
    for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
        monkeypatch.setenv(name, "7")
    os.set_inheritable(listeners[0].fileno(), True)
    prepare_to_spawn()
    found = report(tmp_path, [listeners[1].fileno()], ("a",))
    assert found["environment"]["LISTEN_FDNAMES"] == "a"
    assert found["inodes"] == [os.fstat(listeners[1].fileno()).st_ino]
    assert found["descriptors"] == [0, 1, 2, 3, 4]
    assert report(tmp_path, [], ())["environment"] == {}
