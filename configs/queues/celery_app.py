"""The application of `configs/celery.yaml`, so set that neither a stop nor SIGKILL loses a task."""

import os
import time

import ledger
from celery import Celery
from celery.signals import worker_ready
from finish_first import FinishFirst

from supervisor.worker import notify

# Longer than the longest task, or Redis hands out a task that is still being done; as short as that
# allows, because this is how long a task waits after its worker was killed. Celery's own is an hour.
VISIBILITY_SECONDS = 15

app = Celery("queues", broker=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"))
app.conf.update(
    task_acks_late=not os.environ.get(
        "ACKNOWLEDGE_EARLY"
    ),  # a task is off the broker when it is done, not before
    task_reject_on_worker_lost=True,  # nor when the process that did it has died
    worker_prefetch_multiplier=1,  # hold no more than what is being done
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
    broker_transport_options={
        "visibility_timeout": VISIBILITY_SECONDS,
        # How often the workers look for tasks that are overdue, in seconds; as it is, every 100 of them.
        "unacked_restore_interval": 2,
        "unacked_restore_throttle": 1,
    },
)
app.steps["consumer"].add(FinishFirst)  # SIGTERM waits for the tasks in hand


@worker_ready.connect
def say_ready(**_: object) -> None:
    """Tell the supervisor when this worker can take tasks; without a supervisor it does nothing."""
    notify.ready()


@app.task
def work(task: int, seconds: float) -> None:
    """Take a while, and be counted."""
    with ledger.counted(task):
        time.sleep(seconds)


def submit(task: int, seconds: float) -> None:
    """Put one task into the queue."""
    work.delay(task, seconds)
