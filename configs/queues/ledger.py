"""What happened to each task of the queue examples, in SQLite: no lost or repeated one can hide.

A task writes two rows, when it begins and when it has ended, with the worker that did it. Rows are
only ever added: a task that was begun twice has two rows that say so.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

LEDGER = Path(os.environ.get("LEDGER") or Path(__file__).resolve().parents[2] / ".demo" / "queues.db")

# Every worker process writes here; each write is short.
BUSY_SECONDS = 30.0

TABLE = """
CREATE TABLE IF NOT EXISTS marks (
    id INTEGER PRIMARY KEY,
    task INTEGER, mark TEXT, instance TEXT, generation INTEGER, pid INTEGER, at REAL
)
"""


def create() -> None:
    """Make the file and its table; does nothing where they exist. Call it before the first task."""
    LEDGER.parent.mkdir(parents=True, exist_ok=True)
    with LEDGER.with_suffix(".lock").open("w") as lock:
        # One at a time: two that change the mode at once are refused, whatever their time-out.
        fcntl.flock(lock, fcntl.LOCK_EX)
        with closing(sqlite3.connect(LEDGER, timeout=BUSY_SECONDS)) as opened:
            # With a write-ahead log nobody who reads keeps a worker waiting.
            opened.execute("PRAGMA journal_mode=WAL")
            opened.execute(TABLE)


def mark(task: int, what: str) -> None:
    """Add one row. It is in the file when this returns, also if the process is killed the moment after."""
    instance = os.environ.get("PITBOSS_INSTANCE", "?")
    generation = int(os.environ.get("PITBOSS_GENERATION", "0"))
    row = (task, what, instance, generation, os.getpid(), time.time())
    with closing(sqlite3.connect(LEDGER, timeout=BUSY_SECONDS)) as opened, opened:
        # What a commit needs to survive a power cut is not needed to survive SIGKILL.
        opened.execute("PRAGMA synchronous=NORMAL")
        opened.execute(
            "INSERT INTO marks (task, mark, instance, generation, pid, at) VALUES (?, ?, ?, ?, ?, ?)",
            row,
        )


@contextmanager
def counted(task: int) -> Iterator[None]:
    """Note that a task begins, and that it has ended unless it is cut short or fails."""
    mark(task, "begin")
    yield
    mark(task, "end")
