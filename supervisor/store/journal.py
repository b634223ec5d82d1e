"""What must outlive the daemon: the goals that operators set, and what became of their operations.

The loop only queues; one thread writes, everything that has gathered in one transaction. What could
not be written stays queued and goes with the next attempt, which comes with the next change, or by
itself. The queue is bounded by what it is about:
the latest goal of each scope, the latest state of each operation. How the file looks is in `database`.
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from supervisor.core.effects import GoalChanged, OperationChanged, Report
from supervisor.core.events import Scope
from supervisor.core.phases import Goal
from supervisor.core.state import Host, Operation
from supervisor.store.database import Database, Entry, Intent, JournalError, OperationRow, reason

__all__ = ["Journal", "JournalError"]

log = logging.getLogger(__name__)

T = TypeVar("T")

QUEUED_OPERATIONS = 1000
"""Operations that wait for a disk that cannot be written; beyond that the oldest is forgotten."""

RETRY_SECONDS = 5.0
"""How long a disk that failed is left alone when nobody asks for anything."""

KEPT_STEPS = 50
"""Steps of an operation that are worth a place in the history: those that did not simply succeed."""


class _NoThreadError(Exception):
    """The thread that writes and reads cannot be started now."""


Key = Scope | str
"""What an entry is about: a scope's goal, or an operation by its id."""


class Journal:
    """An open journal. Everything but `open` is called from the loop."""

    def __init__(self, database: Database, intents: dict[Scope, Goal]) -> None:
        self._database = database
        self._intents = intents
        self._writer = _thread()
        self._queue: dict[Key, Entry] = {}
        self._queued = 0
        self._written = 0
        self._attempt: asyncio.Task[str | None] | None = None
        self._attempt_through = 0
        self._open_operations: set[str] = set()
        self._failing = False
        self._retry: asyncio.TimerHandle | None = None
        self.failures = 0
        """How many attempts to write have failed."""

    @classmethod
    def open(cls, path: Path) -> "Journal":
        """Open or make the journal, before the loop begins: it blocks. Raises `JournalError`.

        A damaged file is moved aside with a warning, and a fresh one is made.
        """
        database = Database.open(path)
        try:
            return cls(database, database.intents())
        except sqlite3.Error as error:
            database.close()
            raise JournalError(f"cannot read the journal {path}: {reason(error)}") from error

    def intents(self) -> dict[Scope, Goal]:
        """The goals that operators had left when the journal was opened."""
        return dict(self._intents)

    def observe(self, reports: Sequence[Report], host: Host, now: float) -> None:
        """Queue what the reports change; an observer of the engine."""
        before = self._queued
        for report in reports:
            if isinstance(report, GoalChanged):
                self._take_goal(report, host)
            elif isinstance(report, OperationChanged):
                self._take_operation(report.operation, host, now)
        if self._queued != before:
            self._begin()

    async def durable(self) -> str | None:
        """Wait until everything queued so far is on disk; the reason if it cannot be written now."""
        wanted = self._queued
        while self._written < wanted:
            attempt = self._begin()
            through = self._attempt_through
            failure = await asyncio.shield(attempt)
            if failure is not None and through >= wanted:
                return failure
        return None

    async def recent_operations(self, limit: int) -> list[Mapping[str, object]]:
        """The latest operations, newest first, in the shape of the API; nothing if the disk fails."""
        try:
            rows = await self._run(self._database.operations, limit)
        except (sqlite3.Error, _NoThreadError) as error:
            log.warning("cannot read operations from the journal: %s; none is shown", reason(error))
            return []
        return [_shape(row) for row in rows]

    async def past_operation(self, operation: str) -> Mapping[str, object] | None:
        """One operation in the shape of the API, if it is in the journal."""
        try:
            row = await self._run(self._database.operation, operation)
        except (sqlite3.Error, _NoThreadError) as error:
            log.warning("cannot read operation %s from the journal: %s", operation, reason(error))
            return None
        return None if row is None else _shape(row)

    async def close(self) -> None:
        """Write what is queued, if that is possible, and close the file."""
        failure = await self.durable()
        self._rest()
        if failure is not None:
            log.error("cannot write %d entries of the journal: %s; they are lost", len(self._queue), failure)
        try:
            await self._run(self._database.close)
        except _NoThreadError:
            # It never wrote anything: to close it takes no time.
            self._database.close()
        self._writer.shutdown(wait=False)

    def _take_goal(self, report: GoalChanged, host: Host) -> None:
        pool = report.scope.pool
        for name in host.pools if pool is None else (pool,):
            scope = Scope(name, report.scope.index)
            if scope.index is None:
                # The goal of a pool replaces those of its instances.
                for key in [key for key in self._queue if isinstance(key, Scope) and key.pool == name]:
                    del self._queue[key]
            self._put(scope, Intent(scope, report.goal, time.time(), report.request_id, report.principal))

    def _take_operation(self, name: str, host: Host, now: float) -> None:
        operation = host.operations.get(name)
        if operation is None:
            return
        # Its beginning and its end are kept; a thousand steps in between would be a thousand writes.
        if operation.state.is_final:
            self._open_operations.discard(name)
        elif name in self._open_operations:
            return
        else:
            self._open_operations.add(name)
        self._put(name, _row(operation, host, now))
        if len(self._queue) > QUEUED_OPERATIONS:
            waiting = [key for key in self._queue if isinstance(key, str)]
            for key in waiting[: len(waiting) - QUEUED_OPERATIONS]:
                del self._queue[key]

    def _put(self, key: Key, entry: Entry) -> None:
        # To the end: the order of the queue is the order of the writes.
        self._queue.pop(key, None)
        self._queue[key] = entry
        self._queued += 1

    def _begin(self) -> asyncio.Task[str | None]:
        if self._attempt is None or self._attempt.done():
            self._attempt_through = self._queued
            self._attempt = asyncio.get_running_loop().create_task(self._write())
        return self._attempt

    async def _write(self) -> str | None:
        """Write until nothing is queued, or until it fails; the reason of the failure."""
        self._rest()
        while self._queue:
            batch, self._queue = self._queue, {}
            self._attempt_through = through = self._queued
            try:
                await self._run(self._database.write, list(batch.values()))
            except (sqlite3.Error, _NoThreadError) as error:
                self._put_back(batch)
                self._fail(reason(error))
                return reason(error)
            except BaseException:
                # Nobody expects it; what was to be written is still not lost.
                self._put_back(batch)
                raise
            self._written = through
        self._recover()
        return None

    def _put_back(self, batch: dict[Key, Entry]) -> None:
        # What was queued meanwhile is newer and comes after.
        newer = self._queue
        self._queue = {key: entry for key, entry in batch.items() if key not in newer} | newer

    def _fail(self, why: str) -> None:
        self.failures += 1
        if not self._failing:
            self._failing = True
            log.error(
                "cannot write the journal: %s; goals are kept in memory, it is tried again every %g s",
                why,
                RETRY_SECONDS,
            )
        self._retry = asyncio.get_running_loop().call_later(RETRY_SECONDS, self._begin)

    def _rest(self) -> None:
        """Nothing is tried again by itself, at least until the next failure."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _recover(self) -> None:
        if self._failing:
            self._failing = False
            log.info("the journal is written again")

    async def _run(self, call: Callable[..., T], *arguments: object) -> T:
        try:
            running = asyncio.get_running_loop().run_in_executor(self._writer, call, *arguments)
        except RuntimeError as error:
            # The executor would keep the call for a thread that comes later, and so would each attempt.
            self._writer = _thread()
            raise _NoThreadError(f"no thread can be started for it: {error}") from error
        return await running


def _thread() -> ThreadPoolExecutor:
    """One thread, which is started by the first call."""
    return ThreadPoolExecutor(1, thread_name_prefix="journal")


def _row(operation: Operation, host: Host, now: float) -> OperationRow:
    offset = time.time() - now
    steps = host.steps.get(operation.id, {}) if operation.state.is_final else {}
    notable = [(str(one), step.state, step.detail) for one, step in steps.items() if step.state != "done"]
    return OperationRow(
        id=operation.id,
        kind=operation.kind,
        target=str(operation.scope),
        state=operation.state.value,
        done=operation.done,
        total=operation.total,
        started_at=operation.started_at + offset,
        finished_at=None if operation.finished_at is None else operation.finished_at + offset,
        request_id=operation.request_id,
        principal=operation.principal,
        message=operation.message,
        steps=tuple(notable[:KEPT_STEPS]),
    )


def _shape(row: OperationRow) -> dict[str, object]:
    return {
        "id": row.id,
        "kind": row.kind,
        "target": row.target,
        "state": row.state,
        "done": row.done,
        "total": row.total,
        "started_at": _text(row.started_at),
        "finished_at": None if row.finished_at is None else _text(row.finished_at),
        "request_id": row.request_id,
        "principal": row.principal,
        "message": row.message,
        "steps": [{"instance": name, "state": state, "detail": detail} for name, state, detail in row.steps],
    }


def _text(moment: float) -> str:
    try:
        then = datetime.fromtimestamp(moment, UTC)
    except (OverflowError, ValueError, OSError):
        then = datetime.fromtimestamp(0, UTC)
    return then.isoformat(timespec="milliseconds").replace("+00:00", "Z")
