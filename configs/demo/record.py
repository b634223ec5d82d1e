"""What happened to each task of the demo, in SQLite, so that a lost one cannot hide.

Every task leaves three marks: queued (by the producer), started and finished (by a job worker). A
task that was queued, and is neither waiting in the queue nor running nor finished, was lost.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

DIRECTORY = Path(__file__).resolve().parents[2] / ".demo"
RECORD = DIRECTORY / "record.db"
QUEUE = DIRECTORY / "queue.db"

# Three workers with two threads each and a producer write here; each write is short.
BUSY_SECONDS = 30.0

TABLE = """
CREATE TABLE IF NOT EXISTS marks (
    task INTEGER, mark TEXT, worker TEXT, pid INTEGER, at REAL,
    PRIMARY KEY (task, mark)
)
"""


@contextmanager
def connection() -> Iterator[sqlite3.Connection]:
    """A connection whose changes are committed at the end of the block."""
    with closing(sqlite3.connect(RECORD, timeout=BUSY_SECONDS)) as opened, opened:
        yield opened


def create() -> None:
    """Make the directory and the table; does nothing where they exist."""
    DIRECTORY.mkdir(exist_ok=True)
    with connection() as opened:
        opened.execute("PRAGMA journal_mode=WAL")
        opened.execute(TABLE)


def next_task() -> int:
    """A number that no task has had."""
    with connection() as opened:
        (highest,) = opened.execute("SELECT coalesce(max(task), 0) FROM marks").fetchone()
        return int(highest) + 1


def mark(task: int, what: str) -> None:
    """Note that a task was queued, started or finished; a second time for one task is an error."""
    worker = (
        f"{os.environ.get('PITBOSS_INSTANCE', '?')} generation {os.environ.get('PITBOSS_GENERATION', '?')}"
    )
    with connection() as opened:
        opened.execute(
            "INSERT INTO marks VALUES (?, ?, ?, ?, ?)", (task, what, worker, os.getpid(), time.time())
        )


def marked(what: str) -> dict[int, int]:
    """All tasks that carry this mark, each with the process that made it."""
    with connection() as opened:
        return dict(opened.execute("SELECT task, pid FROM marks WHERE mark = ?", (what,)))


def finished_by_worker() -> list[tuple[str, int]]:
    """Each worker generation with the number of tasks it finished, the latest one last."""
    with connection() as opened:
        return opened.execute(
            "SELECT worker, count(*) FROM marks WHERE mark = 'finished' GROUP BY worker ORDER BY max(at)"
        ).fetchall()
