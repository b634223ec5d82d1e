"""What every endpoint may reach, and the call it answers."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from supervisor.control.clock import WallClock
from supervisor.control.peers import Gatekeeper, Peer
from supervisor.control.port import EnginePort
from supervisor.control.problems import Problem, nearest, shown
from supervisor.control.render import Document, Renderer
from supervisor.control.replays import Replays
from supervisor.control.waiting import WaitingRoom
from supervisor.core.events import Scope
from supervisor.core.identity import InstanceId

REVISION_HEADER = "X-Pitboss-Revision"

Scrape = Callable[[bool], tuple[str, Iterator[bytes]]]
"""Given whether OpenMetrics is wanted: the content type and the text in pieces, some of them empty.

After each the loop may turn; only one such iterator is under way at a time.
"""


def no_metrics(_openmetrics: bool) -> tuple[str, Iterator[bytes]]:
    """The text of a control plane that nobody gave metrics."""
    return "text/plain; version=0.0.4; charset=utf-8", iter(())


class History(Protocol):
    """Operations of earlier lives of the daemon, in the shape of the API."""

    async def recent_operations(self, limit: int) -> Sequence[Mapping[str, object]]:
        """The latest ones, newest first."""

    async def past_operation(self, operation: str) -> Mapping[str, object] | None:
        """One of them."""


@dataclass(frozen=True, slots=True)
class Plane:
    """The control plane of one host."""

    engine: EnginePort
    renderer: Renderer
    waiting: WaitingRoom
    replays: Replays
    gatekeeper: Gatekeeper
    clock: WallClock
    metrics: Scrape
    live: Callable[[], bool]
    description: Callable[[], bytes]
    history: History | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One request, its peer and its id."""

    plane: Plane
    request: Request
    peer: Peer
    request_id: str

    @property
    def ended(self) -> asyncio.Event:
        """Set when the client has closed its side of the connection."""
        ended = self.request.scope["state"].get("ended")
        return ended if isinstance(ended, asyncio.Event) else asyncio.Event()

    def scope(self) -> Scope:
        """What the path is about; raises `Problem` if the host has no such pool or instance."""
        if "index" in self.request.path_params:
            return Scope(*self.instance())
        return Scope(self.pool()) if "pool" in self.request.path_params else Scope()

    def pool(self) -> str:
        """The pool of the path; raises `Problem` if there is none of that name."""
        host, pool = self.plane.engine.host, str(self.request.path_params["pool"])
        if pool not in host.pools:
            hint = nearest(pool, host.pools) or "GET /v1/pools lists the pools"
            raise Problem("unknown-pool", f'there is no pool "{shown(pool)}"', hint)
        return pool

    def instance(self) -> InstanceId:
        """The instance of the path; raises `Problem` if the pool has none of that index."""
        host, pool, index = self.plane.engine.host, self.pool(), str(self.request.path_params["index"])
        number = int(index) if index.isascii() and index.isdigit() and len(index) <= 9 else -1
        # No leading zeros: an instance has one name.
        if str(number) != index or InstanceId(pool, number) not in host.instances:
            declared = host.pools[pool].plan.instances
            hint = f"its instances are 0 to {declared - 1}" if declared else "it has no instances"
            raise Problem("unknown-instance", f'pool "{pool}" has no instance "{shown(index)}"', hint)
        return InstanceId(pool, number)


Endpoint = Callable[[Call], Awaitable[Response]]


def json_response(
    body: Mapping[str, object], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A response with a JSON body."""
    return Response(json.dumps(body).encode(), status, headers, "application/json")


def document_response(document: Document) -> Response:
    """A response with a rendered document; its revision is in a header too, for whoever polls with HEAD."""
    headers = {REVISION_HEADER: str(document.revision)}
    return Response(document.body, document.status, headers, "application/json")
