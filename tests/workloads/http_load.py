"""Clients that loop over a server and check every answer to its last byte.

An answer counts as whole if its status is 200 and its body is what was asked for. Everything else is a
failure, with its reason; a connection that is refused, reset or closed without an answer among them.
"""

import http.client
import itertools
import threading
from collections import Counter
from dataclasses import dataclass

REPEATS = 1000
SLOW_SECONDS = (0.2, 0.35, 0.5)

PATIENCE_SECONDS = 60.0
"""A client that waits longer has been forgotten; a machine that is busy takes seconds."""


@dataclass(frozen=True)
class Failure:
    """One request that was not answered in full. `cut` is False where not a byte of an answer came."""

    kind: str
    reason: str
    cut: bool


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
            failure = self._ask(kind, f"{kind}-{number}-{turn};", next(waits))
            with self._lock:
                if failure is None:
                    self.done[kind] += 1
                else:
                    self.failures.append(failure)
            # A quick client that never rests would measure the machine, and not the server.
            self._stop.wait(0.0 if kind == "slow" and failure is None else 0.01)

    def _ask(self, kind: str, token: str, seconds: float) -> Failure | None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        begun, counted = False, 0
        try:
            self._send(connection, kind, f"/?token={token}&seconds={seconds}")
            answer = connection.getresponse()
            begun = True
            if kind == "slow":
                counted = 1
                self._count(counted)
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            return Failure(kind, f"{type(error).__name__}: {error}"[:200], begun)
        finally:
            self._count(-counted)
            connection.close()
        if answer.status != 200:
            return Failure(kind, f"status {answer.status}", cut=True)
        wanted = self.file[1] if kind == "file" else token.encode() * REPEATS
        return None if text == wanted else Failure(kind, f"{len(text)} bytes of another text", cut=True)

    def _send(self, connection: http.client.HTTPConnection, kind: str, path: str) -> None:
        headers = {"Connection": "close"}
        if kind == "file":
            connection.request("GET", self.file[0], None, headers)
        else:
            connection.request(self.method, path, b"x" if self.method == "POST" else None, headers)

    def _count(self, change: int) -> None:
        with self._lock:
            self._in_flight += change
