"""Clients that loop over a server and check every answer to its last byte.

An answer counts as whole if its status is 200 and its body is what was asked for. Everything else is a
failure, with its reason; a connection that is refused, reset or closed without an answer among them.
"""

import http.client
import itertools
import threading
import time
from collections import Counter
from dataclasses import dataclass

REPEATS = 1000
SLOW_SECONDS = (0.2, 0.35, 0.5)

PATIENCE_SECONDS = 60.0
"""A client that waits longer has been forgotten; a machine that is busy takes seconds."""


@dataclass(frozen=True)
class Failure:
    """One request that was not answered in full."""

    kind: str
    reason: str
    at: float
    after_seconds: float


class Load:
    """So many threads that ask slow questions, and as many that ask quick ones, until it is closed.

    `method` POST is what a proxy may not repeat on another server by itself. With `file`, a path and what
    is there, one more thread fetches that.
    """

    def __init__(
        self,
        port: int,
        *,
        slow: int = 3,
        quick: int = 3,
        method: str = "GET",
        file: tuple[str, bytes] = ("", b""),
    ) -> None:
        self.port = port
        self.method = method
        self.file = file
        self.done: Counter[str] = Counter()
        self.failures: list[Failure] = []
        self._began = time.monotonic()
        self._in_flight = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._loop, args=(kind, number), daemon=True)
            for kind, count in (("slow", slow), ("quick", quick), ("file", 1 if file[0] else 0))
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Ask nothing new, and wait for the last answers."""
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * PATIENCE_SECONDS)
            assert not thread.is_alive(), "a client still waits"

    @property
    def total(self) -> int:
        """How many requests were answered in full."""
        return sum(self.done.values())

    def in_flight(self) -> int:
        """How many slow questions are being answered at this moment: half of the answer has come."""
        return self._in_flight

    def summary(self) -> str:
        """The count, in a line."""
        reasons = Counter(f"{one.kind}: {one.reason}" for one in self.failures)
        listed = "".join(f"\n    {count} x {reason}" for reason, count in reasons.items())
        answers = ", ".join(f"{count} {kind}" for kind, count in sorted(self.done.items())) + " answers"
        return f"{answers}, {len(self.failures)} failures{listed}"

    def _loop(self, kind: str, number: int) -> None:
        waits = itertools.cycle(SLOW_SECONDS if kind == "slow" else (0.0,))
        for turn in itertools.count():
            if self._stop.is_set():
                return
            token, began = f"{kind}-{number}-{turn};", time.monotonic()
            try:
                reason = self._ask(token, next(waits), kind)
            except (OSError, http.client.HTTPException) as error:
                reason = f"{type(error).__name__}: {error}"[:200]
            now = time.monotonic()
            with self._lock:
                if reason is None:
                    self.done[kind] += 1
                else:
                    self.failures.append(Failure(kind, reason, now - self._began, now - began))
            # A quick client that never rests would measure the machine, and not the server.
            self._stop.wait(0.01 if kind != "slow" or reason is not None else 0.0)

    def _ask(self, token: str, seconds: float, kind: str) -> str | None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        counted = 0
        try:
            self._send(connection, kind, f"/?token={token}&seconds={seconds}")
            answer = connection.getresponse()
            if kind == "slow":
                counted = 1
                self._count(counted)
            text = answer.read()
        finally:
            self._count(-counted)
            connection.close()
        if answer.status != 200:
            return f"status {answer.status}"
        wanted = self.file[1] if kind == "file" else token.encode() * REPEATS
        return None if text == wanted else f"{len(text)} bytes of another text"

    def _send(self, connection: http.client.HTTPConnection, kind: str, path: str) -> None:
        headers = {"Connection": "close"}
        if kind == "file":
            connection.request("GET", self.file[0], None, headers)
        else:
            connection.request(self.method, path, b"x" if self.method == "POST" else None, headers)

    def _count(self, change: int) -> None:
        with self._lock:
            self._in_flight += change
