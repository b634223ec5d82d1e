"""The sockets that the control plane listens on, made so that they are never wider than they should be.

The unix socket is bound under another name, given its mode, made to listen, and only then renamed
to its place: a client sees either no socket or a whole one, and a stale one is replaced without a gap.
The socket of a living daemon is never touched. Nothing here knows what is spoken on the sockets.
"""

import contextlib
import errno
import os
import socket
import stat
from pathlib import Path

BACKLOG = 128

_LONGEST_PATH = 107
"""sockaddr_un has 108 bytes with the final NUL, unix(7)."""

_BINDING_SUFFIX_BYTES = len(".new")


class ControlError(Exception):
    """The control plane cannot be served; the message says why and what to do."""


def bind_unix(path: Path, mode: int) -> socket.socket:
    """A listening unix socket at `path`, in place of a stale one; raises `ControlError`."""
    if len(os.fsencode(path)) + _BINDING_SUFFIX_BYTES > _LONGEST_PATH:
        most = _LONGEST_PATH - _BINDING_SUFFIX_BYTES
        raise ControlError(
            f"cannot listen on {path}: the path is longer than the {most} bytes a socket may have"
        )
    _prepare_directory(path)
    _check_vacant(path)
    binding = path.with_name(path.name + ".new")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        with contextlib.suppress(FileNotFoundError):
            binding.unlink()
        previous = os.umask(0o777 & ~mode)
        try:
            listener.bind(str(binding))
        finally:
            os.umask(previous)
        os.chmod(binding, mode)
        listener.listen(BACKLOG)
        os.rename(binding, path)
    except OSError as error:
        listener.close()
        with contextlib.suppress(OSError):
            binding.unlink()
        raise ControlError(f"cannot listen on {path}: {_reason(error)}") from error
    return listener


def _prepare_directory(path: Path) -> None:
    directory = path.parent
    try:
        if not directory.exists():
            directory.mkdir(parents=True)
            # Who may use the socket is decided by the socket's own mode.
            os.chmod(directory, 0o755)  # noqa: S103
    except OSError as error:
        raise ControlError(f"cannot make the directory {directory}: {_reason(error)}") from error
    if not directory.is_dir():
        raise ControlError(f"cannot listen on {path}: {directory} is not a directory")


def _check_vacant(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise ControlError(
                f"cannot listen on {path}: a file that is not a socket is in its place; remove it"
            )
    except FileNotFoundError:
        return
    except OSError as error:
        raise ControlError(f"cannot listen on {path}: {_reason(error)}") from error
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        try:
            client.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            # Nobody listens: it was left behind by a daemon that did not end well.
            return
        except BlockingIOError:
            # Its backlog is full: somebody listens who is busy.
            pass
        except OSError as error:
            raise ControlError(
                f"cannot listen on {path}: cannot tell whether a daemon answers on it: {_reason(error)}"
            ) from error
    raise ControlError(f"cannot listen on {path}: another pitbossd answers on it; stop that one first")


def bind_tcp(host: str, port: int) -> socket.socket:
    """A listening TCP socket; a name with several addresses is bound to its first IPv4 one, if any.

    Raises `ControlError`.
    """
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ControlError(f"cannot listen on {where}: {_reason(error)}") from error
    family, _, _, _, address = min(found, key=lambda one: one[0] is not socket.AF_INET)
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        reason = "the port is in use" if error.errno == errno.EADDRINUSE else _reason(error)
        raise ControlError(f"cannot listen on {where}: {reason}") from error
    return listener


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error)).lower()
