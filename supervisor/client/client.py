"""A client of the daemon's HTTP API: one method per route, plain dictionaries back, exceptions for failures.

```python
from supervisor.client.client import Client

with Client.connect() as pitboss:
    operation = pitboss.drain("emails")
    operation = pitboss.wait_for_operation(operation["id"], timeout_seconds=120)
    print(operation["state"])
```

It decides how a request travels and what an answer means, never what to ask for. It is blocking, and
safe to use from several threads. A request is never repeated by itself.
"""

import json
import time
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import quote

import httpx

from supervisor import __version__
from supervisor.client.address import CONNECT_TIMEOUT_SECONDS, Address, locate
from supervisor.client.errors import ClientError, NotPermitted, Problem, Unreachable
from supervisor.client.shapes import (
    FINAL_STATES,
    Health,
    HostStatus,
    InstanceStatus,
    Operation,
    Operations,
    PoolsStatus,
    PoolStatus,
    Readiness,
)
from supervisor.client.token import read_token

TIMEOUT_SECONDS = 10.0
"""How long an answer may take that needs no waiting on the daemon's side."""
LONGEST_WAIT_SECONDS = 60.0
"""The longest wait of one long poll; the daemon refuses to be held longer."""
LARGEST_ANSWER_BYTES = 64 * 1024 * 1024
"""A status of 10 000 instances is about 10 MiB; whatever sends more is no pitbossd."""


class Client:
    """A connection to one daemon. Use it as a context manager, or call `close`."""

    def __init__(
        self, address: Address, *, token: str | None = None, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        """Talk to `address`; nothing is sent yet. `token` is a bearer token for a daemon behind TCP."""
        self.address = address
        self.timeout_seconds = timeout_seconds
        headers = {"User-Agent": f"pitboss-client/{__version__}", "Accept": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        self._http = httpx.Client(
            # Proxies of the environment are for the web; a token must not travel through one by accident.
            transport=httpx.HTTPTransport(uds=address.socket, trust_env=False),
            base_url=address.url or "http://localhost",
            headers=headers,
            trust_env=False,
            follow_redirects=False,
        )

    @classmethod
    def connect(
        cls,
        socket: str | None = None,
        url: str | None = None,
        token_file: str | None = None,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> Self:
        """Find the daemon and make a client for it.

        Without arguments: `PITBOSS_SOCKET` or `PITBOSS_URL` (with `PITBOSS_TOKEN_FILE`), then the usual
        sockets. Raises `Unreachable` with every place that was tried, or `NotPermitted`.
        """
        address = locate(socket, url)
        token = read_token(token_file) if address.url else None
        return cls(address, token=token, timeout_seconds=timeout_seconds)

    def close(self) -> None:
        """Hang up."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Reading: `after` and `wait_seconds` make a long poll that returns as soon as the revision is newer.

    def status(self, *, after: int | None = None, wait_seconds: float = 0) -> HostStatus:
        """The whole host."""
        return cast("HostStatus", self._get("/v1/status", after, wait_seconds))

    def pools(self, *, after: int | None = None, wait_seconds: float = 0) -> PoolsStatus:
        """Every pool with its instances."""
        return cast("PoolsStatus", self._get("/v1/pools", after, wait_seconds))

    def pool(self, name: str, *, after: int | None = None, wait_seconds: float = 0) -> PoolStatus:
        """One pool. Raises `Problem` of kind "unknown-pool"."""
        return cast("PoolStatus", self._get(_path(name), after, wait_seconds))

    def instance(self, name: str, *, after: int | None = None, wait_seconds: float = 0) -> InstanceStatus:
        """One instance, by a name such as "emails/2". Raises `Problem` of kind "unknown-instance"."""
        return cast("InstanceStatus", self._get(_path(name), after, wait_seconds))

    def operations(self) -> Operations:
        """The operations the daemon remembers, newest first, without their steps."""
        return cast("Operations", self._get("/v1/operations"))

    def operation(self, operation_id: str, *, wait_seconds: float = 0) -> Operation:
        """One operation; with `wait_seconds` (at most 60) as soon as it is final."""
        path = f"/v1/operations/{_segment(operation_id, 'operation')}"
        return cast("Operation", self._get(path, wait_seconds=wait_seconds))

    def livez(self) -> dict[str, Any]:
        """Whether the daemon's loop turns."""
        return self._get("/livez")

    def readyz(self) -> Readiness:
        """Whether every critical pool is at its goal. Not ready is an answer, not an exception."""
        return cast("Readiness", self._get("/readyz", tolerated=(503,)))

    def health(self) -> Health:
        """The aggregate and each pool. Not healthy is an answer, not an exception."""
        return cast("Health", self._get("/health", tolerated=(503,)))

    def metrics(self) -> str:
        """The Prometheus text."""
        status, body, _ = self._exchange("GET", "/metrics")
        if status != 200:
            raise _refusal(status, body)
        return body.decode("utf-8", "replace")

    # Wishes. `target` is a pool ("emails"), an instance ("emails/2"), or None for the whole host. Each
    # returns the operation as accepted; raises `Problem` if the daemon refuses, `NotPermitted` on 403.

    def drain(self, target: str | None = None) -> Operation:
        """Finish what you hold, take nothing new, go, and stay away until resumed."""
        return self._wish("drain", target)

    def resume(self, target: str | None = None) -> Operation:
        """Bring back what was drained or stopped."""
        return self._wish("resume", target)

    def restart(self, target: str | None = None, *, only_failed: bool = False) -> Operation:
        """Replace the processes by new ones within the pool's rollout rules."""
        return self._wish("restart", target, {"only_failed": True} if only_failed else None)

    def stop(self, target: str | None = None, *, urgency: str = "normal") -> Operation:
        """Down, and stay down. `urgency` "now" skips the drain, "kill" goes to the last rung."""
        return self._wish("stop", target, None if urgency == "normal" else {"urgency": urgency})

    def start(self, target: str | None = None) -> Operation:
        """Up again after a stop or a failure, or at once instead of after the backoff."""
        return self._wish("start", target)

    def signal(self, target: str, signal: str, *, everyone: bool = False) -> Operation:
        """Send a signal such as "SIGUSR1" to the main process, or with `everyone` to the whole tree."""
        return self._wish("signal", target, {"signal": signal, "target": "all" if everyone else "main"})

    def shutdown(self, *, urgency: str = "normal", deadline_seconds: float | None = None) -> Operation:
        """Stop every pool in order and end the daemon; the default deadline is the manifest's."""
        body: dict[str, Any] = {} if urgency == "normal" else {"urgency": urgency}
        if deadline_seconds is not None:
            body["deadline_seconds"] = deadline_seconds
        return self._wish("shutdown", None, body or None)

    def abort_operation(self, operation_id: str) -> Operation:
        """Leave a rollout where it is: what is being replaced finishes, nothing further begins."""
        return self._steer(operation_id, "abort")

    def pause_operation(self, operation_id: str) -> Operation:
        """Begin no further replacement until `resume_operation`."""
        return self._steer(operation_id, "pause")

    def resume_operation(self, operation_id: str) -> Operation:
        """Go on with a paused rollout."""
        return self._steer(operation_id, "resume")

    def wait_for_operation(self, operation_id: str, *, timeout_seconds: float | None = None) -> Operation:
        """Wait until an operation is final, or until the time is over; look at its `state` to tell."""
        until = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while True:
            left = LONGEST_WAIT_SECONDS if until is None else max(0.0, until - time.monotonic())
            operation = self.operation(operation_id, wait_seconds=min(left, LONGEST_WAIT_SECONDS))
            if operation.get("state") in FINAL_STATES or left == 0:
                return operation

    # How a request travels.

    def _wish(self, verb: str, target: str | None, body: dict[str, Any] | None = None) -> Operation:
        path = f"/v1/{verb}" if target is None else f"{_path(target)}/{verb}"
        return cast("Operation", self._send("POST", path, body=body or {}))

    def _steer(self, operation_id: str, verb: str) -> Operation:
        return cast(
            "Operation",
            self._send("POST", f"/v1/operations/{_segment(operation_id, 'operation')}/{verb}", body={}),
        )

    def _get(
        self,
        path: str,
        after: int | None = None,
        wait_seconds: float = 0,
        tolerated: tuple[int, ...] = (),
    ) -> dict[str, Any]:
        parameters: dict[str, str] = {}
        if after is not None:
            parameters["after"] = str(after)
        wait = min(max(wait_seconds, 0.0), LONGEST_WAIT_SECONDS)
        if wait > 0:
            parameters["wait"] = f"{wait:g}"
        return self._send("GET", path, parameters=parameters, wait=wait, tolerated=tolerated)

    def _send(
        self,
        method: str,
        path: str,
        *,
        parameters: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
        wait: float = 0.0,
        tolerated: tuple[int, ...] = (),
    ) -> dict[str, Any]:
        status, content, where = self._exchange(method, path, parameters, body, wait)
        if not 200 <= status < 300 and status not in tolerated:
            raise _refusal(status, content)
        answer = _json_object(content)
        if answer is None:
            raise ClientError(f"cannot read the answer of {where}{path}: it is not the JSON of a pitbossd")
        return answer

    def _exchange(
        self,
        method: str,
        path: str,
        parameters: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
        wait: float = 0.0,
    ) -> tuple[int, bytes, str]:
        where = str(self.address)
        timeout = httpx.Timeout(self.timeout_seconds + wait, connect=CONNECT_TIMEOUT_SECONDS)
        try:
            with self._http.stream(method, path, params=parameters, json=body, timeout=timeout) as response:
                content = bytearray()
                for chunk in response.iter_bytes():
                    content += chunk
                    if len(content) > LARGEST_ANSWER_BYTES:
                        raise ClientError(f"cannot read the answer of {where}: it is larger than 64 MiB")
                return response.status_code, bytes(content), where
        except httpx.TimeoutException as error:
            raise Unreachable(
                f"cannot reach pitbossd at {where}: no answer within {self.timeout_seconds + wait:g} s"
            ) from error
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise _connection_failure(where, error) from error


def _path(target: str) -> str:
    """The URL path of a pool or an instance.

    Raises `Problem` for a name that would be another path: ".." as a pool would drain the whole host.
    """
    pool, slash, index = target.partition("/")
    if slash and not (index.isascii() and index.isdigit()):
        raise _unknown("instance", target)
    path = f"/v1/pools/{_segment(pool, 'pool')}"
    return f"{path}/instances/{index}" if slash else path


def _segment(name: str, what: str) -> str:
    """A name as one segment of a path (RFC 3986: "." and ".." are no names there)."""
    if name in {"", ".", ".."}:
        raise _unknown(what, name)
    return quote(name, safe="")


def _unknown(what: str, name: str) -> Problem:
    return Problem(kind=f"unknown-{what}", detail=f'there is no {what} "{name}"', status=404)


def _connection_failure(where: str, error: httpx.TransportError | httpx.InvalidURL) -> ClientError:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, PermissionError):
            return NotPermitted(f"cannot connect to {where}: permission denied")
        cause = cause.__cause__ or cause.__context__
    return Unreachable(f"cannot reach pitbossd at {where}: {error or type(error).__name__}")


def _json_object(content: bytes) -> dict[str, Any] | None:
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _refusal(status: int, content: bytes) -> ClientError:
    """The exception for an answer that is not a success (application/problem+json, RFC 9457)."""
    problem = _json_object(content) or {}

    def text(key: str) -> str | None:
        value = problem.get(key)
        return value if isinstance(value, str) and value else None

    detail = text("detail") or text("title") or f"the daemon answered with HTTP status {status}"
    if status in {401, 403}:
        return NotPermitted(detail, text("hint"))
    return Problem(
        kind=text("kind") or f"http-{status}",
        detail=detail,
        status=status,
        hint=text("hint"),
        request_id=text("request_id"),
    )
