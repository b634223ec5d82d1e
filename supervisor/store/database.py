"""The journal's file: its schema, how it is opened, and the blocking reads and writes.

Everything here blocks, on a disk that may be slow or full; only `journal` calls it, from its writer
thread or before the loop begins. Values that are read are checked: a file can hold anything.

A file that could not be written is closed, and opened by its path for the next attempt: a file system
that turned read-only after an error (ext4(5), errors=remount-ro) has to be unmounted before it can be
written again, which open files forbid.
"""

import contextlib
import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote_from_bytes

from supervisor.core.events import Scope
from supervisor.core.phases import Goal

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1

KEPT_OPERATIONS = 1000
"""Rows of history; some hundred KB, and months of an operator's work."""

_SCHEMA = """
CREATE TABLE intents (
    pool TEXT NOT NULL, instance INTEGER NOT NULL, goal TEXT NOT NULL,
    changed_at REAL NOT NULL, request_id TEXT NOT NULL, principal TEXT NOT NULL,
    PRIMARY KEY (pool, instance)
) WITHOUT ROWID;
CREATE TABLE operations (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, target TEXT NOT NULL, state TEXT NOT NULL,
    done INTEGER NOT NULL, total INTEGER NOT NULL, started_at REAL NOT NULL, finished_at REAL,
    request_id TEXT NOT NULL, principal TEXT NOT NULL, message TEXT NOT NULL, steps TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX operations_by_time ON operations (started_at);
"""

_WHOLE_POOL = -1
"""The `instance` of an intent about a pool and all its instances."""

_FINAL = ("succeeded", "failed", "aborted")

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class JournalError(Exception):
    """The journal cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Intent:
    """A goal to be written. `at` is seconds since 1970, UTC."""

    scope: Scope
    goal: Goal
    at: float
    request_id: str
    principal: str


@dataclass(frozen=True, slots=True)
class OperationRow:
    """An operation to be written, or as it was read. Moments are seconds since 1970, UTC."""

    id: str
    kind: str
    target: str
    state: str
    done: int
    total: int
    started_at: float
    finished_at: float | None
    request_id: str
    principal: str
    message: str
    steps: tuple[tuple[str, str, str], ...] = ()


Entry = Intent | OperationRow


class Database:
    """One journal file, open except after a failure."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = connection

    @classmethod
    def open(cls, path: Path) -> "Database":
        """Open the file, or make it; a damaged one is moved aside. Raises `JournalError`.

        Operations that had not ended are marked as aborted: the daemon that ran them is gone.
        """
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return cls._connect(path)
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
                raise JournalError(f"cannot open the journal {path}: {reason(error)}") from error
            _move_aside(path, reason(error))
        except OSError as error:
            raise JournalError(f"cannot open the journal {path}: {reason(error)}") from error
        try:
            return cls._connect(path)
        except (sqlite3.Error, OSError) as error:
            raise JournalError(f"cannot make the journal {path}: {reason(error)}") from error

    @classmethod
    def _connect(cls, path: Path) -> "Database":
        # SQLite gives its side files the mode of the main one, so that one must be tight before.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
        connection = _connect(path)
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
        return cls(path, connection)

    def intents(self) -> dict[Scope, Goal]:
        """The goals that operators left."""
        found: dict[Scope, Goal] = {}
        for pool, instance, goal in self._opened().execute("SELECT pool, instance, goal FROM intents"):
            with contextlib.suppress(ValueError):
                found[Scope(pool, None if instance == _WHOLE_POOL else instance)] = Goal(goal)
        return found

    def operations(self, limit: int) -> list[OperationRow]:
        """The latest operations, newest first, with their steps."""
        rows = self._opened().execute(
            "SELECT * FROM operations ORDER BY started_at DESC, id DESC LIMIT ?", (limit,)
        )
        return [_operation(row) for row in rows]

    def operation(self, wanted: str) -> OperationRow | None:
        """One operation."""
        row = self._opened().execute("SELECT * FROM operations WHERE id = ?", (wanted,)).fetchone()
        return None if row is None else _operation(row)

    def write(self, entries: Iterable[Entry]) -> None:
        """Write everything or nothing, and return when it is on the disk; raises `sqlite3.Error`."""
        try:
            connection = self._opened()
            connection.execute("BEGIN IMMEDIATE")
            for entry in entries:
                if isinstance(entry, Intent):
                    _write_intent(connection, entry)
                else:
                    _write_operation(connection, entry)
            connection.execute("COMMIT")
        except BaseException:
            # Which rolls back what was begun.
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _opened(self) -> sqlite3.Connection:
        """The connection, made anew after a failure; never a new file, the mount below it may be missing."""
        if self._connection is None:
            connection = _connect(self._path, "?mode=rw")
            try:
                connection.execute("PRAGMA synchronous = FULL")
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection


def _connect(path: Path, query: str = "") -> sqlite3.Connection:
    # Not Path.as_uri(): from Python 3.14 on it brings an HTTP client, with TLS and a reader of mail.
    uri = f"file://{quote_from_bytes(os.fsencode(path.absolute()))}{query}"
    return sqlite3.connect(uri, timeout=1.0, isolation_level=None, check_same_thread=False, uri=True)


def _write_intent(connection: sqlite3.Connection, intent: Intent) -> None:
    scope = intent.scope
    if scope.index is None:
        connection.execute("DELETE FROM intents WHERE pool = ?", (scope.pool,))
    connection.execute(
        "INSERT OR REPLACE INTO intents VALUES (?, ?, ?, ?, ?, ?)",
        (
            scope.pool,
            _WHOLE_POOL if scope.index is None else scope.index,
            intent.goal.value,
            intent.at,
            intent.request_id,
            intent.principal,
        ),
    )


def _write_operation(connection: sqlite3.Connection, row: OperationRow) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO operations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            row.id,
            row.kind,
            row.target,
            row.state,
            row.done,
            row.total,
            row.started_at,
            row.finished_at,
            row.request_id,
            row.principal,
            row.message,
            json.dumps(row.steps),
        ),
    )
    _prune(connection)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise JournalError(
            f"cannot use the journal {path}: it is of version {version}, newer than this pitboss "
            f"understands ({SCHEMA_VERSION}); install the newer version again or move the file away"
        )
    connection.execute("PRAGMA journal_mode = WAL")
    # An intent that was acknowledged survives a power failure, not only a crash.
    connection.execute("PRAGMA synchronous = FULL")
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        error = sqlite3.DatabaseError(str(verdict))
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error
    connection.execute("BEGIN IMMEDIATE")
    if version == 0:
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute(
        "UPDATE operations SET state = 'aborted', message = 'the daemon was restarted', finished_at = ? "
        "WHERE state NOT IN (?, ?, ?)",
        (time.time(), *_FINAL),
    )
    _prune(connection)
    connection.execute("COMMIT")


def _prune(connection: sqlite3.Connection) -> None:
    excess = connection.execute("SELECT count(*) FROM operations").fetchone()[0] - KEPT_OPERATIONS
    if excess > 0:
        connection.execute(
            "DELETE FROM operations WHERE id IN (SELECT id FROM operations ORDER BY started_at, id LIMIT ?)",
            (excess,),
        )


def _move_aside(path: Path, why: str) -> None:
    aside = path.with_name(f"{path.name}.corrupt-{int(time.time())}")
    try:
        os.rename(path, aside)
        for suffix in ("-wal", "-shm"):
            # A log that belongs to the damaged file would be replayed into the fresh one.
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{path}{suffix}", f"{aside}{suffix}")
    except OSError as error:
        raise JournalError(
            f"cannot use the journal {path}: it is damaged ({why}) and cannot be moved aside: {reason(error)}"
        ) from error
    log.warning(
        "cannot read the journal %s: %s; it is kept as %s and a fresh one is made: "
        "goals of operators and the history of operations begin anew",
        path,
        why,
        aside,
    )


def _operation(row: tuple[object, ...]) -> OperationRow:
    texts = [str(row[index]) for index in (0, 1, 2, 3, 8, 9, 10)]
    done, total, started_at, finished_at, raw = row[4], row[5], row[6], row[7], row[11]
    return OperationRow(
        id=texts[0],
        kind=texts[1],
        target=texts[2],
        state=texts[3],
        done=done if isinstance(done, int) else 0,
        total=total if isinstance(total, int) else 0,
        started_at=float(started_at) if isinstance(started_at, int | float) else 0.0,
        finished_at=float(finished_at) if isinstance(finished_at, int | float) else None,
        request_id=texts[4],
        principal=texts[5],
        message=texts[6],
        steps=_steps(raw),
    )


def _steps(raw: object) -> tuple[tuple[str, str, str], ...]:
    try:
        return tuple((str(name), str(state), str(detail)) for name, state, detail in json.loads(str(raw)))
    except (ValueError, TypeError):
        return ()


def reason(error: Exception) -> str:
    """The error in a few words."""
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error)).lower()
