"""Make the sockets on which workers speak, and take datagrams from them.

Decides what a socket's path is, who may reach it, and what of a datagram is real: its credentials come
from the kernel, and its descriptors are ours to close. Whose datagrams count is decided in `notify`.
"""

import array
import errno
import hashlib
import os
import re
import socket
import stat
import struct
from typing import NamedTuple

from supervisor.core.identity import InstanceId
from supervisor.runtime.notify_protocol import MAX_PAYLOAD_BYTES

MAX_PATH_BYTES = 107
"""sun_path has 108 bytes (unix(7)), and one of them is the final NUL."""

DIRECTORY_MODE = 0o711
"""Workers of any user reach their own socket by its path; only the daemon may list, add or remove."""

_CREDENTIALS = struct.Struct("3i")
_MAX_DESCRIPTORS = 253
"""SCM_MAX_FD: what the kernel lets one message carry."""

_ANCILLARY_BYTES = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(_MAX_DESCRIPTORS * 4)
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class NotifySocketError(OSError):
    """A notify socket cannot be made; the message says which and why."""


class Datagram(NamedTuple):
    """One datagram as it came. `pid` is 0 if the sender is unknown; `descriptors` are ours to close."""

    payload: bytes
    truncated: bool
    pid: int
    uid: int
    descriptors: list[int]


def receive(endpoint: socket.socket) -> Datagram | None:
    """The next datagram, or None if none is waiting. Descriptors of a truncated one are closed here."""
    try:
        payload, ancillary, flags, _ = endpoint.recvmsg(
            MAX_PAYLOAD_BYTES, _ANCILLARY_BYTES, socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
        )
    except OSError:
        return None
    pid = uid = 0
    descriptors: list[int] = []
    for level, kind, data in ancillary:
        if level != socket.SOL_SOCKET:
            continue
        if kind == socket.SCM_CREDENTIALS and len(data) >= _CREDENTIALS.size:
            pid, uid, _ = _CREDENTIALS.unpack_from(data)
        elif kind == socket.SCM_RIGHTS:
            numbers = array.array("i")
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
            descriptors.extend(numbers)
    truncated = bool(flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC))
    if truncated:
        for descriptor in descriptors:
            os.close(descriptor)
        descriptors = []
    return Datagram(payload, truncated, pid, uid, descriptors)


def prepare_directory(directory: str) -> None:
    """Make the directory of the sockets.

    Raises NotifySocketError if it cannot be made, or is not a directory of our own.
    """
    try:
        os.makedirs(directory, mode=DIRECTORY_MODE, exist_ok=True)
        found = os.lstat(directory)
        usable = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
        if usable:
            os.chmod(directory, DIRECTORY_MODE)
    except OSError as error:
        raise NotifySocketError(f"cannot keep notify sockets in {directory}: {reason_of(error)}") from error
    if not usable:
        raise NotifySocketError(
            f"cannot keep notify sockets in {directory}: it is not a directory of user {os.geteuid()}"
        )


def socket_path(directory: str, instance: InstanceId) -> str:
    """Where the socket of an instance is: the same place in the next life of the daemon.

    A name that a person can read where it fits, else a digest. Raises NotifySocketError if not even
    that fits.
    """
    name = f"{instance.pool}-{instance.index}"
    path = os.path.join(directory, name)
    if not _PLAIN_NAME.fullmatch(name) or len(os.fsencode(path)) > MAX_PATH_BYTES:
        # A tilde begins no plain name.
        path = os.path.join(directory, "~" + hashlib.blake2b(name.encode(), digest_size=8).hexdigest())
    length = len(os.fsencode(path))
    if length > MAX_PATH_BYTES:
        raise NotifySocketError(
            f"cannot bind {path}: it has {length} bytes and a unix socket's path at most {MAX_PATH_BYTES};"
            " choose a shorter runtime_directory"
        )
    return path


def bind(path: str) -> socket.socket:
    """A socket at this path that only its owner may write to. Replaces what is there."""
    endpoint = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        # Linux gives the path the mode of the unbound socket, so that it is never open to others.
        os.fchmod(endpoint.fileno(), 0o600)
        try:
            endpoint.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            os.unlink(path)
            endpoint.bind(path)
    except OSError as error:
        endpoint.close()
        raise NotifySocketError(f"cannot bind {path}: {reason_of(error)}") from error
    return endpoint


def reason_of(error: OSError) -> str:
    """The kernel's reason, as it ends a sentence."""
    return (error.strerror or str(error)).lower()
