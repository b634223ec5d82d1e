"""One socket of a pool, before the address of an instance is filled in.

Decides what a written address means for one instance. Nothing is opened here, and who may have which
address is decided in `sockets`. It is part of what a running daemon holds: it knows no model.
"""

import os
from dataclasses import dataclass

from supervisor.core.launch import ListenSocket, TcpListen, UnixListen
from supervisor.manifest.addresses import SOCKET_PATH_BYTES, listen_address
from supervisor.manifest.templates import Scope, Template


@dataclass(frozen=True, slots=True)
class SocketTemplate:
    """One socket of a pool before its address is filled in; a relative path is taken from `directory`."""

    name: str
    listen: Template
    directory: str
    backlog: int
    mode: int
    owner: tuple[int, int] | None

    def at(self, scope: Scope) -> ListenSocket:
        """The socket of one instance. Raises `ValueError` where the address makes no sense for it."""
        found = listen_address(self.listen.render(scope))
        if not isinstance(found, str):
            return ListenSocket(self.name, TcpListen(*found), self.backlog)
        path = os.path.normpath(os.path.join(self.directory, found))
        if len(os.fsencode(path)) > SOCKET_PATH_BYTES:
            raise ValueError(f"expected a path of at most {SOCKET_PATH_BYTES} bytes")
        return ListenSocket(self.name, UnixListen(path, self.mode, self.owner), self.backlog)

    def shown(self, pool: str) -> str:
        """What an operator is shown: the address, or the template where each instance has its own."""
        return str(self.at(Scope(pool, 0, 1)).address) if self.listen.constant else self.listen.source
