"""Who is at the other end of a connection, and whether it may operate.

On the unix socket the kernel says so (SO_PEERCRED, SO_PEERGROUPS: the identity at the time of
connect(2), socket(7)); nothing that a client writes is believed. A TCP peer is nobody. What a right
allows is in `routes`.
"""

import grp
import os
import pwd
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_SO_PEERGROUPS = 59
"""asm-generic/socket.h; Linux 4.13. Python has no name for it."""

_CREDENTIALS = struct.Struct("iII")
_NAMES_KEPT = 256


@dataclass(frozen=True, slots=True)
class Peer:
    """A process on the unix socket, or (`local` false) somebody on TCP."""

    local: bool
    pid: int = 0
    uid: int = -1
    gid: int = -1
    groups: frozenset[int] = frozenset()


NOBODY = Peer(local=False)


class _Socket(Protocol):
    """What is needed of a socket; asyncio hands out a wrapper with these."""

    @property
    def family(self) -> int: ...

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes: ...


def peer_of(connection: _Socket) -> Peer:
    """The peer of a connected socket. A TCP peer, and one whose credentials cannot be read, is nobody."""
    if connection.family != socket.AF_UNIX:
        return NOBODY
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except OSError:
        return NOBODY
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    return Peer(True, pid, uid, gid, frozenset((gid, *_groups(connection, uid, gid))))


def _groups(connection: _Socket, uid: int, gid: int) -> tuple[int, ...]:
    try:
        # 1024 bytes is the most that Python reads here: 256 groups.
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 1024)
        return struct.unpack(f"{len(raw) // 4}I", raw)
    except OSError:
        try:
            return tuple(os.getgrouplist(pwd.getpwuid(uid).pw_name, gid))
        except (KeyError, OSError):
            return ()


class Gatekeeper:
    """Decides who may operate: root, the daemon's own user, and members of the socket file's group."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._own_uid = os.geteuid()
        self._names: dict[int, str] = {}

    def may_operate(self, peer: Peer) -> bool:
        """Whether this peer may read and wish."""
        if not peer.local:
            return False
        if peer.uid in {0, self._own_uid}:
            return True
        try:
            # Read anew each time: an administrator may give the socket to another group at any moment.
            return os.stat(self._path).st_gid in peer.groups
        except OSError:
            return False

    def principal(self, peer: Peer) -> str:
        """The peer as operations and logs name it: "uid=1000(shop) pid=123"."""
        if not peer.local:
            return "tcp"
        name = self._name(peer.uid)
        return f"uid={peer.uid}({name}) pid={peer.pid}" if name else f"uid={peer.uid} pid={peer.pid}"

    def group(self) -> str:
        """The group whose members may operate, for hints."""
        try:
            gid = os.stat(self._path).st_gid
        except OSError:
            return "that owns the socket"
        try:
            return grp.getgrgid(gid).gr_name
        except KeyError:
            return str(gid)

    def _name(self, uid: int) -> str:
        if uid not in self._names:
            if len(self._names) >= _NAMES_KEPT:
                self._names.clear()
            try:
                self._names[uid] = pwd.getpwuid(uid).pw_name
            except KeyError:
                self._names[uid] = ""
        return self._names[uid]
