"""The job queue of the demo: Huey on SQLite, with tasks that take a few seconds each."""

import time

import record
from huey import SqliteHuey

huey = SqliteHuey("demo", filename=str(record.QUEUE), timeout=record.BUSY_SECONDS, results=False)


@huey.task()
def resize(task: int, seconds: float) -> None:
    """Pretend to resize a picture; what matters is that it takes a while and must not be cut short."""
    record.mark(task, "started")
    time.sleep(seconds)
    record.mark(task, "finished")
