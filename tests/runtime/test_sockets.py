"""Listening sockets on real addresses: what is opened, what stands in the way, and what is left behind."""

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.core.launch import ListenSocket, TcpListen, UnixListen
from supervisor.runtime.sockets import ListenSockets, SocketsError
from tests.ports import free_port, free_ports_in_a_row

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may do this")


@pytest.fixture
def sockets() -> Iterator[ListenSockets]:
    """No sockets yet; all are closed afterwards."""
    made = ListenSockets()
    yield made
    made.close()


@pytest.fixture
def folder(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with a short path, because a socket's path is short."""
    import shutil
    import tempfile

    made = Path(tempfile.mkdtemp(prefix="pb-", dir="/tmp"))
    yield made
    shutil.rmtree(made)


def tcp(port: int, host: str = "127.0.0.1", name: str = "http", backlog: int = 10) -> ListenSocket:
    """A TCP socket that is asked for."""
    return ListenSocket(name, TcpListen(host, port), backlog)


def unix(path: Path, mode: int = 0o660, owner: tuple[int, int] | None = None) -> ListenSocket:
    """A unix socket that is asked for."""
    return ListenSocket("app", UnixListen(str(path), mode, owner))


def reasons(sockets: ListenSockets, *wanted: ListenSocket) -> tuple[str, ...]:
    """Why these cannot be opened."""
    with pytest.raises(SocketsError) as caught:
        sockets.open(wanted)
    assert str(caught.value) == "; ".join(caught.value.reasons)
    return caught.value.reasons


def test_tcp(sockets: ListenSockets) -> None:
    """It listens at once, blocking, close-on-exec in the daemon, and may be had again at once."""
    wanted = tcp(free_port())
    sockets.open([wanted])
    (descriptor,) = sockets.descriptors((wanted,))
    assert os.get_blocking(descriptor) and not os.get_inheritable(descriptor)
    held = socket.socket(fileno=os.dup(descriptor))
    assert held.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1
    with socket.create_connection(("127.0.0.1", wanted.address.port)):  # type: ignore[union-attr]
        accepted, _ = held.accept()
        accepted.close()
    held.close()
    sockets.close()
    # The closed connection is in TIME_WAIT; without SO_REUSEADDR the address would be in use.
    sockets.open([wanted])


def test_tcp_version_six_is_that_and_nothing_else(sockets: ListenSockets) -> None:
    """`[::]` and `0.0.0.0` are two sockets, on one port."""
    port = free_port("::1")
    sockets.open([tcp(port, "::"), tcp(port, "0.0.0.0")])
    for host in ("::1", "127.0.0.1"):
        socket.create_connection((host, port)).close()


def test_the_same_address_is_one_socket(sockets: ListenSockets) -> None:
    """However often it is asked for, and under which names."""
    port = free_port()
    sockets.open([tcp(port), tcp(port, name="other")])
    first, second = sockets.descriptors((tcp(port), tcp(port, name="third")))
    assert first == second


def test_a_socket_that_comes_late(sockets: ListenSockets) -> None:
    """What an instance needs that did not exist at the start is opened for it, and kept."""
    wanted = tcp(free_port())
    assert sockets.descriptors((wanted,)) == sockets.descriptors((wanted,))


def test_unix(sockets: ListenSockets, folder: Path) -> None:
    """Mode as asked whatever the umask is, a directory where none was, and gone at the end."""
    path = folder / "new" / "folder" / "app.sock"
    before = os.umask(0o077)
    try:
        sockets.open([unix(path, 0o666)])
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    sockets.close()
    assert not path.exists()


@needs_root
def test_the_owner(sockets: ListenSockets, folder: Path) -> None:
    """The socket is given to whoever it is for."""
    path = folder / "app.sock"
    sockets.open([unix(path, 0o600, (65534, 12345))])
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (65534, 12345, 0o600)


def test_a_stale_file_is_replaced(sockets: ListenSockets, folder: Path) -> None:
    """A predecessor that was killed leaves its file; nobody listens on it, so it makes room."""
    path = folder / "app.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    sockets.open([unix(path)])
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


@pytest.mark.parametrize("backlog", [0, 5])
def test_a_living_listener_is_left_alone(sockets: ListenSockets, folder: Path, backlog: int) -> None:
    """Somebody who listens keeps the path, also when too busy to answer."""
    path = folder / "app.sock"
    with socket.socket(socket.AF_UNIX) as alive, socket.socket(socket.AF_UNIX) as client:
        alive.bind(str(path))
        alive.listen(backlog)
        client.connect(str(path))
        assert reasons(sockets, unix(path)) == (
            f"cannot listen on unix:{path}: somebody listens there already; stop that one first",
        )
        assert path.is_socket()


def test_a_living_socket_of_another_kind(sockets: ListenSockets, folder: Path) -> None:
    """A datagram socket is not replaced either."""
    path = folder / "app.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        (reason,) = reasons(sockets, unix(path))
        assert "cannot tell whether somebody listens there" in reason
        assert path.is_socket()


@pytest.mark.parametrize("what", ["file", "directory", "link"])
def test_what_is_not_a_socket_is_never_removed(sockets: ListenSockets, folder: Path, what: str) -> None:
    """A file, a directory, or a link that leads to a socket: an error, and it stays as it was."""
    path = folder / "app.sock"
    if what == "file":
        path.write_text("precious")
    elif what == "directory":
        path.mkdir()
    else:
        path.symlink_to("elsewhere")
    assert reasons(sockets, unix(path)) == (
        f"cannot listen on unix:{path}: a file that is not a socket is in its place; remove it",
    )
    assert os.path.lexists(path)
    assert what != "file" or path.read_text() == "precious"


def test_only_our_own_file_is_removed(sockets: ListenSockets, folder: Path) -> None:
    """What somebody put in the place of our socket stays when we go."""
    path = folder / "app.sock"
    sockets.open([unix(path)])
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        sockets.close()
        assert path.is_socket()


def test_all_or_nothing(sockets: ListenSockets, folder: Path) -> None:
    """Each that fails is named, in order; what could have been opened is closed and removed again."""
    file = folder / "file"
    file.touch()
    # Not one that the kernel gives away: the next line, or a test beside this one, may be given it.
    good, port = folder / "good.sock", free_ports_in_a_row(1)
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        found = reasons(
            sockets, unix(good), tcp(port), tcp(taken), unix(file), unix(file / "x"), tcp(port, "192.0.2.1")
        )
    assert found[0] == (
        f"cannot listen on 127.0.0.1:{taken}: it is in use; stop whoever listens there, or choose another one"
    )
    assert found[1].endswith("a file that is not a socket is in its place; remove it")
    assert found[2] == f"cannot listen on unix:{file}/x: not a directory"
    assert found[3].startswith(f"cannot listen on 192.0.2.1:{port}: this machine has no such address")
    assert len(found) == 4
    assert not good.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_what_was_open_before_stays_open(sockets: ListenSockets, folder: Path) -> None:
    """A socket that cannot be had takes nothing from those who have theirs."""
    port, file = free_port(), folder / "file"
    file.touch()
    sockets.open([tcp(port)])
    with pytest.raises(SocketsError):
        sockets.descriptors((tcp(port), unix(file)))
    socket.create_connection(("127.0.0.1", port)).close()
