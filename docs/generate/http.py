"""The HTTP reference: routes, bodies, problem kinds and bounds, from the code that serves them."""

from supervisor.control.bodies import MAX_DEADLINE_SECONDS, MAX_WAIT_SECONDS
from supervisor.control.clock import WallClock
from supervisor.control.problems import KINDS
from supervisor.control.protocol import Limits
from supervisor.control.reads import DEFAULT_WAIT_SECONDS, LISTED_OPERATIONS
from supervisor.control.replays import KEPT_KEYS
from supervisor.control.routes import TABLE
from supervisor.control.shapes import (
    exit_shape,
    host_shape,
    instance_shape,
    operation_shape,
    pool_shape,
    rollout_shape,
    shutdown_shape,
    steps_shape,
)
from supervisor.control.waiting import PLACES
from supervisor.core.events import Scope
from supervisor.core.exits import ExitClass, ExitRecord
from supervisor.core.health import pool_health
from supervisor.core.identity import InstanceId
from supervisor.core.plan import HostPlan, PoolPlan
from supervisor.core.state import Operation, OperationState, Rollout, Shutdown, StepState, create

_INTRODUCTION = """\
# HTTP reference

`pitbossd` serves HTTP/1.1 and JSON on a unix socket and, if the manifest has `control.http`, on TCP.
`pitbossctl` uses nothing else: whatever it does, `curl` can do. `GET /openapi.json` describes all of it for
programs, in OpenAPI 3.1.

```console
$ curl --unix-socket /run/pitboss/control.sock http://pitboss/v1/status
$ curl --unix-socket /run/pitboss/control.sock -X POST http://pitboss/v1/pools/emails/drain
$ curl --unix-socket /run/pitboss/control.sock -H 'Content-Type: application/json' \\
    -d '{"urgency": "now"}' http://pitboss/v1/pools/emails/instances/2/stop
```

## Who may do what

On the **unix socket** the kernel says who the peer is, and nothing that a client sends is believed about
that. Root, the daemon's own user, and the members of the group that owns the socket file may read and
operate; everybody else is refused (`not-permitted`). The socket is `0660` from the moment it exists; give
it to a group with `chgrp` to let that group operate.

On **TCP** only the routes with access *open* exist; every other path is refused with `not-permitted`. The
`Host` header must name the listener: a loopback name, the address that the connection came in on, or the
system's host name (`host-not-allowed`). A request with an `Origin` header comes from a web page; none may
wish anything, on any listener.
"""

_AFTER_ROUTES = """\
`HEAD` is answered wherever `GET` is. Every other method is refused with `method-not-allowed` and an `Allow`
header.

## Reading

Documents about the host carry its `revision`, which grows with every visible change, in the body and in the
header `X-Pitboss-Revision`. With `?after=REVISION` the answer waits until the revision is greater, for
`?wait=SECONDS` (default {default_wait:g}, at most {most_wait:g}). A revision greater than the current one
is from an earlier life of the daemon and is answered at once. `GET /v1/operations/{{operation}}?wait=30`
waits until the operation is over. At most {places} requests wait at a time; further ones are answered at
once with what there is.

`ready` and `/readyz` look at the pools that are `critical`; `/health` shows all. `status` of `/health` is
`healthy`, `degraded` (only pools that are not critical are unwell), `unhealthy` or `shutting-down`. All
ages and times left are seconds with one decimal; `null` means that there is no such moment.

{objects}

`GET /v1/operations` lists the latest {listed} without steps, also those of earlier lives of the daemon,
which keep only the steps that did not simply succeed. An operation that was under way when the daemon ended
is `aborted`.

## Wishing

A wish is answered `202` with an operation and its `Location` as soon as it is taken; the operation says how
it goes. Repeating a wish while its operation is under way changes nothing and returns the same operation.
With an `Idempotency-Key` (1 to 128 visible characters; the latest {keys} are remembered until the daemon
ends) that holds after its end as well. If the goal could not be written to the journal, the answer has a
`warning`: the wish holds, but not over a restart of the daemon.

Bodies are JSON objects and optional. An unknown field is refused.

| wish | fields |
|---|---|
| `stop` | `urgency`: `normal` (the whole ladder), `now` (no drain), `kill` (the last rung) |
| `restart` | `only_failed`: true for only the instances that have failed |
| `drain` | `deadline_seconds`: windows are scaled to fit; 0 to {most_deadline:g} |
| `signal` | `signal`: required, for example `SIGUSR1`; `target`: `main` (default) or `all` |
| `shutdown` | `urgency`; `deadline_seconds` instead of the manifest's |
| others | none |

`X-Request-ID` (1 to 64 of `A-Z a-z 0-9 . _ -`) is taken over, or made; it is in every answer, in the
operation, and in the log lines that belong to it.

## Problems

A failure is `application/problem+json` (RFC 9457) with `kind`, `detail`, `hint` and `request_id`. The kinds
are a closed list.
"""

_BOUNDS = """\
## Bounds

| what | bound | beyond it |
|---|---|---|
| request line and headers | {head} KiB | `headers-too-large`, closed |
| body | {body} KiB | `too-large`, closed |
| time for a request to arrive | {arrival:g} s | `timeout`, closed |
| time between requests of a connection | {idle:g} s | closed |
| time for a client to read an answer | {stall:g} s | closed |
| connections of a listener | {connections} | closed at once |

Requests are not pipelined: one that arrives before the answer to the one before it is not served, and the
connection is closed after that answer.
"""


def _objects() -> str:
    """The fields of each object, from the functions that make them."""
    one = PoolPlan("emails")
    host = create(HostPlan("shop", {"emails": one}))
    record = ExitRecord(1, ExitClass.CLEAN, "exit 0", 0.0, 0.0)
    operation = Operation("x", "drain", Scope("emails"), OperationState.RUNNING, 0, 0, 0.0)
    rollout = Rollout("x", (), {}, progress_by=0.0, wake_at=0.0)
    shapes = {
        "host": [*host_shape(host, (), "", 0.0, 0.0), "pools"],
        "shutdown of the host, or null": shutdown_shape(Shutdown(0.0, 0.0, 1.0, {}, "x"), 0.0),
        "pool": [*pool_shape(host.pools["emails"], pool_health(host, "emails")), "instances"],
        "rollout of a pool, or null": rollout_shape(rollout),
        "instance": instance_shape(host.instances[InstanceId("emails", 0)]),
        "last_exit of an instance, or null": exit_shape(record),
        "operation": [*operation_shape(operation, WallClock(lambda: 0.0)), "steps"],
        "step of an operation": steps_shape({InstanceId("emails", 0): StepState("waiting")})[0],
    }
    rows = [f"| {name} | {' '.join(f'`{field}`' for field in shape)} |" for name, shape in shapes.items()]
    return "\n".join(["| object | fields |", "|---|---|", *rows])


def render() -> str:
    """The whole page."""
    limits = Limits()
    parts = [
        _INTRODUCTION,
        "## Routes\n",
        "| method | path | access | what |",
        "|---|---|---|---|",
        *(f"| {row.method} | `{row.path}` | {row.access} | {row.summary} |" for row in TABLE),
        "",
        _AFTER_ROUTES.format(
            default_wait=DEFAULT_WAIT_SECONDS,
            most_wait=MAX_WAIT_SECONDS,
            most_deadline=MAX_DEADLINE_SECONDS,
            places=PLACES,
            listed=LISTED_OPERATIONS,
            keys=KEPT_KEYS,
            objects=_objects(),
        ),
        "| kind | status | when |",
        "|---|---|---|",
        *(f"| `{name}` | {kind.status} | {kind.meaning} |" for name, kind in KINDS.items()),
        "",
        _BOUNDS.format(
            head=limits.head_bytes // 1024,
            body=limits.body_bytes // 1024,
            arrival=limits.arrival_seconds,
            idle=limits.idle_seconds,
            stall=limits.stall_seconds,
            connections=limits.connections,
        ),
    ]
    return "\n".join(parts)


OUTPUTS = {"docs/reference/http.md": render}
