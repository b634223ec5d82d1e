"""News from the daemon while somebody waits: long polls in the background, one queue to read from.

One thread follows the status, another one the operations until each is final; the reader only waits
for the queue, so that a display can move and Ctrl-C works at once. A daemon that goes away for a
moment (an upgrade, a crash and a new start) is asked again, ever more rarely, until the reader gives up.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from supervisor.cli.ctl.view import HostView, OperationView, host_view, operation_view
from supervisor.client.errors import ClientError, Unreachable

if TYPE_CHECKING:
    from supervisor.client.client import Client

POLL_SECONDS = 30.0
"""How long one long poll may be held; it also bounds how late a connection found dead is."""
PAUSE_SECONDS = 0.1
"""The least time between two polls: a thousand instances in motion must not be asked for at full speed."""
LONGEST_RETRY_SECONDS = 2.0
THREAD_NAME = "pitboss-feed"


@dataclass(frozen=True, slots=True)
class HostNews:
    """The host as of now."""

    host: HostView


@dataclass(frozen=True, slots=True)
class OperationNews:
    """An operation as of now; `answer` is what the daemon sent."""

    operation: OperationView
    answer: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LostNews:
    """The daemon does not answer; it is being asked again."""

    error: ClientError


@dataclass(frozen=True, slots=True)
class RefusedNews:
    """The daemon answered that it will not tell: asking again is pointless."""

    error: ClientError


News = HostNews | OperationNews | LostNews | RefusedNews


class Feed:
    """Follows the host, or one `pool` of it, and some operations."""

    def __init__(
        self, connect: "Callable[[], Client]", *, pool: str | None = None, operations: Sequence[str] = ()
    ) -> None:
        self._connect = connect
        self._pool = pool
        self._unfinished = list(operations)
        self._news: queue.SimpleQueue[News] = queue.SimpleQueue()
        self._over = threading.Event()

    def start(self) -> None:
        """Begin to follow. The threads end with the process or at `stop`; nobody needs to wait for them."""
        jobs: list[Callable[[Client], None]] = [self._follow_host]
        if self._unfinished:
            jobs.append(self._follow_operations)
        for job in jobs:
            threading.Thread(target=self._run, args=(job,), name=THREAD_NAME, daemon=True).start()

    def stop(self) -> None:
        """Ask nothing more."""
        self._over.set()

    def next(self, seconds: float | None) -> News | None:
        """The next news, or None if there is none within `seconds` (None: wait for it)."""
        try:
            return self._news.get(timeout=seconds)
        except queue.Empty:
            return None

    def _run(self, job: "Callable[[Client], None]") -> None:
        delay = PAUSE_SECONDS
        while not self._over.is_set():
            try:
                with self._connect() as client:
                    delay = PAUSE_SECONDS
                    job(client)
                return
            except Unreachable as error:
                self._news.put(LostNews(error))
            except ClientError as error:
                self._news.put(RefusedNews(error))
                return
            self._over.wait(delay)
            delay = min(2 * delay, LONGEST_RETRY_SECONDS)

    def _follow_host(self, client: "Client") -> None:
        after: int | None = None
        while not self._over.is_set():
            host = self._ask(client, after)
            if host.revision != after:
                self._news.put(HostNews(host))
                after = host.revision
                for name in list(self._unfinished):
                    self._tell(client.operation(name))
            self._over.wait(PAUSE_SECONDS)

    def _ask(self, client: "Client", after: int | None) -> HostView:
        wait = 0.0 if after is None else POLL_SECONDS
        if self._pool is None:
            return host_view(client.status(after=after, wait_seconds=wait))
        answer = client.pool(self._pool, after=after, wait_seconds=wait)
        return replace(host_view({"pools": [answer]}), revision=host_view(answer).revision)

    def _follow_operations(self, client: "Client") -> None:
        for name in list(self._unfinished):
            while not self._over.is_set():
                answer = client.operation(name, wait_seconds=POLL_SECONDS)
                if operation_view(answer).final:
                    self._tell_last(client)
                    self._tell(answer)
                    break
                self._tell(answer)
                self._over.wait(PAUSE_SECONDS)

    def _tell_last(self, client: "Client") -> None:
        """Tell the host once more before the end of an operation, so that no last change goes untold."""
        # A daemon that is asked to end may be gone between the two answers.
        with suppress(Unreachable):
            self._news.put(HostNews(self._ask(client, None)))

    def _tell(self, answer: Any) -> None:
        operation = operation_view(answer)
        if operation.final and operation.id in self._unfinished:
            self._unfinished.remove(operation.id)
        self._news.put(OperationNews(operation, dict(answer)))
