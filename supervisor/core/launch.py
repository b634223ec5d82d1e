"""What one generation of an instance looks like to the machine; the core carries it and never reads it.

The manifest renders a `Launch` for an instance and a generation; the runtime turns it into a process,
probes and log files. Every string here is final: no template and no `~` is left in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a worker runs as. Supplementary `groups` are complete: exactly these are set."""

    user: str
    uid: int
    gid: int
    groups: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class HttpCheck:
    """An HTTP request; 200-399 passes. `unix_socket` replaces the host's address if set."""

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    unix_socket: str | None = None


@dataclass(frozen=True, slots=True)
class TcpCheck:
    """A TCP connection that must be accepted."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class ExecCheck:
    """A command, run as the worker's user in its directory and environment; exit code 0 passes."""

    argv: tuple[str, ...]


CheckTarget = HttpCheck | TcpCheck | ExecCheck


class LogFormat(StrEnum):
    """How captured output is written: as it came, or a line at a time with its time."""

    RAW = "raw"
    TIMESTAMP = "timestamp"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class LogPolicy:
    """Where output goes. A file rotates at `max_bytes`; `keep` old ones are kept.

    `rate_limit_bytes` is bytes per second; more is dropped and counted. `directory` None captures
    only the tail in memory.
    """

    directory: str | None
    max_bytes: int = 50 * 1024 * 1024
    keep: int = 5
    format: LogFormat = LogFormat.RAW
    rate_limit_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class TcpListen:
    """A numeric address and a port to listen on."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixListen:
    """A path to listen on; `owner` is (uid, gid), None for the daemon's own."""

    path: str
    mode: int = 0o660
    owner: tuple[int, int] | None = None

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class ListenSocket:
    """A listening socket that a worker is handed, and the name that it knows it by.

    Sockets with the same address (as text) are one socket, whoever is handed it.
    """

    name: str
    address: TcpListen | UnixListen
    backlog: int = 4096


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything needed to start one generation, and to probe and drain it."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    """Complete, except what only the runtime knows (NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID)."""
    working_directory: str
    logs: LogPolicy
    identity: Identity | None = None
    """None: the daemon's own."""
    umask: int | None = None
    nice: int | None = None
    oom_score_adjust: int | None = None
    limits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Resource limits by their `resource` name without prefix ("NOFILE"): (soft, hard); -1: unlimited."""
    watchdog_seconds: float | None = None
    readiness: CheckTarget | None = None
    liveness: CheckTarget | None = None
    drain: CheckTarget | None = None
    until: CheckTarget | None = None
    sockets: tuple[ListenSocket, ...] = ()
    """What the main process inherits, from descriptor 3 on in this order."""
