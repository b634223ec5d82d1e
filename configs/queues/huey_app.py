"""The tasks and the storage of `configs/huey.yaml`, so made that neither a stop nor SIGKILL loses a task.

Huey takes a task out of its queue before it is done, and has no word for "it was not". This storage
keeps what it hands out in a second table until the task has ended; an instance that starts takes back
what the generation before it held.
"""

import os
import threading
import time
from typing import Any

import ledger
from huey import Huey
from huey.storage import SqliteStorage

INSTANCE = os.environ.get("PITBOSS_INSTANCE", "?")
GENERATION = int(os.environ.get("PITBOSS_GENERATION", "0"))
IN_HAND = """
CREATE TABLE IF NOT EXISTS in_hand (
    id INTEGER PRIMARY KEY, queue TEXT, data BLOB, priority REAL, instance TEXT, generation INTEGER
)
"""


class KeepingStorage(SqliteStorage):
    """A queue in SQLite that remembers what is in whose hands."""

    ddl = [*SqliteStorage.ddl, IN_HAND]  # noqa: RUF012 - as in the class above
    mine = threading.local()

    def dequeue(self) -> bytes | None:
        """Move the next task from the queue into the hands of this thread, in one transaction."""
        self.release()
        if not self.sql("SELECT 1 FROM task WHERE queue = ? LIMIT 1", (self.name,), results=True):
            return None
        with self.db(commit=True) as cursor:
            cursor.execute(
                "SELECT id, data, priority FROM task WHERE queue = ? ORDER BY priority DESC, id LIMIT 1",
                (self.name,),
            )
            found: tuple[int, bytes, float] | None = cursor.fetchone()
            if found is None:
                return None
            number, data, priority = found
            cursor.execute("DELETE FROM task WHERE id = ?", (number,))
            cursor.execute(
                "INSERT INTO in_hand (queue, data, priority, instance, generation) VALUES (?, ?, ?, ?, ?)",
                (self.name, data, priority, INSTANCE, GENERATION),
            )
            self.mine.row = cursor.lastrowid
            return data

    def release(self) -> None:
        """Forget the task that this thread had: it has ended, or was revoked, or put off."""
        if getattr(self.mine, "row", None) is not None:
            self.sql("DELETE FROM in_hand WHERE id = ?", (self.mine.row,), commit=True)
            self.mine.row = None

    def take_back(self) -> None:
        """Put back what earlier generations of this instance held; none of them can be alive."""
        whose = (self.name, INSTANCE, GENERATION)
        with self.db(commit=True) as cursor:
            cursor.execute(
                "INSERT INTO task (queue, data, priority) SELECT queue, data, priority FROM in_hand "
                "WHERE queue = ? AND instance = ? AND generation <> ?",
                whose,
            )
            cursor.execute("DELETE FROM in_hand WHERE queue = ? AND instance = ? AND generation <> ?", whose)


huey = Huey(
    "queues",
    storage_class=KeepingStorage,
    filename=str(ledger.LEDGER.with_suffix(".huey.db")),
    timeout=ledger.BUSY_SECONDS,
    results=False,
)


@huey.on_startup()
def take_back() -> None:
    """Huey calls this in each of its threads, before the first task."""
    huey.storage.take_back()


@huey.post_execute()
def release(task: Any, value: object, error: Exception | None) -> None:
    """Huey calls this when a task has ended, also if it has failed."""
    huey.storage.release()


@huey.task()
def work(task: int, seconds: float) -> None:
    """Take a while, and be counted."""
    with ledger.counted(task):
        time.sleep(seconds)


def submit(task: int, seconds: float) -> None:
    """Put one task into the queue."""
    work(task, seconds)
