"""What pools listen on: from what was written to the sockets of each instance, and whose they are.

Decides that no two pools, and not the control plane either, want the same address. Nothing is opened
here: whether an address can be had is found out when the daemon starts.
"""

import ipaddress
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from supervisor.core.launch import Identity, TcpListen, UnixListen
from supervisor.manifest.draft import PoolDraft
from supervisor.manifest.loaded import ControlSettings
from supervisor.manifest.machine import AccountError, Machine
from supervisor.manifest.problems import Problems, dotted, quoted
from supervisor.manifest.socket_template import SocketTemplate
from supervisor.manifest.templates import LATE_GENERATION, Scope, parse

DEFAULT_MODE = 0o660
_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - to recognise them


def sockets_of(
    pool: PoolDraft, identity: Identity | None, directory: str, machine: Machine, problems: Problems
) -> tuple[SocketTemplate, ...]:
    """The sockets that a pool asks for; what makes no sense within one of them is added to the problems."""
    found: list[SocketTemplate] = []
    if "sockets" in pool.broken:
        return ()
    names: set[str] = set()
    own = None if identity is None else (identity.uid, identity.gid)
    for number, block in enumerate(pool.settings.sockets):
        complain = _Complainer(pool, number, problems)
        if block.name in names:
            complain("name", f"expected a name of its own, found {quoted(block.name)} twice in this pool")
        names.add(block.name)
        if not block.listen.startswith("unix:"):
            for key in ("mode", "owner"):
                if getattr(block, key) is not None:
                    complain(key, f"expected {key} beside a unix socket only, found it beside a TCP address")
        owner = own
        if block.owner is not None:
            user, _, group = block.owner.partition(":")
            try:
                owner = machine.owner(user, group or None)
            except AccountError as error:
                complain("owner", error.message)
        mode = DEFAULT_MODE if block.mode is None else block.mode
        template = parse(block.listen)
        found.append(SocketTemplate(block.name, template, directory, block.backlog, mode, owner))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Complainer:
    """Adds problems about one socket of a pool."""

    pool: PoolDraft
    number: int
    problems: Problems

    def __call__(self, key: str, message: str) -> None:
        path = ("sockets", self.number, key)
        self.problems.add(self.pool.place_of(*path), dotted(("pools", self.pool.name, *path)), message)


@dataclass(slots=True)
class Claims:
    """Who has which address. An address is had once; a wildcard has its port on every address."""

    problems: Problems
    _paths: dict[str, str] = field(default_factory=dict)
    _ports: dict[tuple[int, int], dict[str, str]] = field(default_factory=dict)

    def reserve(self, control: ControlSettings) -> None:
        """Keep what the control plane listens on for it."""
        self._claim("control.unix", UnixListen(str(control.unix)))
        host, port = control.http or ("", 0)
        with suppress(ValueError):
            address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
            self._claim("control.http", TcpListen(str(address), port))

    def check(self, pool: PoolDraft, sockets: tuple[SocketTemplate, ...]) -> None:
        """Claim what the instances of a pool listen on; add what is wrong or had by somebody else."""
        for number, socket in enumerate(sockets):
            key = dotted(("pools", pool.name, "sockets", number))
            for message in self._troubles(pool, socket, key):
                _Complainer(pool, number, self.problems)("listen", message)
                break

    def _troubles(self, pool: PoolDraft, socket: SocketTemplate, key: str) -> Iterator[str]:
        instances = pool.settings.instances + pool.settings.rollout.max_surge
        for index in range(1 if socket.listen.constant else max(1, instances)):
            scope = Scope(pool.name, index, 1)
            written = socket.listen.render(scope)
            if socket.listen.render(Scope(pool.name, index, LATE_GENERATION)) != written:
                yield "expected an address without generation (a socket outlives every generation)"
            try:
                address = socket.at(scope).address
            except ValueError as error:
                yield f"{error}, found {quoted(written)} for {scope.instance}"
                return
            other = self._claim(key, address)
            if other is not None:
                yield f"expected an address that nobody else has, found {address}, which {other} has too"

    def _claim(self, key: str, address: TcpListen | UnixListen) -> str | None:
        """Whoever has the address already, or None: then it is taken."""
        if isinstance(address, UnixListen):
            holder = self._paths.setdefault(address.path, key)
            return None if holder == key else holder
        version = ipaddress.ip_address(address.host).version
        holders = self._ports.setdefault((version, address.port), {})
        wanted = holders if address.host in _WILDCARDS else {address.host, *_WILDCARDS} & holders.keys()
        other = next((holders[host] for host in wanted if holders[host] != key), None)
        if other is None:
            holders.setdefault(address.host, key)
        return other
