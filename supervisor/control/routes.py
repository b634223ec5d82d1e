"""The one table of everything that can be reached over HTTP, with the access level beside each path.

What is not in it does not exist. Endpoints are named here and nowhere looked up by what a client
says. OPEN is served on every listener to everybody; READ and OPERATE only on the unix socket, to
those whom `peers` lets operate.
"""

from dataclasses import dataclass
from enum import StrEnum

from supervisor.control import reads, scraping, wishes
from supervisor.control.plane import Endpoint


class Access(StrEnum):
    """What a client must be allowed to do."""

    OPEN = "open"
    READ = "read"
    OPERATE = "operate"


@dataclass(frozen=True, slots=True)
class Row:
    """One route. HEAD goes where GET goes."""

    method: str
    path: str
    access: Access
    endpoint: Endpoint
    summary: str


_POOL = "/v1/pools/{pool}"
_INSTANCE = "/v1/pools/{pool}/instances/{index}"
_OPERATION = "/v1/operations/{operation}"
_OPEN, _READ, _OPERATE = Access.OPEN, Access.READ, Access.OPERATE

TABLE = (
    Row("GET", "/livez", _OPEN, reads.livez, "The daemon's loop turns."),
    Row(
        "GET",
        "/readyz",
        _OPEN,
        reads.readyz,
        "Every critical pool is at its goal; 503 with the reasons if not.",
    ),
    Row(
        "GET", "/health", _OPEN, reads.health, "How the host and each pool stand; the status follows /readyz."
    ),
    Row("GET", "/metrics", _OPEN, scraping.metrics, "Metrics for Prometheus, as text or as OpenMetrics."),
    Row("GET", "/openapi.json", _OPEN, reads.openapi, "This API, described in OpenAPI 3.1."),
    Row("GET", "/v1/status", _READ, reads.status, "The whole host: every pool and instance."),
    Row("GET", "/v1/pools", _READ, reads.pools, "Every pool with its instances."),
    Row("GET", _POOL, _READ, reads.pool, "One pool with its instances."),
    Row("GET", _INSTANCE, _READ, reads.instance, "One instance."),
    Row(
        "GET",
        "/v1/operations",
        _READ,
        reads.operations,
        "The latest 200 operations, newest first, without steps.",
    ),
    Row("GET", _OPERATION, _READ, reads.operation, "One operation with its steps; ?wait= until it is over."),
    Row("POST", "/v1/drain", _OPERATE, wishes.drain, "Drain every pool."),
    Row("POST", "/v1/resume", _OPERATE, wishes.resume, "Bring every pool up again after a drain or a stop."),
    Row("POST", "/v1/restart", _OPERATE, wishes.restart, "Restart every pool, rolling."),
    Row("POST", "/v1/stop", _OPERATE, wishes.stop, "Stop every pool; the daemon stays."),
    Row("POST", "/v1/start", _OPERATE, wishes.start, "Start every stopped pool."),
    Row("POST", "/v1/shutdown", _OPERATE, wishes.shutdown, "Stop every pool in order and end the daemon."),
    Row("POST", _POOL + "/drain", _OPERATE, wishes.drain, "Let a pool finish what it holds; it stays away."),
    Row("POST", _POOL + "/resume", _OPERATE, wishes.resume, "Bring a pool up again after a drain or a stop."),
    Row("POST", _POOL + "/restart", _OPERATE, wishes.restart, "Replace a pool's processes, a few at a time."),
    Row("POST", _POOL + "/stop", _OPERATE, wishes.stop, "Stop a pool; it stays down."),
    Row("POST", _POOL + "/start", _OPERATE, wishes.start, "Start a stopped pool, or end its backoff."),
    Row("POST", _POOL + "/signal", _OPERATE, wishes.signal, "Send a signal to every instance of a pool."),
    Row("POST", _INSTANCE + "/drain", _OPERATE, wishes.drain, "Let an instance finish what it holds."),
    Row("POST", _INSTANCE + "/resume", _OPERATE, wishes.resume, "Bring an instance up again."),
    Row("POST", _INSTANCE + "/restart", _OPERATE, wishes.restart, "Replace the process of an instance."),
    Row("POST", _INSTANCE + "/stop", _OPERATE, wishes.stop, "Stop an instance; it stays down."),
    Row(
        "POST", _INSTANCE + "/start", _OPERATE, wishes.start, "Start a stopped instance, or end its backoff."
    ),
    Row("POST", _INSTANCE + "/signal", _OPERATE, wishes.signal, "Send a signal to an instance."),
    Row("POST", _OPERATION + "/abort", _OPERATE, wishes.abort, "Leave a rollout where it is."),
    Row("POST", _OPERATION + "/pause", _OPERATE, wishes.pause, "Begin no new turn of a rollout."),
    Row("POST", _OPERATION + "/resume", _OPERATE, wishes.unpause, "Go on with a paused rollout."),
)
