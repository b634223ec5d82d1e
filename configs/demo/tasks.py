"""The job queue of the demo: Huey on SQLite, with tasks that take a few seconds each."""

import time

import record
from huey import SqliteHuey

from supervisor.worker import notify

huey = SqliteHuey("demo", filename=str(record.QUEUE), timeout=record.BUSY_SECONDS, results=False)


@huey.task()
def resize(task: int, seconds: float) -> None:
    """Pretend to resize a picture; what matters is that it takes a while and must not be cut short."""
    # Only so that the status page shows how many tasks a worker holds; it would run as well without.
    with notify.task():
        record.mark(task, "started")
        time.sleep(seconds)
        record.mark(task, "finished")
