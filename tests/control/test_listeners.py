"""The sockets: never wider than they should be, never taken from a living daemon."""

import asyncio
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from supervisor.control.listeners import ControlError, bind_tcp, bind_unix
from supervisor.control.server import ControlServer
from tests.control.plant import StubEngine, plan, plant
from tests.ports import free_port
from tests.waiting import async_eventually


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a short path."""
    made = Path(tempfile.mkdtemp(dir="/tmp", prefix="pb"))
    yield made
    shutil.rmtree(made)


def mode(path: Path) -> int:
    """The permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_socket_has_its_mode_from_the_first_moment(directory: Path, umask: int) -> None:
    """Whatever the umask; and the umask is as it was afterwards."""
    path = directory / "s"
    before = os.umask(umask)
    try:
        with bind_unix(path, 0o660) as listener:
            assert mode(path) == 0o660
            assert not listener.get_inheritable()
            assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert os.listdir(directory) == ["s"]


def test_the_socket_is_never_wider_than_its_mode(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even between its making and its change of mode."""
    modes: list[int] = []
    chmod = os.chmod

    def watched(path: Path, bits: int) -> None:
        modes.append(mode(path))
        chmod(path, bits)

    monkeypatch.setattr(os, "chmod", watched)
    with bind_unix(directory / "s", 0o640):
        assert modes == [0o640]


def test_a_missing_directory_is_made(directory: Path) -> None:
    """With parents, open for all to pass: the socket's own mode decides."""
    path = directory / "a" / "b" / "s"
    with bind_unix(path, 0o600):
        assert mode(path.parent) == 0o755
        assert mode(path) == 0o600


def test_a_stale_socket_is_replaced(directory: Path) -> None:
    """One that a killed process left behind refuses connections; the new one answers at the same path."""
    path = directory / "s"
    code = (
        f"import socket,os; s=socket.socket(socket.AF_UNIX); s.bind({str(path)!r}); s.listen(); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert path.is_socket()
    with bind_unix(path, 0o660), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_living_daemon_keeps_its_socket(directory: Path) -> None:
    """Also one that is too busy to accept: its backlog is full, not its life over."""
    path = directory / "s"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen(0)
        clients = []
        for _ in range(4):
            client = socket.socket(socket.AF_UNIX)
            client.setblocking(False)
            clients.append(client)
            with pytest.raises(ControlError, match="another pitbossd answers on it"):
                bind_unix(path, 0o660)
            try:
                client.connect(str(path))
            except BlockingIOError:
                break
        for client in clients:
            client.close()
        assert os.listdir(directory) == ["s"]


def test_what_is_no_socket_is_left_alone(directory: Path) -> None:
    """A file in the place of the socket is somebody's data."""
    path = directory / "s"
    path.write_text("precious")
    with pytest.raises(ControlError, match="not a socket"):
        bind_unix(path, 0o660)
    assert path.read_text() == "precious"


def test_a_path_that_is_too_long_is_refused(directory: Path) -> None:
    """With the number of bytes that fit; the longest that fits works."""
    with pytest.raises(ControlError, match="longer than the 103 bytes"):
        bind_unix(directory / ("x" * 104), 0o660)
    fits = directory / ("x" * (103 - len(str(directory)) - 1))
    bind_unix(fits, 0o660).close()


def test_a_directory_that_cannot_be_used_is_named(directory: Path) -> None:
    """A file in the way of the directory, and a directory that cannot be written."""
    (directory / "file").write_text("")
    with pytest.raises(ControlError, match=r"cannot .*file"):
        bind_unix(directory / "file" / "s", 0o660)
    with pytest.raises(ControlError, match=r"cannot (make the directory|listen on) /proc/"):
        bind_unix(Path("/proc/pitboss/s"), 0o660)
    with pytest.raises(ControlError, match="cannot listen on /proc/s"):
        bind_unix(Path("/proc/s"), 0o660)


def test_tcp_failures_are_told() -> None:
    """A port in use, an address of another machine, a name of nobody."""
    with bind_tcp("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ControlError, match=rf"cannot listen on 127\.0\.0\.1:{port}: the port is in use"):
            bind_tcp("127.0.0.1", port)
        assert not taken.get_inheritable()
    with pytest.raises(ControlError, match=r"cannot listen on 192\.0\.2\.1:9911"):
        bind_tcp("192.0.2.1", 9911)
    with pytest.raises(ControlError, match=r"cannot listen on host\.invalid:1"):
        bind_tcp("host.invalid", 1)


async def test_a_failed_start_leaves_nothing(directory: Path) -> None:
    """The port is in use: the unix socket that was made before is gone again."""
    with bind_tcp("127.0.0.1", 0) as taken:
        server = ControlServer(
            StubEngine(plan()), unix=directory / "s", http=("127.0.0.1", taken.getsockname()[1])
        )
        with pytest.raises(ControlError):
            await server.start()
    assert os.listdir(directory) == []


async def test_a_failed_second_start_leaves_the_first_controllable() -> None:
    """The classic: the second daemon cleans up what the first one listens on."""
    async with plant() as one:
        second = ControlServer(StubEngine(plan()), unix=one.path)
        with pytest.raises(ControlError, match="another pitbossd answers"):
            await second.start()
        await second.stop()
        assert (await one.client.get("/livez")).status_code == 200


async def test_stop_removes_only_its_own_socket(directory: Path) -> None:
    """If another daemon has taken the path meanwhile, its socket stays."""
    path = directory / "s"
    server = ControlServer(StubEngine(plan()), unix=path)
    await server.start()
    await server.stop()
    assert not path.exists()
    await server.start()
    path.unlink()
    with bind_unix(path, 0o660):
        await server.stop()
        assert path.is_socket()


async def test_a_socket_that_was_removed_is_made_again(caplog: pytest.LogCaptureFixture) -> None:
    """With its mode, by one listener; where nothing was removed, nothing is done; at a stop it is gone."""
    before = set(os.listdir("/proc/self/fd"))
    async with plant() as one:
        made = one.path.stat().st_ino
        one.server.open_again()
        assert one.path.stat().st_ino == made
        assert caplog.messages == []
        waiter, writer = await one.connect()
        for _ in range(3):
            one.path.unlink()
            one.server.open_again()
            assert mode(one.path) == 0o660
            async with httpx.AsyncClient(
                transport=httpx.AsyncHTTPTransport(uds=str(one.path)), base_url="http://pitboss"
            ) as client:
                assert (await client.get("/livez")).status_code == 200
        # Of the listeners before, no socket is left, and the connection of one is served.
        writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        await waiter.readuntil(b'{"status": "ok"}')
        assert len(set(os.listdir("/proc/self/fd")) - before) <= 8
        await one.server.stop()
        assert not one.path.exists()
        writer.close()
        one.server.open_again()
        assert not one.path.exists()
    assert len([record for record in caplog.records if "is there again" in record.message]) == 3


async def test_a_socket_is_not_made_where_somebody_else_is(caplog: pytest.LogCaptureFixture) -> None:
    """The other's stays, and the log says why."""
    async with plant() as one:
        one.path.unlink()
        one.path.write_text("mine")
        one.server.open_again()
        assert one.path.read_text() == "mine"
        assert "cannot be made again: cannot listen on" in caplog.text
        one.path.unlink()
        one.server.open_again()
        assert (await one.client.get("/livez")).status_code == 200


async def test_stop_closes_everything() -> None:
    """Idle connections, listeners and descriptors: nothing is left."""
    before = set(os.listdir("/proc/self/fd"))
    async with plant() as one:
        reader, writer = await one.connect()
        writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b'{"status": "ok"}')
        port = one.port
        await one.server.stop()
        assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
    await asyncio.sleep(0)
    assert len(set(os.listdir("/proc/self/fd")) - before) == 0


async def test_a_wish_that_hangs_does_not_hold_up_the_stop() -> None:
    """The engine never answers: after the farewell time the request is cancelled, quietly."""
    async with plant() as one:
        forever = asyncio.Event()

        async def ask(_: object) -> tuple[()]:
            one.engine.wishes.append(None)  # type: ignore[arg-type]
            await forever.wait()
            return ()

        one.engine.ask = ask  # type: ignore[method-assign, assignment]
        asking = asyncio.create_task(one.client.post("/v1/drain"))
        await async_eventually(lambda: one.engine.wishes)
        await asyncio.wait_for(one.server.stop(), 60)
        with pytest.raises(httpx.RemoteProtocolError):
            await asking


async def test_the_listener_can_be_fixed_to_a_port(directory: Path) -> None:
    """The address that is listened on is the one that was asked for."""
    port = free_port()
    server = ControlServer(StubEngine(plan()), unix=directory / "s", http=("127.0.0.1", port))
    await server.start()
    assert server.http_address == ("127.0.0.1", port)
    await server.stop()
