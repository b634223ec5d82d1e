"""A stand-in for pitbossd on a real unix socket: what it answers is scripted, and what it was asked is kept.

A `Stub` holds the present status and operations. A test changes them between requests, or scripts a
wish: `on["drain emails"]` is a list of moments, each a function that changes the stub; the next moment
comes when somebody long-polls for it, so nothing depends on how fast a machine is.
"""

import json
import socket
import socketserver
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from supervisor.cli.ctl.feed import THREAD_NAME
from tests.waiting import eventually

Moment = Callable[["Stub"], None]


def instance(name: str, **changes: Any) -> dict[str, Any]:
    """An instance that is up and ready, with these changes."""
    number = int(name.partition("/")[2])
    return {
        "name": name,
        "phase": "running",
        "goal": "up",
        "ready": True,
        "pid": 4100 + number,
        "generation": 1,
        "since_seconds": 192.0,
        "uptime_seconds": 193.0,
        "stage": None,
        "stage_signal": None,
        "stage_target": None,
        "stage_since_seconds": None,
        "deadline_seconds": None,
        "waiting_for": None,
        "unready_reason": None,
        "restarts": 0,
        "failures": 0,
        "status_text": None,
        "in_flight": None,
        "queue_depth": None,
        "last_exit": None,
    } | changes


def last_exit(detail: str, exit_class: str = "failure", **changes: Any) -> dict[str, Any]:
    """How a generation ended."""
    return {
        "generation": 1,
        "class": exit_class,
        "detail": detail,
        "rung": None,
        "ago_seconds": 4.0,
        "uptime_seconds": 0.4,
        "leftovers": 0,
        "last_lines": [],
    } | changes


def pool(name: str, instances: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    """A pool of these instances; healthy unless the changes say otherwise."""
    return {
        "name": name,
        "kind": "service",
        "critical": True,
        "goal": "up",
        "status": "healthy",
        "reasons": [],
        "wanted": sum(one["goal"] == "up" for one in instances),
        "ready": sum(one["ready"] for one in instances),
        "instances_declared": len(instances),
        "depends_on": {},
        "rollout": None,
        "instances": instances,
    } | changes


def host(*pools: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A host with these pools; ready unless the changes say otherwise."""
    return {
        "name": "shop",
        "version": "0.1.0",
        "revision": 41,
        "ready": True,
        "goal": "up",
        "reasons": [],
        "uptime_seconds": 273_600.0,
        "shutdown": None,
        "pools": list(pools),
    } | changes


class Stub:
    """The scripted daemon: start it as a context manager, and talk to `socket`."""

    def __init__(self, status: dict[str, Any] | None = None) -> None:
        self.status = status or host(pool("emails", [instance("emails/0"), instance("emails/1")]))
        self.operations: dict[str, dict[str, Any]] = {}
        self.on: dict[str, list[Moment]] = {}
        self.refusals: dict[str, tuple[int, dict[str, Any]]] = {}
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        self.headers: list[dict[str, str]] = []
        self.script: list[Moment] = []
        self.changed = threading.Condition()
        self.folder = tempfile.TemporaryDirectory(prefix="ctl", dir="/tmp")
        self.socket = str(Path(self.folder.name) / "control.sock")
        self._closing = False
        self._closed = False
        self._server = _Server(self.socket, _Handler)
        self._server.stub = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self.changed:
            self._closing = True
            self.changed.notify_all()
        # Whoever still asks from this process must be through before the connections break.
        eventually(lambda: all(thread.name != THREAD_NAME for thread in threading.enumerate()))
        self.close()
        self.folder.cleanup()

    def close(self) -> None:
        """Stop answering; the socket's file stays behind, as after a crash."""
        if self._closed:
            return
        self._closed = True
        with self.changed:
            self._closing = True
            self.changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._server.hang_up()
        self._thread.join()

    def touch(self) -> None:
        """Say that something changed."""
        with self.changed:
            self.status["revision"] += 1
            self.changed.notify_all()

    def instance(self, name: str) -> dict[str, Any]:
        """The instance of that name, to be changed in place."""
        return next(one for each in self.status["pools"] for one in each["instances"] if one["name"] == name)

    def pool(self, name: str) -> dict[str, Any]:
        """The pool of that name, to be changed in place."""
        return next(each for each in self.status["pools"] if each["name"] == name)

    def operation(self, identity: str, **changes: Any) -> dict[str, Any]:
        """Change an operation in place."""
        self.operations[identity].update(changes)
        return self.operations[identity]

    def play(self) -> bool:
        """The next moment of the script; False at its end."""
        with self.changed:
            if not self.script:
                return False
            moment = self.script.pop(0)
            moment(self)
            self.touch()
            return True

    def wait_beyond(self, after: int, wait: float) -> None:
        """A long poll: plays the next moment if there is one, else waits for a change."""
        with self.changed:
            if self.status["revision"] <= after and not self.play():
                self.changed.wait_for(lambda: self._closing or self.status["revision"] > after, wait)

    def wait_final(self, identity: str, wait: float) -> None:
        """A wait for the end of an operation."""
        with self.changed:
            self.changed.wait_for(
                lambda: (
                    self._closing or self.operations[identity]["state"] in {"succeeded", "failed", "aborted"}
                ),
                wait,
            )

    def accept(self, verb: str, target: str, body: dict[str, Any]) -> dict[str, Any]:
        """Take a wish: an operation over the instances of its target, and its script."""
        identity = f"op-{len(self.operations) + 1}"
        names = [
            one["name"]
            for each in self.status["pools"]
            for one in each["instances"]
            if target in {"host", each["name"], one["name"]}
        ]
        self.operations[identity] = {
            "id": identity,
            "kind": verb,
            "target": target,
            "state": "running",
            "done": 0,
            "total": len(names),
            "started_at": "2030-01-02T03:04:05Z",
            "finished_at": None,
            "request_id": "req-1",
            "principal": "uid:1000",
            "message": "",
            "steps": [{"instance": name, "state": "waiting", "detail": ""} for name in names],
        }
        moments = self.on.get(f"{verb} {target}", [succeed(identity)])
        self.script.extend(moments)
        return self.operations[identity]


def succeed(identity: str, detail: str = "done") -> Moment:
    """The moment at which every step of an operation is done."""

    def moment(stub: Stub) -> None:
        operation = stub.operations[identity]
        steps = [{**step, "state": "done", "detail": detail} for step in operation["steps"]]
        finished = "2030-01-02T03:04:17Z"
        operation.update(state="succeeded", done=operation["total"], steps=steps, finished_at=finished)

    return moment


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False
    stub: Stub

    def __init__(self, path: str, handler: type[BaseHTTPRequestHandler]) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(path, handler)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer on one connection, and remember it while it is open."""
        self._open.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._open.discard(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that breaks is part of the story."""

    def hang_up(self) -> None:
        """Break every open connection, as the end of a process does."""
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def address_string(self) -> str:
        return "local"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        stub = self.server.stub
        split = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(split.query).items()}
        parts = [unquote(part) for part in split.path.strip("/").split("/")]
        stub.asked.append(("GET", self.path, {}))
        stub.headers.append(dict(self.headers.items()))
        if self._refused("GET", split.path):
            return
        wait = min(float(query.get("wait", 0)), 5.0)
        if parts[:2] == ["v1", "operations"] and len(parts) == 3:
            if parts[2] not in stub.operations:
                self._problem(404, "unknown-operation", f"there is no operation {parts[2]}")
                return
            if wait:
                stub.wait_final(parts[2], wait)
            self._answer(200, stub.operations[parts[2]])
            return
        if "after" in query:
            stub.wait_beyond(int(query["after"]), wait)
        self._read(parts)

    def _read(self, parts: list[str]) -> None:
        stub = self.server.stub
        with stub.changed:
            status = json.loads(json.dumps(stub.status))
            operations = [
                {key: value for key, value in one.items() if key != "steps"}
                for one in stub.operations.values()
            ]
        revision = status["revision"]
        match parts:
            case ["v1", "status"]:
                self._answer(200, status)
            case ["v1", "operations"]:
                self._answer(200, {"operations": operations[::-1]})
            case ["v1", "pools"]:
                self._answer(200, {"revision": revision, "pools": status["pools"]})
            case ["v1", "pools", name, *rest]:
                found = next((each for each in status["pools"] if each["name"] == name), None)
                if found is None:
                    self._problem(404, "unknown-pool", f"there is no pool {name}")
                elif not rest:
                    self._answer(200, {**found, "revision": revision})
                else:
                    one = next(
                        (one for one in found["instances"] if one["name"] == f"{name}/{rest[1]}"), None
                    )
                    if one is None:
                        self._problem(404, "unknown-instance", f"there is no instance {name}/{rest[1]}")
                    else:
                        self._answer(200, {**one, "revision": revision})
            case ["readyz"] | ["health"]:
                ready = status["ready"]
                self._answer(
                    200 if ready else 503, {"ready": ready, "reasons": status["reasons"], "pools": []}
                )
            case ["livez"]:
                self._answer(200, {"status": "ok"})
            case ["metrics"]:
                self._send(200, b"pitboss_up 1\n", "text/plain")
            case _:
                self._problem(404, "not-found", "there is no such route")

    def do_POST(self) -> None:
        stub = self.server.stub
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        stub.asked.append(("POST", self.path, body))
        stub.headers.append(dict(self.headers.items()))
        if self._refused("POST", self.path):
            return
        parts = [unquote(part) for part in self.path.strip("/").split("/")]
        known = {each["name"] for each in stub.status["pools"]}
        with stub.changed:
            match parts:
                case ["v1", "operations", identity, verb]:
                    state = {"abort": "aborted", "pause": "paused", "resume": "running"}[verb]
                    self._answer(202, stub.operation(identity, state=state))
                case ["v1", "pools", name, *_] if name not in known:
                    self._problem(404, "unknown-pool", f"there is no pool {name}")
                case ["v1", "pools", name, verb]:
                    self._answer(202, stub.accept(verb, name, body))
                case ["v1", "pools", name, "instances", index, verb]:
                    self._answer(202, stub.accept(verb, f"{name}/{index}", body))
                case ["v1", verb]:
                    self._answer(202, stub.accept(verb, "host", body))
                case _:
                    self._problem(404, "not-found", "there is no such route")

    def _refused(self, method: str, path: str) -> bool:
        refusal = self.server.stub.refusals.get(f"{method} {path}")
        if refusal is None:
            return False
        status, problem = refusal
        self._send(status, json.dumps(problem).encode(), "application/problem+json")
        return True

    def _problem(self, status: int, kind: str, detail: str) -> None:
        problem = {"type": "about:blank", "title": kind, "status": status, "detail": detail, "kind": kind}
        self._send(status, json.dumps(problem).encode(), "application/problem+json")

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        self._send(status, json.dumps(body).encode(), "application/json")

    def _send(self, status: int, body: bytes, kind: str) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True
