"""Open the sockets that workers are handed, keep them over every restart, and put them away at the end.

Decides how an address becomes a listening socket and what may stand in its place. Who is handed which
socket is written in a `Launch`; how a worker gets it is the business of `children`.

They are handed over as systemd does it (systemd.socket(5)): blocking, and with nothing asked of TCP but
SO_REUSEADDR. The mode is part of the socket and not of a descriptor, so whoever changes it does so for
every worker that has the socket; the daemon itself never accepts.
"""

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from supervisor.core.launch import ListenSocket, TcpListen, UnixListen

_ADVICE = {
    errno.EADDRINUSE: "it is in use; stop whoever listens there, or choose another one",
    errno.EADDRNOTAVAIL: "this machine has no such address; correct it, or wait for the network (systemd: "
    "After=network-online.target)",
    errno.EMFILE: "the daemon has no descriptor left; raise its limit (ulimit -n)",
}
_DENIED_PORT = "permission denied; a port below 1024 needs root or CAP_NET_BIND_SERVICE"


class SocketsError(OSError):
    """Sockets that cannot be had. `reasons` has a whole line for each; none was opened."""

    def __init__(self, *reasons: str) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


@dataclass(frozen=True, slots=True)
class _Open:
    """A listening socket, and for one with a path which file that is: (device, inode)."""

    socket: socket.socket
    path: str | None = None
    file: tuple[int, int] | None = None

    def close(self) -> None:
        """Close it, and remove its file unless something else stands there by now."""
        self.socket.close()
        with contextlib.suppress(OSError):
            if self.path is not None and _file(os.lstat(self.path)) == self.file:
                os.unlink(self.path)


class ListenSockets:
    """All sockets that are open for workers, by address."""

    def __init__(self) -> None:
        self._open: dict[str, _Open] = {}

    def open(self, wanted: Iterable[ListenSocket]) -> None:
        """Open what is not open yet: everything, or nothing. Raises `SocketsError` with each that failed."""
        opened: dict[str, _Open] = {}
        reasons: list[str] = []
        for one in wanted:
            address = str(one.address)
            if address in self._open or address in opened:
                continue
            try:
                opened[address] = _listen(one)
            except OSError as error:
                reasons.append(f"cannot listen on {address}: {_reason(error, one)}")
        if reasons:
            for failed in opened.values():
                failed.close()
            raise SocketsError(*reasons)
        self._open |= opened

    def descriptors(self, wanted: tuple[ListenSocket, ...]) -> tuple[int, ...]:
        """The descriptors to hand to a worker, in this order; they stay open here.

        A socket of an instance that did not exist at the start is opened now. Raises `SocketsError`.
        """
        self.open(wanted)
        return tuple(self._open[str(one.address)].socket.fileno() for one in wanted)

    def close(self) -> None:
        """Close everything, and remove the files of the sockets that are still ours."""
        while self._open:
            self._open.popitem()[1].close()


def _listen(wanted: ListenSocket) -> _Open:
    address = wanted.address
    if isinstance(address, TcpListen):
        return _Open(_listen_tcp(address, wanted.backlog))
    return _listen_unix(address, wanted.backlog)


def _listen_tcp(address: TcpListen, backlog: int) -> socket.socket:
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV | socket.AI_PASSIVE
    # Numeric, so nobody is asked: this only reads the number of an interface after a "%".
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=flags)
    family, _, _, _, target = found[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(target)
        listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
    return listener


def _listen_unix(address: UnixListen, backlog: int) -> _Open:
    path = Path(address.path)
    if not path.parent.exists():
        # Who may use the socket is decided by its own mode; systemd makes directories like this, too.
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    _make_room(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    opened = None
    try:
        # bind(2) gives the file the mode of the socket, less the umask: at no time is it wider than asked.
        os.fchmod(listener.fileno(), address.mode)
        listener.bind(address.path)
        opened = _Open(listener, address.path, _settle(address))
        listener.listen(backlog)
    except BaseException:
        (opened or listener).close()
        raise
    return opened


def _settle(address: UnixListen) -> tuple[int, int]:
    """Give the file its owner and its mode; which file it is.

    It is held by descriptor: whoever may write to the directory could put a link in its place.
    """
    descriptor = os.open(address.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISSOCK(found.st_mode):
            raise OSError("somebody else put something in its place")
        itself = f"/proc/self/fd/{descriptor}"
        if address.owner is not None and address.owner != (found.st_uid, found.st_gid):
            os.chown(itself, *address.owner)
        os.chmod(itself, address.mode)
        return _file(found)
    finally:
        os.close(descriptor)


def _make_room(path: Path) -> None:
    """Remove what a daemon that did not end well left behind; raise OSError if it is anything else."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError("a file that is not a socket is in its place; remove it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        try:
            client.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except BlockingIOError:
            # Its backlog is full: somebody listens who is busy.
            pass
        except OSError as error:
            raise OSError(f"cannot tell whether somebody listens there: {_text(error)}") from error
    raise OSError("somebody listens there already; stop that one first")


def _file(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _reason(error: OSError, wanted: ListenSocket) -> str:
    if error.errno == errno.EACCES and isinstance(wanted.address, TcpListen):
        return _DENIED_PORT
    if error.errno == errno.EPERM and isinstance(wanted.address, UnixListen) and wanted.address.owner:
        uid, gid = wanted.address.owner
        return f"cannot give it to user {uid} and group {gid}: pitbossd may not; run it as root"
    return _ADVICE.get(error.errno or 0, _text(error))


def _text(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
